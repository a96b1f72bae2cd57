"""The runs that answer `fclip predict FILE`: variant `signals-probe` on pictures of people, one run a back end.

A folder as in `real.py`: labels.csv (path, label, identity, and, if wanted, part) and the pictures. Parts are a
function of the identity (`is_test`): the column `part`, else a fifth of the people by the sha256 of their names. The
shipped runs follow the latter but for one person, p1793, put into the test part: without him it holds no disgust. Of a
class with more than MOST training pictures those whose paths have the smallest sha256 are taken. The commands are those
that a user would give; training sees the training part only, and the card says what the test part measured.
"""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

from examples.choose_clips import choose
from fclip.files import atomic_write
from fclip.models.checkpoint import find_checkpoint, load_checkpoint
from fclip.tensors import write_tensors

from .real import is_test, read_rows

logger = logging.getLogger(__name__)

BACKENDS = ("mediapipe", "lite")
CLASSES = ("anger", "disgust", "happiness", "neutral", "sadness", "surprise")
MOST = 500  # training pictures of a class: happiness and neutral are ten times as frequent as the others
STRENGTH = 10**-2.5  # C, what cross-validation takes for the signals alone: `tiny` knows the training pictures' labels
FRAMES = 8  # frames of a window whose mean signals are classified; training saw single pictures
NAME = "people6"
LIMITS = (
    "Labels are one rater's, errors included; the pictures show public figures (press pictures, film stills).",
    "Test pictures in which the back end finds no face are left out of the figures.",
    "Measured on single pictures; range and trend of a clip carry no weight.",
    "An expression that is shown is not an emotion that is felt.",
)


def chosen_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of labels.csv of the six classes, both parts, with `part` filled in; at most MOST a class to train on."""
    rows = [row for test in (False, True) for row in read_rows(folder, test)]
    return choose([row | {"part": "test" if is_test(row) else "train"} for row in rows], CLASSES, MOST)


def write_source(folder: Path, work: Path, rows: list[dict[str, str]]) -> Path:
    """Put the chosen pictures and their CSV file into `work`, as `fclip preprocess --dataset csv` reads them."""
    work.mkdir(parents=True, exist_ok=True)
    tar = folder / "pictures.tar"
    if tar.is_file() and not (folder / rows[0]["path"]).is_file():
        wanted = {row["path"] for row in rows}
        with tarfile.open(tar) as archive:
            archive.extractall(work, [member for member in archive if member.name in wanted], filter="data")
    else:
        for row in rows:
            with atomic_write(work / row["path"]) as temp:
                temp.write_bytes((folder / row["path"]).read_bytes())
    source = work / "pictures.csv"
    with atomic_write(source) as temp, temp.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["path", "label", "part", "identity"], extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return source


def fclip(*arguments: str) -> None:
    """Run a command of fclip; CalledProcessError where it fails."""
    logger.info("fclip %s", " ".join(arguments))
    subprocess.run([sys.executable, "-m", "fclip", *arguments], check=True)


def train_and_measure(source: Path, root: Path, backend: str) -> tuple[Path, dict[str, Any]]:
    """From the CSV file to a run folder and the figures of its test part."""
    same = ["--dataset", NAME, "--root", str(root)]
    pictures = ["--dataset", "csv", "--source", str(source), "--name", NAME, "--root", str(root)]
    fclip("preprocess", *pictures, "--frames", "1", "--crop", backend)
    fclip("face-analyze", *same, "--backend", backend)
    fclip("pack", *same, "--captions", "none", "--allow-missing")
    run = root / "run"
    model = ["--variant", "signals-probe", "--clip", "tiny", "--set", f"strength={STRENGTH:.4g}"]
    fclip("train", *same, *model, "--device", "cpu", "--out", str(run))
    fclip("eval", str(run), "--root", str(root), "--device", "cpu")
    return run, json.loads((run / "eval" / "results.json").read_text())


def make_card(folder: Path, rows: list[dict[str, str]], figures: dict[str, Any], fitted: int) -> dict[str, Any]:
    """The model card: data, people, what was measured on whom, and the limits. Shares in percent.

    fitted: training pictures with a face.
    """
    about = folder / "about.json"
    card: dict[str, Any] = json.loads(about.read_text()) if about.is_file() else {}
    parts = {part: [row for row in rows if row["part"] == part] for part in ("train", "test")}
    people = {part: len({row["identity"] for row in found}) for part, found in parts.items()}
    alone = [
        f"{name}: {most} of {len(found)} test pictures show one person"
        for name in CLASSES
        if (found := [row["identity"] for row in parts["test"] if row["label"] == name])
        and (most := Counter(found).most_common(1)[0][1]) > len(found) / 2
    ]
    return card | {
        "data": f"{fitted:,} single pictures of {people['train']:,} people",
        "uar": round(100 * figures["uar"], 1),
        "uar_interval": [round(100 * bound, 1) for bound in figures["uar_interval"]],
        "test": f"{figures['clips']:,} pictures of {people['test']:,} other people",
        "recall": {name: round(100 * share) for name, share in figures["recall"].items()},
        "test_pictures": dict(Counter(row["label"] for row in parts["test"])),
        "limits": [*LIMITS, *alone],
    }


def make_expressions(out: Path, folder: Path, work: Path) -> dict[str, Any]:
    """Write `out`/expressions/<back end>.safetensors and return their cards.

    `work`: where the pictures and workspaces go; finished shards that are there are kept.
    """
    rows = chosen_rows(folder)
    source = write_source(folder, work, rows)
    cards = {}
    for backend in BACKENDS:
        run, figures = train_and_measure(source, work / backend, backend)
        state, meta = load_checkpoint(find_checkpoint(run))
        meta["preparation"]["cropping"]["frames"] = str(FRAMES)
        meta["frames"] = FRAMES
        meta["dataset"] = NAME
        cards[backend] = meta["card"] = make_card(folder, rows, figures, meta["fit"]["clips"])
        write_tensors(out / "expressions" / f"{backend}.safetensors", state, meta)
    return cards
