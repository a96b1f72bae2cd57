"""The commands under attack: their arguments in a small workspace, what they write, what they read."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.soak.child import run

RUN, SHOT = "runs/demo7-base-fold1-seed0", "runs/none-to-demo7-zeroshot-clip-fold1-seed0"
UNREAD = (".verified.json", ".lock")  # notes: not part of the output


@dataclass(frozen=True)
class Command:
    """`args` with {root}; `writes`: outputs below the root, removed before it runs; `slow`: it takes many seconds."""

    args: str
    writes: tuple[str, ...]
    slow: bool = False


FRAMES = "--crop none --frames 4 --size 48 --shard-size 4 --workers {workers}"
TINY = "--clip tiny --clip-weights random --device cpu"
COMMANDS = {
    "synth": Command("synth --clips 35 --workers {workers}", ("demo7/source",), slow=True),
    "preprocess": Command(f"preprocess --dataset demo7 {FRAMES}", ("demo7/frames", "demo7/validation.json")),
    "face-analyze": Command("face-analyze --backend lite --workers {workers} --max-failed 1", ("demo7/faces",)),
    "caption": Command("caption --workers {workers} --max-failed 1", ("demo7/captions",)),
    "refine": Command("refine --report --workers {workers} --max-failed 1", ("demo7/refined",)),
    "pack": Command("pack --workers {workers} --max-failed 1", ("demo7/packed",)),
    "train": Command(f"train --variant base {TINY} --epochs 1 --batch-size 8 --save-every 2", (RUN,), slow=True),
    "eval": Command("eval {root}/" + RUN + " --device cpu", (f"{RUN}/eval",)),
    "zeroshot": Command(
        f"zeroshot --test demo7 {TINY}", tuple(SHOT.replace("fold1", f"fold{n}") for n in range(1, 6)), True
    ),
    "predict": Command(
        "predict {root}/demo7/source/clips/demo7-00000.mp4 --checkpoint {root}/" + RUN + " --out {root}/predicted.csv"
        " --device cpu",
        ("predicted.csv",),
    ),
    "report": Command("report --clips 1 --out {root}/report.html", ("report.html",)),
    "inspect": Command("inspect {root}/demo7/packed --sheet {root}/sheet.png", ("sheet.png",)),
}


def arguments(name: str, root: Path, workers: int = 1) -> list[str]:
    """The command line of a command on a workspace."""
    words = COMMANDS[name].args.format(root=root, workers=workers).split()
    return [words[0], "--root", str(root), *words[1:]]


def build(root: Path) -> None:
    """Run all commands, so that the workspace is complete."""
    for name in COMMANDS:
        outcome = run(arguments(name, root, 2 if name == "synth" else 1))
        assert outcome.code == 0, f"{name}: {outcome}"


def without_output(reference: Path, root: Path, name: str) -> Path:
    """A copy of the complete workspace, without what the command writes."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(reference, root)
    for output in COMMANDS[name].writes:
        path = root / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return root


def content(root: Path, name: str) -> dict[str, bytes]:
    """What the command wrote, without times that the clock gives. All workspaces lie at one path: outputs name it."""
    found = {}
    for output in COMMANDS[name].writes:
        place = root / output
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and path.name not in UNREAD:
                found[str(path.relative_to(root))] = _timeless(path)
    return found


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    if path.name == "provenance.json":  # times, host and command line
        return b""
    if path.name == "metrics.jsonl":
        rows = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in data.splitlines()]
        return json.dumps(rows).encode()
    if path.suffix == ".json":  # damage to the spaces between values changes nothing
        try:
            return json.dumps(json.loads(data)).encode()
        except (ValueError, RecursionError):
            return data
    return data
