"""A command in a forked process, with a fault planted at one of the moments at which it writes."""

from __future__ import annotations

import builtins
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CRASHED = 70  # exit code of an exception that left the command


@dataclass(frozen=True)
class Fault:
    """What happens at the `at`-th write: kill or interrupt (of the whole group), at once or `delay` seconds later.

    `spoil`: instead, this file is removed or cut. `limit`: no file may become longer than this many bytes.
    """

    at: int = 0
    number: int = 0
    delay: float = 0.0
    spoil: Path | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, or minus the signal that ended it; what it said on stderr."""

    code: int
    stderr: str

    @property
    def complaint(self) -> str | None:
        """What is wrong with the way it ended, whatever the cause."""
        if self.code == CRASHED or "Traceback" in self.stderr:
            return "traceback"
        if "a defect of fclip" in self.stderr:
            return "defect"
        if self.code < 0 and self.code not in (-signal.SIGKILL, -signal.SIGINT):
            return f"signal {-self.code}"
        if self.code not in (0, 1, 2, 3, 130, -signal.SIGKILL):
            return f"exit code {self.code}"
        return None


def start(args: list[str], fault: Fault | None = None) -> tuple[int, Path]:
    """Fork a process that runs `fclip ARGS`; gives its id and the file that its stderr goes to."""
    place, name = tempfile.mkstemp(prefix="fclip-soak-")
    pid = os.fork()
    if pid == 0:
        code = CRASHED
        try:
            os.setsid()
            os.dup2(place, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            code = _command(args, fault)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(place)
    return pid, Path(name)


def finish(started: tuple[int, Path], timeout: float = 180.0) -> Outcome:
    """Wait for a process of `start`; one that does not end is killed and counts as crashed."""
    pid, said = started
    deadline = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            said.unlink()
            return Outcome(CRASHED, f"Traceback: did not end within {timeout:g} s")
        time.sleep(0.01)
    text = said.read_text(errors="replace")
    said.unlink()
    return Outcome(os.waitstatus_to_exitcode(status), text)


def run(args: list[str], fault: Fault | None = None) -> Outcome:
    """Run `fclip ARGS` to its end."""
    return finish(start(args, fault))


def _command(args: list[str], fault: Fault | None) -> int:
    from fclip.cli.app import app
    from fclip.interrupts import leave_at_once

    signal.signal(signal.SIGINT, signal.default_int_handler)
    leave_at_once()
    if fault:
        _plant(fault)
    try:
        app(args, standalone_mode=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _plant(fault: Fault) -> None:
    """Count the moments at which files are opened to write, flushed, renamed or removed, and strike at one."""
    if fault.limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.limit, fault.limit))
        return
    count = 0

    def strike() -> None:
        if fault.spoil is not None:
            if fault.number and fault.spoil.is_file():
                os.truncate(fault.spoil, fault.spoil.stat().st_size // 2)
            elif fault.spoil.is_file():
                _unlink(fault.spoil)
        elif fault.number == signal.SIGINT:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            os.killpg(0, fault.number)

    def moment() -> None:
        nonlocal count
        count += 1
        if count == fault.at:
            threading.Timer(fault.delay, strike).start() if fault.delay else strike()

    def watched(function: Callable[..., Any], matters: Callable[..., bool] = lambda *_, **__: True) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if matters(*args, **kwargs):
                moment()
            return function(*args, **kwargs)

        return wrapper

    _unlink = os.unlink
    opened = watched(builtins.open, lambda _, mode="r", *__, **___: any(letter in str(mode) for letter in "wax+"))
    builtins.open = io.open = opened  # type: ignore[assignment,misc]
    for name in ("replace", "fsync", "unlink", "mkdir"):
        setattr(os, name, watched(getattr(os, name)))
    shutil.rmtree = watched(shutil.rmtree)  # type: ignore[assignment]
