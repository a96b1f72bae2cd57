"""The commands under attack: their arguments in a small workspace, what they read, what they write."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.soak.child import learn

RUN, SHOT = "runs/list-base-fold1-seed0", "runs/none-to-list-zeroshot-clip-fold1-seed0"
UNREAD = (".verified.json", ".lock")  # notes: not part of the output
CLASSES = ("happiness", "anger")


@dataclass(frozen=True)
class Command:
    """`args` with {root}; `reads` and `writes`: below the root; `slow`: it takes many seconds."""

    args: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    slow: bool = False


HERE = "--dataset list"
FRAMES = "--crop lite --frames 4 --size 48 --shard-size 2"
TINY = "--clip tiny --clip-weights random --device cpu"
WORKERS = "--workers {workers}"
COMMANDS = {
    "synth": Command(f"synth --clips 35 {WORKERS}", (), ("demo7/source",), slow=True),
    "preprocess": Command(
        f"preprocess --dataset csv --source {{root}}/list.csv {FRAMES} {WORKERS}",
        ("list.csv", "videos"),
        ("list/frames", "list/validation.json"),
    ),
    "face-analyze": Command(
        f"face-analyze {HERE} --backend lite {WORKERS} --max-failed 1", ("list/frames",), ("list/faces",)
    ),
    "caption": Command(f"caption {HERE} {WORKERS} --max-failed 1", ("list/frames", "list/faces"), ("list/captions",)),
    "refine": Command(f"refine {HERE} {WORKERS} --max-failed 1", ("list/captions",), ("list/refined",)),
    "pack": Command(
        f"pack {HERE} {WORKERS} --max-failed 1", ("list/frames", "list/faces", "list/refined"), ("list/packed",)
    ),
    "train": Command(
        f"train {HERE} --variant base {TINY} --epochs 1 --batch-size 2 --save-every 1", ("list/packed",), (RUN,)
    ),
    "eval": Command(f"eval {HERE} {{root}}/{RUN} --device cpu", ("list/packed", RUN), (f"{RUN}/eval",)),
    "zeroshot": Command(f"zeroshot --test list {TINY}", ("list/packed",), (SHOT,)),
    "predict": Command(
        f"predict {{root}}/videos/0.mp4 --checkpoint {{root}}/{RUN} --out {{root}}/predicted.csv --device cpu",
        ("videos/0.mp4", RUN),
        ("predicted.csv",),
    ),
    "report": Command(
        "report --clips 1 --out {root}/report.html", (RUN, SHOT, "list/packed", "list/refined"), ("report.html",)
    ),
    "inspect": Command(
        "inspect {root}/list/packed --verify --sheet {root}/sheet.png", ("list/packed",), ("sheet.png",)
    ),
    "score": Command(f"eval --predictions {{root}}/{RUN}/eval/predictions.csv", (f"{RUN}/eval/predictions.csv",), ()),
    "probe": Command(
        f"refine {HERE} --report {WORKERS} --max-failed 1 --out {{root}}/probed", ("list/captions",), ("probed",)
    ),
    "convert": Command(
        "convert {root}/clip.pt {root}/clip.safetensors --from openai --overwrite", ("clip.pt",), ("clip.safetensors",)
    ),
}
QUICK = tuple(name for name in COMMANDS if not COMMANDS[name].slow)


def arguments(name: str, root: Path, workers: int = 1) -> list[str]:
    """The command line of a command on a workspace."""
    words = COMMANDS[name].args.format(root=root, workers=workers).split()
    return [words[0], "--root", str(root), *words[1:]]


def build(root: Path, names: Collection[str] = tuple(COMMANDS)) -> dict[str, int]:
    """Write what users bring, run the commands, so that the workspace is complete: {command: number of its writes}."""
    write_sources(root)
    if "convert" in names:
        write_checkpoint(root / "clip.pt")
    return {name: learn(arguments(name, root)) for name in names}


def write_sources(root: Path) -> None:
    """Eight rendered clips of two classes with a list, three people to train on and one to test."""
    from fclip.data.media.video import write_video
    from fclip.synth.clips import render_clip, sample_clip

    (root / "videos").mkdir(parents=True)
    with open(root / "list.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "part", "identity"))
        for number in range(8):
            person, label = number // 2, CLASSES[number % 2]
            clip = render_clip(sample_clip(label, person, number, CLASSES), 96, 6)
            write_video(root / f"videos/{number}.mp4", clip.frames, clip.fps, 30)
            writer.writerow((f"videos/{number}.mp4", label, "test" if person == 3 else "train", person))


def write_checkpoint(path: Path) -> None:
    """A small CLIP as others save theirs, pickled."""
    import torch

    from fclip.models.backbone.clip import load_clip

    torch.save(load_clip("tiny", "random").model.state_dict(), path)


def without_output(reference: Path, root: Path, name: str) -> None:
    """A copy of the complete workspace, without what the command writes, or others that it neither reads."""
    shutil.rmtree(root, ignore_errors=True)
    foreign = shutil.ignore_patterns(
        *(() if name == "synth" else ("demo7",)), *(("clip.*",) if name != "convert" else ())
    )
    shutil.copytree(reference, root, ignore=foreign)
    for output in COMMANDS[name].writes:
        path = root / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def files_below(root: Path, places: Collection[str]) -> list[Path]:
    """The files at some places of a workspace, sorted."""
    found = {path for place in places for path in [root / place, *(root / place).rglob("*")] if path.is_file()}
    return sorted(found)


def content(root: Path, name: str) -> dict[str, bytes]:
    """What the command wrote, without times that the clock gives. All workspaces lie at one path: outputs name it."""
    found = [path for path in files_below(root, COMMANDS[name].writes) if name == "eval" or path.parent.name != "eval"]
    return {str(path.relative_to(root)): _timeless(path) for path in found if path.name not in UNREAD}


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
