"""One process at a time in an output folder: an advisory lock whose file says who holds it.

The lock is the operating system's (POSIX record lock on `.lock`), so that it ends with its process, however that ends,
and is seen by the other machines of a network disk that supports locks (NFS, Lustre with -o flock). On a file system
without locks the file alone decides: it counts as held while its process runs on this machine; if another machine wrote
it, a person has to delete it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fclip.errors import FclipError, OutputDiffers
from fclip.files import is_running

LOCK = ".lock"
PATIENCE = 0.3  # seconds: another process may look for a moment whether a lock is held
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_HELD: set[Path] = set()  # record locks do not keep a process from itself


class FolderLock:
    """The lock of an output folder; `job` (index, number) locks the share of one of several jobs.

    Jobs of the same number of shares work side by side; else a folder has one user.
    """

    def __init__(self, folder: Path, job: tuple[int, int] = (0, 1)) -> None:
        index, number = job
        self.folder = folder
        self.path = folder / (LOCK if number == 1 else f"{LOCK}-{index}-of-{number}")
        self._beside = re.compile(rf"\.lock-\d+-of-{number}" if number > 1 else r"(?!)")
        self._file: int | None = None
        self._made = False

    def acquire(self) -> None:
        """Take the lock, or raise OutputDiffers (exit 3) saying which process holds it and since when."""
        self._made = not self.folder.is_dir()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FclipError(f"{self.folder}: cannot be made ({error.strerror}); choose another --out") from None
        deadline = time.monotonic() + PATIENCE
        while held := self._in_the_way():
            if time.monotonic() > deadline:
                raise OutputDiffers(f"{self.folder}: {_holder(held)}")
            time.sleep(0.05)

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._file is None:
            return
        self.path.unlink(missing_ok=True)  # while it is held: who opened this file before sees that it is gone
        os.close(self._file)
        self._file = None
        _HELD.discard(self.path.resolve())
        if self._made:
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if nothing came of it

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock inside the block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _in_the_way(self) -> Path | None:
        """Take the lock; nothing is taken when a lock file that another process holds (returned) excludes it."""
        if not self._take():
            return self.path
        held = self._other_holder()
        if held:
            self.release()
        return held

    def _take(self) -> bool:
        """Open and lock the file; False when another process has it."""
        if self.path.resolve() in _HELD:
            return False
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise FclipError(f"{self.folder}: cannot be written ({error.strerror}); choose another --out") from None
        if not _lock(file, self.path) or not _same_file(file, self.path):
            os.close(file)
            return False
        self._file = file
        with contextlib.suppress(OSError):  # on a full disk it is held all the same
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(_this_process()).encode(), 0)
        _HELD.add(self.path.resolve())
        return True

    def _other_holder(self) -> Path | None:
        """The lock file of another share that a process holds and that excludes this one."""
        for path in sorted(self.folder.glob(f"{LOCK}*")):
            if path != self.path and not self._beside.fullmatch(path.name) and _is_held(path):
                return path
        return None


def _lock(file: int, path: Path) -> bool:
    """Lock an open file without waiting."""
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except ImportError:
        pass
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno not in _NO_LOCKS:
            raise
    owner = _owner(path)
    here, ended = owner.get("host") == socket.gethostname(), not is_running(int(owner.get("pid", 0)))
    return not owner or (here and (ended or owner["pid"] == os.getpid()))


def _is_held(path: Path) -> bool:
    """Whether a process holds the lock of this file; the file of one that ended is removed."""
    if path.resolve() in _HELD:
        return True
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not _lock(file, path):
            return True
        if _same_file(file, path):
            path.unlink(missing_ok=True)
        return False
    finally:
        os.close(file)


def _same_file(file: int, path: Path) -> bool:
    """Whether the name still means the open file (who held it before may just have removed it)."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _owner(path: Path) -> dict[str, Any]:
    if path.resolve() in _HELD:
        return _this_process()  # to open and close the file would end this process's own lock
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) and isinstance(value.get("pid"), int) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _holder(path: Path) -> str:
    """The sentence about who holds a lock."""
    owner = _owner(path)
    who = f"process {owner['pid']} on {owner.get('host')} since {owner.get('since')}" if owner else "another process"
    elsewhere = f" (if it runs no more, delete {path})" if owner.get("host") not in (None, socket.gethostname()) else ""
    return f"in use by {who}; wait for it, or choose another --out{elsewhere}"
