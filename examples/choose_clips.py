"""Choose clips of a labelled list: `python choose_clips.py labels.csv chosen.csv --classes a,b,c --most 500`.

Keeps the rows of the named classes and, of a class with more than --most of them in a part, those whose paths have the
smallest sha256, so that nobody chooses and everybody gets the same. Rows of the part `test` are all kept. Paths are
written as seen from the new list's folder.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path


def choose(rows: Iterable[dict[str, str]], classes: Sequence[str], most: int) -> list[dict[str, str]]:
    """Rows with a `path`, a `label` and perhaps a `part`: those of `classes`, at most `most` of each outside test.

    In the order of their paths; no classes = all.
    """
    groups: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if not classes or row["label"] in classes:
            groups[row.get("part") or "", row["label"]].append(row)
    kept = []
    for (part, _), group in groups.items():
        group.sort(key=lambda row: hashlib.sha256(row["path"].encode()).hexdigest())
        kept += group if part == "test" else group[:most]
    return sorted(kept, key=lambda row: row["path"])


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", default="", help="classes to keep, with commas between [all]")
    parser.add_argument("--most", type=int, default=500, help="clips of a class at most [500]")
    options = parser.parse_args(arguments)
    with options.source.open(newline="", encoding="utf-8-sig") as file:
        rows = choose(csv.DictReader(file), [name for name in options.classes.split(",") if name], options.most)
    if not rows:
        parser.error(f"{options.source}: no row of these classes")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        row["path"] = os.path.relpath(options.source.parent / row["path"], options.out.parent)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
