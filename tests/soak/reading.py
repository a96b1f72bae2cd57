"""Damaged files in volume, in processes of their own: a library may crash, run for ever, or ask for all memory."""

from __future__ import annotations

import os
import random
import resource
import signal
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import TextIO

from fclip.errors import FclipError, one_line
from tests.soak.mutate import mutated
from tests.soak.readers import Reader, readers

SECONDS = 10  # of the processor, for one file
MEMORY = 2 << 30  # bytes beyond what this process has
ANSWERS = ("answered", "refused")


def read_damaged(reference: Path, seed: str, count: int) -> tuple[Counter[str], list[str]]:
    """Damage files of a workspace and read them, `count` times: ({answered, refused}, findings).

    Each file comes from `seed` and its number alone.
    """
    counts, findings, first = Counter[str](), list[str](), 0
    with tempfile.TemporaryDirectory(prefix="fclip-soak-") as folder:
        while first < count:
            status, lines = _batch(reference, seed, range(first, count), Path(folder))
            for line in lines:
                kind, _, what = line.partition("\t")
                if kind in ANSWERS:
                    counts[kind] += 1
                elif kind != "next":
                    findings.append(f"{kind}: {what}")
            first += sum(not line.startswith("next") for line in lines)
            if first < count:  # it ended in the midst of a file: the last line names it
                findings.append(f"signal: {-status} {lines[-1] if lines else ''}")
                first += 1
    return counts, findings


def _batch(reference: Path, seed: str, numbers: range, folder: Path) -> tuple[int, list[str]]:
    """Files read in a forked process until one ends it: (how it ended, lines of its report)."""
    report = folder / "report"
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            with open(report, "w", errors="backslashreplace") as file:
                _read(reference, seed, numbers, folder, file)
        finally:
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, report.read_text(errors="replace").splitlines()


def _read(reference: Path, seed: str, numbers: range, folder: Path, report: TextIO) -> None:
    found = [(pattern, reader, sorted(reference.glob(pattern))[:3]) for pattern, reader in readers().items()]
    table = [(pattern, reader, [(path.name, path.read_bytes()) for path in paths]) for pattern, reader, paths in found]
    table = [row for row in table if row[2]]
    work = folder / "work"
    work.mkdir(exist_ok=True)
    for number in numbers:
        rng = random.Random(f"{seed}-{number}")
        pattern, reader, samples = rng.choice(table)
        name, data = rng.choice(samples)
        how, changed = mutated(rng, data)
        path = work / name
        path.write_bytes(changed)
        what = f"{pattern} {how} [{seed} file {number}]"
        report.write(f"next\t{what}\n")
        report.flush()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        report.write(_answer(reader, path, what) + "\n")
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.unlink(missing_ok=True)


def _answer(reader: Reader, path: Path, what: str) -> str:
    """What a reader made of a file: answered, refused, or what is wrong with its answer."""
    try:
        reader(path)
        return "answered"
    except FclipError as error:
        return "refused" if one_line(error) else f"message\t{what}: nothing said"
    except MemoryError:
        return f"memory\t{what}: {_end()}"
    except Exception:
        return f"defect\t{what}: {_end()}"


def _end() -> str:
    return " | ".join(traceback.format_exc().strip().splitlines()[-5:])
