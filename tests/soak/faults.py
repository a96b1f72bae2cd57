"""What strikes a command while it works, at one of the moments at which it writes."""

from __future__ import annotations

import builtins
import ctypes
import io
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOBODY = 65534
CLONE_NEWNS = 0x20000  # <linux/sched.h>
MS_REC, MS_PRIVATE = 0x4000, 0x40000  # <linux/mount.h>


@dataclass(frozen=True)
class Fault:
    """What happens at the `at`-th write of the first process to get there: at once, or `delay` seconds later.

    number: this signal is sent, to the whole group, or (`alone`) to the process that writes, main or worker.
    spoil: instead, this file is removed (number 0) or cut. limit: no file may become longer than this many bytes;
    with `cut` the process dies in the write that would pass the limit. tmpfs: (folder, bytes), a small disk of its
    own there. unwritable: the process may write nowhere but into temporary files. spawn: workers are started as
    users have them started, anew; else forked, which is quicker and lets faults strike in them too.
    """

    at: int = 0
    number: int = 0
    delay: float = 0.0
    alone: bool = False
    spoil: Path | None = None
    limit: int | None = None
    cut: bool = False
    tmpfs: tuple[Path, int] | None = None
    unwritable: bool = False
    spawn: bool = False

    def __str__(self) -> str:
        given = {name: value for name, value in vars(self).items() if value not in (0, None, False)}
        return ", ".join(f"{name} {value}" for name, value in given.items())


class Moments:
    """Counts the moments at which files are opened to write, flushed, renamed or removed, and strikes at one."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.count = fault, 0

    def plant(self) -> None:
        """Put the fault into this process, and into the workers that it forks."""
        fault = self.fault
        if not fault.spawn:
            context = multiprocessing.get_context
            multiprocessing.get_context = lambda method=None: context("fork" if method == "spawn" else method)  # type: ignore[assignment, arg-type]
        if fault.tmpfs:
            mount_small(*fault.tmpfs)
        if fault.unwritable:
            become_nobody()
        if fault.limit is not None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.limit, resource.RLIM_INFINITY))
        if fault.cut:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        self._unlink = os.unlink
        writes = self._watched(builtins.open, lambda _, mode="r", *__, **___: any(sign in str(mode) for sign in "wax+"))
        builtins.open = io.open = writes
        for name in ("replace", "fsync", "unlink", "mkdir"):
            setattr(os, name, self._watched(getattr(os, name)))
        shutil.rmtree = self._watched(shutil.rmtree)  # type: ignore[assignment]

    def _watched(self, function: Callable[..., Any], matters: Callable[..., bool] = lambda *_, **__: True) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if matters(*args, **kwargs):
                self.count += 1
                if self.count == self.fault.at:
                    threading.Timer(self.fault.delay, self._strike).start() if self.fault.delay else self._strike()
            return function(*args, **kwargs)

        return wrapper

    def _strike(self) -> None:
        fault = self.fault
        if fault.spoil is not None:
            if fault.spoil.is_file():
                os.truncate(fault.spoil, fault.spoil.stat().st_size // 2) if fault.number else self._unlink(fault.spoil)
        elif fault.alone:
            os.kill(os.getpid(), fault.number)
        else:
            os.killpg(0, fault.number)


def mount_small(folder: Path, size: int) -> None:
    """Put a small empty disk at `folder`, seen by this process only; OSError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    text = f"size={size}".encode()
    for done in (
        lambda: libc.unshare(CLONE_NEWNS),
        lambda: libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None),
        lambda: libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, text),
    ):
        if done():
            raise OSError(ctypes.get_errno(), "no disk can be mounted here")


def become_nobody() -> None:
    """Root may write where no permission says so: go on as somebody who may not."""
    os.environ["HOME"] = os.environ["XDG_CACHE_HOME"] = tempfile.gettempdir()
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
