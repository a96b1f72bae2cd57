"""`python -m tests.soak MINUTES`: random attacks until the time is over; the figures, and every finding."""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.soak.attacks import ATTACKS, Soak
from tests.soak.readers import read_damaged
from tests.soak.stages import build

NAMES = ("kills", "damaged inputs", "damaged files read", "full disks", "two at once", "vanished inputs")
FAULTS = (
    "bytes lost",
    "silent",
    "lost",
    "blocked",
    "defect",
    "traceback",
    "signal",
    "exit",
    "temporaries",
    "twice",
    "message",
)


def main() -> int:
    """Build a workspace, attack it, print the figures; 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", help="one attack, or: readers")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="fclip-soak-"))
    soak = Soak(place / "reference", place / "root")
    prepare(soak)
    print(f"soak: seed {options.seed}, {options.minutes:g} minutes, in {place}", flush=True)
    deadline, number = time.monotonic() + 60 * options.minutes, 0
    while time.monotonic() < deadline:
        rng = random.Random(f"{options.seed}-{number}")
        number += 1
        if options.only == "readers" or (options.only is None and number % 6 == 0):
            attack_readers(soak, options.seed * 1000 + number, 400)
        else:
            names = [options.only] if options.only else list(ATTACKS)
            name = rng.choices(names, [ATTACKS[name][1] for name in names])[0]
            before = len(soak.findings)
            ATTACKS[name][0](soak, rng)
            for finding in soak.findings[before:]:
                print(f"[{options.seed}-{number - 1}] {finding}", flush=True)
    print_figures(soak)
    shutil.rmtree(place)
    return 1 if soak.findings else 0


def prepare(soak: Soak) -> None:
    """Make the workspace once, where all rounds take place, and keep it as the reference."""
    import torch

    torch.set_num_threads(1)
    build(soak.root)
    shutil.copytree(soak.root, soak.reference)


def attack_readers(soak: Soak, seed: int, count: int) -> None:
    """Give damaged files to their readers."""
    counts, findings = read_damaged(soak.reference, seed, count)
    soak.counts["damaged files read"] += sum(counts[kind] for kind in ("answered", "refused", "defect"))
    for finding in findings:
        soak.note("defect", finding)
        print(finding, flush=True)


def print_figures(soak: Soak) -> None:
    """What was done and what was found."""
    counts: Counter[str] = soak.counts
    print("done: " + ", ".join(f"{counts[name]} {name}" for name in NAMES))
    print("found: " + ", ".join(f"{counts[name]} {name}" for name in FAULTS))


if __name__ == "__main__":
    raise SystemExit(main())
