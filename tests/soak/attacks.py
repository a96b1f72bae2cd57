"""The attacks: each takes a random generator, does one round on a workspace, and counts what it found."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.child import Outcome, finish, run, run_cold, start
from tests.soak.faults import Fault
from tests.soak.mutate import mutated
from tests.soak.plants import PLANTS
from tests.soak.stages import COMMANDS, QUICK, UNREAD, arguments, content, files_below, without_output

COLD = 0.05  # share of kills that strike a command started as users start it
LONGEST = 340  # characters of a message, with the command's name before it


@dataclass
class Soak:
    """A workspace under attack: the complete `reference`, and `root`, where it was made and is made anew each round.

    writes: {command: number of its writes when nothing disturbs it}; its commands are those that are attacked.
    """

    reference: Path
    root: Path
    writes: dict[str, int]
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def pick(self, rng: random.Random, among: Collection[str] = tuple(COMMANDS)) -> str:
        """A command; slow ones are rare."""
        names = [name for name in self.writes if name in among]
        return rng.choices(names, [1 if name in QUICK else 0.1 for name in names])[0]

    def note(self, kind: str, what: str) -> None:
        """A finding: something that must not happen."""
        self.counts[kind] += 1
        self.findings.append(f"{kind}: {what}")

    def judge(self, outcome: Outcome, what: str, signals: bool = False) -> None:
        """Complain about the way a command ended, or about what it said; `signals`: it may have been killed."""
        said = outcome.said.strip().splitlines()
        if outcome.complaint:
            self.note(outcome.complaint.split()[0], f"{what}: exit {outcome.code}: {outcome.said.strip()[-1500:]}")
        elif outcome.code < 0 and not signals:
            self.note("signal", f"{what}: exit {outcome.code}: {outcome.said.strip()[-1500:]}")
        elif outcome.code > 0 and (not said or len(said[-1]) > LONGEST):
            self.note("message", f"{what}: exit {outcome.code}: {outcome.said.strip()[-1500:]!r}")

    def compare(self, name: str, what: str) -> None:
        """After a command ended well, its output must be that of an undisturbed run, byte for byte."""
        expected, found = content(self.reference, name), content(self.root, name)
        for path in sorted(expected.keys() | found.keys()):
            if expected.get(path) != found.get(path):
                state = "lost" if path not in found else "left over" if path not in expected else "differs"
                self.counts["bytes lost"] += len(expected.get(path, b""))
                self.note("silent", f"{what}: {path} {state}")

    def temporaries(self) -> set[str]:
        """The temporary files in the workspace."""
        hidden = [path for path in self.root.rglob(".*") if path.name not in UNREAD and ".unfinished" not in path.name]
        return {str(path.relative_to(self.root)) for path in hidden}

    def no_temporaries(self, what: str, before: Collection[str] = ()) -> None:
        """No temporary file may lie in the workspace but those that lay there before (a kill left them)."""
        if left := self.temporaries().difference(before):
            self.note("temporaries", f"{what}: {sorted(left)}")


def kill(soak: Soak, rng: random.Random, times: int = 4) -> None:
    """Kill or interrupt a command at random writes, several times in a row, then let it end."""
    name = soak.pick(rng)
    without_output(soak.reference, soak.root, name)
    workers = 2 if rng.random() < 0.25 else 1
    done: set[Path] = set()
    for _ in range(times):
        before = soak.temporaries()
        how, outcome = _strike(soak, rng, name, workers)
        what = f"{name} --workers {workers}, {how}"
        soak.judge(outcome, what, signals=True)
        soak.counts["kills"] += outcome.struck
        soak.counts[f"kills of {name}"] += outcome.struck
        if outcome.struck and (left := {path for path in done if not path.is_file()}):
            soak.note("lost", f"{what}: finished shards are gone: {sorted(map(str, left))[:3]}")
        done = set(soak.root.glob("list/*/*-0000?.json"))
        if outcome.code == 130:
            soak.no_temporaries(what, before)
        if not outcome.struck:
            break
    end(soak, name, f"{name} after kills")


def _strike(soak: Soak, rng: random.Random, name: str, workers: int) -> tuple[str, Outcome]:
    """One run with a kill: (how, outcome). In the midst of a file, at or after a write, or after some seconds."""
    number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT))
    args = arguments(name, soak.root, workers)
    if rng.random() < COLD:
        soak.counts["cold starts"] += 1
        delay = rng.random() ** 2 * 6
        return f"started anew, {number.name} after {delay:.3f} s", run_cold(args, number, delay)
    spawn = workers == 2 and rng.random() < 0.1
    if rng.random() < 0.2:
        fault = Fault(limit=int(2 ** rng.uniform(3, 17)), cut=True, spawn=spawn)
    else:
        at = 1 + int(max(soak.writes[name], 6) * rng.random() ** 2)
        delay = rng.choice((0.0, 0.0, rng.random() / 100))
        fault = Fault(at, number, delay, alone=number == signal.SIGKILL and rng.random() < 0.5, spawn=spawn)
    return str(fault), run(args, fault)


def end(soak: Soak, name: str, what: str) -> None:
    """Run a command undisturbed: it must end well, with the bytes of the reference, and leave no temporary file."""
    outcome = run(arguments(name, soak.root))
    soak.judge(outcome, f"{what}, rerun")
    if outcome.code != 0:
        soak.note("blocked", f"{what}: the rerun ends with {outcome.code}: {outcome.said.strip()[-600:]}")
        return
    soak.compare(name, what)
    soak.no_temporaries(what)


def damage(soak: Soak, rng: random.Random) -> None:
    """Damage one file that a command reads, or one of its own output: it refuses it or makes it again."""
    name = soak.pick(rng)
    command = COMMANDS[name]
    own = bool(command.writes) and rng.random() < 0.4
    without_output(soak.reference, soak.root, name)
    if own:
        shutil.rmtree(soak.root)
        shutil.copytree(soak.reference, soak.root)
    files = files_below(soak.root, command.writes if own or not command.reads else command.reads)
    if not files:
        return
    path = rng.choice(files)
    how, data = mutated(rng, path.read_bytes())
    path.write_bytes(data)
    what = f"{name} with {path.relative_to(soak.root)} damaged ({how})"
    outcome = run(arguments(name, soak.root))
    soak.counts["damaged inputs"] += 1
    soak.judge(outcome, what)
    told = "left out: " in outcome.said  # a report of the runs that are whole
    if outcome.code == 0 and not told and not _is_users(path.relative_to(soak.root)):
        soak.compare(name, what)


def _is_users(path: Path) -> bool:
    """Whether a file has no record: what is made from it is as good as it is."""
    names = ("leak.json", "review.csv", "leak_probe.csv", "validation.json", "validation.txt", "list.csv", "clip.pt")
    return path.name in names or path.parent.name == "videos" or path.name in ("predicted.csv", "sheet.png")


def full_disk(soak: Soak, rng: random.Random) -> None:
    """No file may grow beyond some size, or the disk is small: one line, and a good end once there is room."""
    name = soak.pick(rng)
    without_output(soak.reference, soak.root, name)
    fault = Fault(limit=int(2 ** rng.uniform(3, 17)))
    if soak.counts["no small disks"] == 0 and rng.random() < 0.4:
        place = soak.root / rng.choice(COMMANDS[name].writes or (".",))
        place = place if place.suffix == "" else place.parent
        if place != soak.root:
            place.mkdir(parents=True, exist_ok=True)
            fault = Fault(tmpfs=(place, 4096 * rng.randrange(1, 40)))
    outcome = run(arguments(name, soak.root), fault)
    if "no disk can be mounted here" in outcome.said:
        soak.counts["no small disks"] += 1
        return
    what = f"{name} with {fault}"
    soak.counts["full disks"] += 1
    soak.judge(outcome, what)
    soak.no_temporaries(what)
    end(soak, name, what)


def two_at_once(soak: Soak, rng: random.Random) -> None:
    """The same command twice: one of them works, the other is told so (exit code 3) or finds all done."""
    name = soak.pick(rng, [name for name in COMMANDS if name != "convert"])
    without_output(soak.reference, soak.root, name)
    outcomes = [finish(each) for each in [start(arguments(name, soak.root)) for _ in range(2)]]
    soak.counts["two at once"] += 1
    for outcome in outcomes:
        soak.judge(outcome, f"{name} twice")
    codes = sorted(outcome.code for outcome in outcomes)
    if codes not in ([0, 0], [0, 3]):
        soak.note("twice", f"{name}: exit codes {codes}: {[o.said.strip()[-300:] for o in outcomes]}")
    soak.compare(name, f"{name} twice")


def read_only(soak: Soak, rng: random.Random) -> None:
    """A workspace in which nothing may be written: one line, nothing changed, and a good end with leave to write."""
    name = soak.pick(rng)
    without_output(soak.reference, soak.root, name)
    before = {path: path.read_bytes() for path in files_below(soak.root, ["."])}
    soak.root.parent.chmod(0o755)
    folders = [soak.root, *(path for path in soak.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    outcome = run(arguments(name, soak.root), Fault(unwritable=True))
    for folder in folders:
        folder.chmod(0o755)
    what = f"{name} where nothing may be written"
    soak.counts["read-only"] += 1
    soak.judge(outcome, what)
    if outcome.code == 0 and content(soak.reference, name):
        soak.note("silent", f"{what}: exit 0")
    if before != {path: path.read_bytes() for path in files_below(soak.root, ["."])}:
        soak.note("silent", f"{what}: files changed")
    end(soak, name, what)


def vanish(soak: Soak, rng: random.Random) -> None:
    """An input is cut or removed while the command works: it fails in one line, or had read it before."""
    name = soak.pick(rng, [name for name in COMMANDS if COMMANDS[name].reads])
    without_output(soak.reference, soak.root, name)
    path = rng.choice(files_below(soak.root, COMMANDS[name].reads))
    at = 1 + int(max(soak.writes[name], 1) * rng.random() ** 2)
    outcome = run(arguments(name, soak.root), Fault(at, rng.randrange(2), spoil=path))
    what = f"{name} while {path.relative_to(soak.root)} is cut or removed at write {at}"
    soak.counts["vanished inputs"] += 1
    soak.judge(outcome, what)
    shutil.copy2(soak.reference / path.relative_to(soak.root), path)
    end(soak, name, what)


def plant(soak: Soak, rng: random.Random) -> None:
    """A file that tries to run code, to lead out of the workspace, or is no file: refused in one line, or harmless."""
    name = soak.pick(rng, [name for name in COMMANDS if COMMANDS[name].reads])
    without_output(soak.reference, soak.root, name)
    outside = soak.root.parent / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    outside.mkdir()
    (outside / "canary").write_text("kept")
    files = files_below(soak.root, COMMANDS[name].reads)
    kind = rng.choice(list(PLANTS))
    fitting = [path for path in files if PLANTS[kind].fits(path) and not (PLANTS[kind].endless and _is_users(path))]
    if not fitting:
        return
    path = rng.choice(fitting)
    PLANTS[kind].plant(path, outside)
    outcome = run(arguments(name, soak.root))
    what = f"{name} with {kind} at {path.relative_to(soak.root)}"
    soak.counts["planted"] += 1
    soak.judge(outcome, what)
    found = {each.name: each.read_text() for each in outside.iterdir() if each.is_file()}
    if found != {"canary": "kept"}:
        soak.note("escaped", f"{what}: {sorted(found)}")
    told = "left out: " in outcome.said  # a report of the runs that are whole
    if outcome.code == 0 and not told and not _is_users(path.relative_to(soak.root)):
        soak.compare(name, what)


ATTACKS: dict[str, tuple[Callable[..., None], float]] = {  # name -> (attack, how often)
    "kill": (kill, 12),
    "damage": (damage, 8),
    "full disk": (full_disk, 2),
    "two at once": (two_at_once, 1),
    "read-only": (read_only, 1),
    "vanish": (vanish, 2),
    "plant": (plant, 2),
}
