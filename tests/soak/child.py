"""The commands under attack, each in a process of its own.

`run` forks: this process has imported what the commands import, once, and has started no thread, so that a child works
at once. `run_cold` starts the command as a user does. Both are real processes on real files.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.soak.faults import Fault, Moments

LONGEST = 1 << 20  # bytes that a command may say
CRASHED = 70  # exit code of an exception that left the command
PATIENCE = 120.0  # seconds until a command counts as hanging
KILLED = (-signal.SIGKILL, -signal.SIGXFSZ)
ENDS = (0, 1, 2, 3, 130, *KILLED)


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, or minus the signal that ended it; what it said."""

    code: int
    said: str
    writes: int = 0

    @property
    def complaint(self) -> str | None:
        """What is wrong with the way it ended, whatever the cause."""
        if self.code == CRASHED or "Traceback" in self.said:
            return "traceback"
        if "a defect of fclip" in self.said:
            return "defect"
        if self.code in ENDS:
            return None
        return f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"

    @property
    def struck(self) -> bool:
        """Whether a kill or an interrupt ended it, or one of its workers."""
        return self.code in (130, *KILLED) or (self.code == 1 and "a worker process died" in self.said)


@dataclass(frozen=True)
class Started:
    """A process at work: its id, the end of the pipe that it speaks into, and the file of what it learned."""

    pid: int
    said: int
    learned: Path


def start(args: list[str], fault: Fault | None = None) -> Started:
    """Fork a process that runs `fclip ARGS`."""
    heard, said = os.pipe()
    fcntl.fcntl(said, fcntl.F_SETPIPE_SZ, LONGEST)  # a file would fill up with the disk, and say less
    learned = Path(tempfile.gettempdir()) / f"fclip-soak-{os.getpid()}-{heard}.json"
    pid = os.fork()
    if pid == 0:
        code = CRASHED
        try:
            os.setsid()
            os.dup2(said, 2)
            os.dup2(said, 1)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            code = _command(args, fault or Fault(), learned)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    os.close(said)
    return Started(pid, heard, learned)


def finish(started: Started) -> Outcome:
    """Wait for a process of `start` and for its workers; what does not end is killed and counts as crashed."""
    deadline = time.monotonic() + PATIENCE
    status, ended = None, False
    while not ended and time.monotonic() < deadline:
        if status is None:
            done, number = os.waitpid(started.pid, os.WNOHANG)
            status = number if done else None
        ended = status is not None and not _lives(started.pid)
        if not ended:
            time.sleep(0.005)
    if not ended:
        os.killpg(started.pid, signal.SIGKILL)
        if status is None:
            os.waitpid(started.pid, 0)
    with open(started.said, errors="replace") as pipe:
        text = pipe.read()
    writes = json.loads(started.learned.read_text()) if started.learned.exists() else 0
    started.learned.unlink(missing_ok=True)
    if not ended:
        what = "the command" if status is None else "a worker of a command that is gone"
        return Outcome(CRASHED, f"{text}\nTraceback: {what} did not end within {PATIENCE:g} s")
    assert status is not None
    return Outcome(os.waitstatus_to_exitcode(status), text, writes)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def run(args: list[str], fault: Fault | None = None) -> Outcome:
    """Run `fclip ARGS` in a forked process to its end."""
    return finish(start(args, fault))


def run_cold(args: list[str], number: int, delay: float) -> Outcome:
    """Start `fclip ARGS` as a user does and send it a signal after `delay` seconds."""
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "fclip", *args]
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
        code = process.wait(PATIENCE)
        said.seek(0)
        text = said.read().decode(errors="replace")
    early = number == signal.SIGINT and "/fclip/" not in text and code not in (0, 130)
    return (
        Outcome(130, "early") if early else Outcome(code, text)
    )  # Python itself was starting: nothing of fclip had run


def learn(args: list[str]) -> int:
    """Run `fclip ARGS` undisturbed, import here what it imported; gives the number of its writes."""
    place, name = tempfile.mkstemp()
    os.environ["FCLIP_SOAK_MODULES"] = name
    outcome = run(args)
    del os.environ["FCLIP_SOAK_MODULES"]
    assert outcome.code == 0, f"{args}: {outcome}"
    with os.fdopen(place) as file:
        for module in file.read().split():
            try:
                importlib.import_module(module)
            except Exception:  # some are made by others while these are imported
                continue
    os.unlink(name)
    return outcome.writes


def _command(args: list[str], fault: Fault, learned: Path) -> int:
    from fclip.cli.app import app
    from fclip.interrupts import leave_at_once

    before = set(sys.modules)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    leave_at_once()
    moments = Moments(fault)
    moments.plant()
    code = 0
    try:
        app(args, standalone_mode=True)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    if modules := os.environ.get("FCLIP_SOAK_MODULES"):
        learned.write_text(json.dumps(moments.count))
        Path(modules).write_text("\n".join(name for name in list(sys.modules) if name not in before))
    return code
