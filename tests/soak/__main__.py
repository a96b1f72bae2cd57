"""`python -m tests.soak --minutes M`: random attacks until the time is over; the figures, and every finding.

Each job is a process that has imported what the commands import and forks them. A finding begins with the options that
show it again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from tests.soak.attacks import ATTACKS, Soak
from tests.soak.readers import write_extra
from tests.soak.reading import read_damaged
from tests.soak.stages import COMMANDS, build

HEAVY = ("torch", "nltk", "open_clip", "matplotlib.pyplot")  # slow to import
FILES = 500  # damaged files of one round
DONE = (
    "kills",
    "cold starts",
    "damaged inputs",
    "damaged files read",
    "full disks",
    "two at once",
    "read-only",
    "vanished inputs",
    "planted",
)
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
    "memory",
    "escaped",
)


def main() -> int:
    """Run the jobs beside one another, print what they did and found; 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="at most; all jobs alike")
    parser.add_argument("--kills", type=int, help="end when there were that many, and --files as well")
    parser.add_argument("--files", type=int, help="damaged files to read at least; no more are read after that")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", choices=[*ATTACKS, "files"], help="one kind of attack")
    parser.add_argument("--round", type=int, help="one round")
    options = parser.parse_args()
    options.jobs = options.jobs if options.round is None else 1
    place = Path(tempfile.mkdtemp(prefix="fclip-soak-"))
    print(f"soak: seed {options.seed}, in {place}", flush=True)
    began = time.monotonic()
    pids = [_start(place / str(job), job, options) for job in range(options.jobs)]
    broken = [status for status in (os.waitpid(pid, 0)[1] for pid in pids) if status]
    counts = Counter[str]()
    for path in place.glob("*/counts.json"):
        counts.update(json.loads(path.read_text()))
    shutil.rmtree(place)
    print_figures(counts, time.monotonic() - began)
    return 1 if broken or any(counts[name] for name in FAULTS) else 0


def _start(place: Path, job: int, options: argparse.Namespace) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _attack(place, job, options)
            code = 0
        except KeyboardInterrupt:
            pass
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid


def _attack(place: Path, job: int, options: argparse.Namespace) -> None:
    """The rounds of one job: job j of n does the rounds j, j + n, j + 2n ... until the time is over or enough is done."""
    soak = prepare(place)
    deadline = time.monotonic() + 60 * options.minutes
    number = options.round if options.round is not None else job
    while time.monotonic() < deadline and (name := _choose(soak, number, options)):
        before, seed = len(soak.findings), f"{options.seed}-{number} {name}"
        if name == "files":
            counts, findings = read_damaged(soak.reference, seed, FILES)
            soak.counts["damaged files read"] += sum(counts.values())
            for finding in findings:
                soak.note(*finding.split(": ", 1))
        else:
            ATTACKS[name][0](soak, random.Random(seed))
        for finding in soak.findings[before:]:
            print(f"[--seed {options.seed} --only '{name}' --round {number}] {finding}", flush=True)
        (place / "counts.json").write_text(json.dumps(soak.counts))
        number += options.jobs
        if options.round is not None:
            break


def _choose(soak: Soak, number: int, options: argparse.Namespace) -> str | None:
    """The attack of a round; None when each job has done its share of what was asked for."""
    kills = options.kills is not None and soak.counts["kills"] * options.jobs >= options.kills
    files = options.files is not None and soak.counts["damaged files read"] * options.jobs >= options.files
    if kills and files:
        return None
    if options.only:
        return str(options.only)
    shares = {name: share for name, (_, share) in ATTACKS.items()}
    if not files:
        shares["files"] = 2 if not kills else sum(shares.values())
    return random.Random(f"{options.seed}-{number}").choices(list(shares), list(shares.values()))[0]


def prepare(place: Path, names: Collection[str] = tuple(COMMANDS)) -> Soak:
    """Make the workspace once, where all rounds take place, and keep it as the reference."""
    for module in HEAVY[: 2 if len(names) < len(COMMANDS) else None]:  # once, here, and not in each process
        importlib.import_module(module)
    sys.modules["torch"].set_num_threads(1)  # a process that has started threads cannot be forked safely
    root, reference = place / "root", place / "reference"
    writes = build(root, names)
    shutil.copytree(root, reference)
    write_extra(reference / "extra")
    return Soak(reference, root, writes)


def print_figures(counts: Counter[str], seconds: float) -> None:
    """What was done and what was found."""
    stages = ", ".join(f"{name} {counts[f'kills of {name}']}" for name in COMMANDS)
    print(f"kills of: {stages}")
    print(f"done in {seconds / 60:.0f} minutes: " + ", ".join(f"{counts[name]:,} {name}" for name in DONE))
    print("found: " + ", ".join(f"{counts[name]:,} {name}" for name in FAULTS))


if __name__ == "__main__":
    raise SystemExit(main())
