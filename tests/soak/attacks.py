"""The attacks: each takes a random generator, does one round on a workspace, and counts what it found."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.child import Fault, Outcome, finish, run, start
from tests.soak.mutate import mutated
from tests.soak.stages import COMMANDS, UNREAD, arguments, content, without_output


@dataclass
class Soak:
    """A workspace under attack: the complete `reference`, and `root`, where it was made and is made anew each round."""

    reference: Path
    root: Path
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def note(self, kind: str, what: str) -> None:
        """A finding: something that must not happen."""
        self.counts[kind] += 1
        self.findings.append(f"{kind}: {what}")

    def judge(self, outcome: Outcome, what: str) -> None:
        """Complain about the way a command ended."""
        if outcome.complaint:
            self.note(outcome.complaint.split()[0], f"{what}: exit {outcome.code}: {outcome.stderr.strip()[-1500:]}")

    def compare(self, name: str, what: str) -> None:
        """After a command ended well, its output must be that of an undisturbed run, byte for byte."""
        expected, found = content(self.reference, name), content(self.root, name)
        for path in sorted(expected.keys() | found.keys()):
            if expected.get(path) != found.get(path):
                state = "lost" if path not in found else "left over" if path not in expected else "differs"
                self.counts["bytes lost"] += len(expected.get(path, b""))
                self.note("silent", f"{what}: {path} {state}")


def pick(rng: random.Random, soak: Soak, slow: float = 0.15, names: tuple[str, ...] = tuple(COMMANDS)) -> str:
    """A command that writes; slow ones are rarer."""
    name = rng.choice(names)
    return name if not COMMANDS[name].slow or rng.random() < slow else pick(rng, soak, slow, names)


def kill(soak: Soak, rng: random.Random, names: tuple[str, ...] = tuple(COMMANDS), times: int = 4) -> None:
    """Kill or interrupt a command at a random write, several times in a row, then let it end."""
    name = pick(rng, soak, names=names)
    without_output(soak.reference, soak.root, name)
    workers = 2 if rng.random() < 0.1 else 1
    done: set[str] = set()
    for _ in range(times):
        number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT))
        fault = Fault(int(rng.expovariate(1 / 15)) + 1, number, rng.choice((0.0, 0.0, rng.random() / 100)))
        what = f"{name} --workers {workers}, {number.name} at write {fault.at} + {fault.delay:.4f} s"
        outcome = run(arguments(name, soak.root, workers), fault)
        soak.judge(outcome, what)
        struck = outcome.code in (130, -signal.SIGKILL)
        soak.counts["kills"] += struck
        left = {path for path in done if not (soak.root / path).is_file()}
        if left and struck and workers == 1:
            soak.note("lost", f"{what}: finished shards are gone: {sorted(left)[:3]}")
        done = {str(path.relative_to(soak.root)) for path in soak.root.glob("demo7/*/part*-*.json")}
        if number == signal.SIGINT and outcome.code == 130 and (temps := _temporaries(soak.root)):
            soak.note("temporaries", f"{what}: {temps}")
        if not struck:
            break
    end(soak, name, f"{name} after kills")


def end(soak: Soak, name: str, what: str) -> None:
    """Run a command undisturbed: it must end well, with the bytes of the reference, and leave no temporary file."""
    outcome = run(arguments(name, soak.root))
    soak.judge(outcome, f"{what}, rerun")
    if outcome.code != 0:
        soak.note("blocked", f"{what}: the rerun ends with {outcome.code}: {outcome.stderr.strip()[-600:]}")
        return
    soak.compare(name, what)
    if temps := _temporaries(soak.root):
        soak.note("temporaries", f"{what}: {temps}")


def _temporaries(root: Path) -> list[str]:
    return [str(p.relative_to(root)) for p in root.rglob(".*") if p.name not in UNREAD and ".unfinished" not in p.name]


def damage(soak: Soak, rng: random.Random, names: tuple[str, ...] = tuple(COMMANDS)) -> None:
    """Damage one file of the workspace: a command that reads it refuses it, makes it again, or is not affected."""
    name = pick(rng, soak, names=names)
    own = rng.random() < 0.4  # a file of the command's own output, kept: a rerun must mend it or refuse
    if own:
        shutil.rmtree(soak.root, ignore_errors=True)
        shutil.copytree(soak.reference, soak.root)
    else:
        without_output(soak.reference, soak.root, name)
    files = [path for path in sorted(soak.root.rglob("*")) if path.is_file()]
    if own:
        places = tuple(str(soak.root / output) for output in COMMANDS[name].writes)
        files = [path for path in files if str(path).startswith(places)] or files
    path = rng.choice(files)
    how, data = mutated(rng, path.read_bytes())
    path.write_bytes(data)
    what = f"{name} with {path.relative_to(soak.root)} damaged ({how})"
    outcome = run(arguments(name, soak.root))
    soak.counts["damaged inputs"] += 1
    soak.judge(outcome, what)
    said = outcome.stderr.strip().splitlines()
    if outcome.code and not outcome.complaint and (not said or len(said[-1]) > 340):
        soak.note("message", f"{what}: {outcome.stderr[-500:]!r}")
    if outcome.code == 0 and not _is_users(path.relative_to(soak.root)):
        if own and path.is_file():
            soak.counts["mended" if path.read_bytes() != data else "unaffected"] += 1
        before = len(soak.findings)
        soak.compare(name, what)
        if len(soak.findings) > before and own and not str(path).startswith(places):
            soak.findings = soak.findings[:before]


def _is_users(path: Path) -> bool:
    """Whether a file has no record: what is made from it is as good as it is."""
    return path.name in ("leak.json", "review.csv", "leak_probe.csv", "validation.json", "validation.txt")


def full_disk(soak: Soak, rng: random.Random, names: tuple[str, ...] = tuple(COMMANDS)) -> None:
    """No file may grow beyond some size: the command fails in one line, and ends well once there is room."""
    name = pick(rng, soak, names=names)
    without_output(soak.reference, soak.root, name)
    limit = int(2 ** rng.uniform(5, 19))
    outcome = run(arguments(name, soak.root), Fault(limit=limit))
    what = f"{name} with files of up to {limit} bytes"
    soak.counts["full disks"] += 1
    soak.judge(outcome, what)
    if outcome.code and (temps := _temporaries(soak.root)):
        soak.note("temporaries", f"{what}: {temps}")
    end(soak, name, what)


def two_at_once(soak: Soak, rng: random.Random, names: tuple[str, ...] = tuple(COMMANDS)) -> None:
    """The same command twice: one of them works, the other is told so (exit code 3) or finds all done."""
    name = pick(rng, soak, names=names)
    without_output(soak.reference, soak.root, name)
    outcomes = [finish(each) for each in [start(arguments(name, soak.root)) for _ in range(2)]]
    soak.counts["two at once"] += 1
    for outcome in outcomes:
        soak.judge(outcome, f"{name} twice")
    codes = sorted(outcome.code for outcome in outcomes)
    if codes not in ([0, 0], [0, 3]):
        soak.note("twice", f"{name}: exit codes {codes}: {[o.stderr.strip()[-300:] for o in outcomes]}")
    soak.compare(name, f"{name} twice")


def vanish(soak: Soak, rng: random.Random, names: tuple[str, ...] = tuple(COMMANDS)) -> None:
    """An input is cut or removed while the command works: it fails in one line, or had read it before."""
    name = pick(rng, soak, names=names)
    without_output(soak.reference, soak.root, name)
    path = rng.choice([path for path in sorted(soak.root.rglob("*")) if path.is_file()])
    outcome = run(arguments(name, soak.root), Fault(int(rng.expovariate(1 / 10)) + 1, rng.randrange(2), spoil=path))
    what = f"{name} while {path.relative_to(soak.root)} is cut or removed"
    soak.counts["vanished inputs"] += 1
    soak.judge(outcome, what)
    if not path.is_file() or path.read_bytes() != (soak.reference / path.relative_to(soak.root)).read_bytes():
        shutil.copy2(soak.reference / path.relative_to(soak.root), path)
    end(soak, name, what)


ATTACKS: dict[str, tuple[Callable[..., None], float]] = {  # name -> (attack, how often)
    "kill": (kill, 4),
    "damage": (damage, 8),
    "full disk": (full_disk, 2),
    "two at once": (two_at_once, 1),
    "vanish": (vanish, 1),
}
