"""The sha256 of files, computed once: remembered as long as size, times and inode of a file stay the same.

What a command learns about the files of a folder that it reads is kept there, in `.verified.json`, so that later
commands need not read them again; it may be deleted at any time. A file that changed a moment before it was hashed is
not remembered: it could change once more without its time telling.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fclip.files import check_regular, sha256_file, write_json

MEMORY = ".verified.json"
TICK, SECOND = 50_000_000, 1_000_000_000  # ns: longer than a clock tick; file systems that count whole seconds
Key = tuple[int, int, int, int]  # size, modification time, change time, inode


@dataclass(frozen=True)
class FileRecord:
    """What a record says about a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Hashed:
    """A file as it was when it was hashed; `settled` says whether a later change would show in its key."""

    path: Path
    key: Key
    sha256: str
    settled: bool

    @property
    def record(self) -> FileRecord:
        """Size and hash."""
        return FileRecord(self.key[0], self.sha256)


class _Memory:
    """What this process knows about the files of one folder, from its own work and the folder's memory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.new, self.own = folder, False, False
        self.known: dict[str, tuple[Key, str]] = {}
        with contextlib.suppress(ArithmeticError, AttributeError, OSError, ValueError, TypeError, RecursionError):
            rows = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
            self.known = {
                name: ((int(a), int(b), int(c), int(d)), str(sha)) for name, (a, b, c, d, sha) in rows.items()
            }

    def save(self) -> None:
        """Keep what is new; nothing where the folder cannot be written."""
        if self.new and not self.own:
            self.new = False
            there = {
                name: [*key, sha256] for name, (key, sha256) in self.known.items() if (self.folder / name).is_file()
            }
            with contextlib.suppress(OSError):
                write_json(self.folder / MEMORY, there)


_MEMORIES: dict[Path, _Memory] = {}


def hash_file(path: Path, *, anew: bool = False) -> Hashed:
    """The hash of a file as it is now; read only if it is not known (or `anew`). Raises OSError if it is no file."""
    folder = path.parent.resolve()
    memory = _memory(folder)
    key = _key(path)
    old, sha256 = memory.known.get(path.name, (None, ""))
    if old == key and not anew:
        return Hashed(path, key, sha256, True)
    started = time.time_ns()
    sha256 = sha256_file(path)
    changed = max(key[1:3])
    settled = _key(path) == key and started - changed > (TICK if changed % SECOND else 2 * SECOND)
    hashed = Hashed(path, key, sha256, settled)
    learn([hashed])
    return hashed


def learn(hashed: Iterable[Hashed]) -> None:
    """Remember hashes, of this or of a worker process."""
    for one in hashed:
        memory = _memory(one.path.parent.resolve())
        if one.settled and memory.known.get(one.path.name) != (one.key, one.sha256):
            memory.known[one.path.name] = one.key, one.sha256
            memory.new = True


def file_record(path: Path) -> FileRecord:
    """Size and hash of a file as it is now."""
    return hash_file(path).record


def writes_into(folder: Path) -> None:
    """Say that this process writes into a folder: what it learns about its own output is not kept there."""
    _memory(folder.resolve()).own = True


def _memory(folder: Path) -> _Memory:
    if folder not in _MEMORIES:
        if not _MEMORIES:
            atexit.register(save_hashes)
        _MEMORIES[folder] = _Memory(folder)
    return _MEMORIES[folder]


def save_hashes() -> None:
    """Keep what this process learned in the folders' memories; called when it ends."""
    for memory in _MEMORIES.values():
        memory.save()


def _key(path: Path) -> Key:
    found = check_regular(path)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
