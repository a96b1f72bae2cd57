"""Files: atomic writing (whole or not at all), hashing, canonical JSON, and the data files that fclip brings."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fclip.errors import FclipError

MAX_JSON_BYTES = 256 << 20


@contextmanager
def atomic_write(path: str | Path, apart: bool = False) -> Iterator[Path]:
    """Yield a path `.{name}.{pid}.tmp` beside `path`, which becomes `path` when the block ends well.

    `apart`: a path in a folder of that name, for libraries that make temporary files of their own beside theirs.

    The file is flushed to the disk before it is renamed, and its folder after, so that a reader sees the old file or
    the whole new one, also after a power cut. Any exception (Ctrl-C too) removes the temporary file and leaves `path`
    as it was. What a killed process left of an earlier try is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _left_over(path.parent):
        if _written_by(left) == path.name:
            remove_if_left(path.with_name(left))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    place = temporary / path.name if apart else temporary
    try:
        if apart:
            temporary.mkdir()
        yield place
        with open(place, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(place, path)
    except BaseException:
        _remove(temporary)
        raise
    if apart:
        _remove(temporary)
    sync_folder(path.parent)


def _remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@cache
def _left_over(folder: Path) -> list[str]:
    """Temporary files that lay in a folder when this process first wrote there (large folders are listed once)."""
    return [name for name in os.listdir(folder) if name.startswith(".") and name.endswith(".tmp")]


def _written_by(temporary: str) -> str:
    """The name that a temporary file of atomic_write was to get."""
    return temporary[1:].rsplit(".", 2)[0]


def remove_if_left(temporary: Path) -> None:
    """Delete a temporary file `.name.<pid>.tmp` whose process is gone."""
    pid = temporary.name.split(".")[-2]
    if not (pid.isdigit() and int(pid) != os.getpid() and is_running(int(pid))):
        _remove(temporary)


def is_running(pid: int) -> bool:
    """Whether a process of this machine is alive; one that ended but was not waited for (a zombie) is not."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except (OSError, IndexError):
        return True  # somebody else's process, or a system without /proc


def check_regular(path: Path) -> os.stat_result:
    """The state of a file that is to be read whole; OSError if it is not there, or has no end (a device, a pipe)."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        text = os.strerror(errno.EISDIR) if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise OSError(errno.EISDIR, text, str(path))
    return found


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, so that a rename in it outlives a power cut.

    Systems and file systems that cannot do this for folders (Windows, some network disks) are left as they are.
    """
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(number)
    except OSError:
        pass
    finally:
        os.close(number)


def resource_path(name: str) -> Path:
    """Path of a data file of the package, fclip/resources/<name>."""
    return Path(str(resources.files("fclip"))) / "resources" / name


@cache
def resource_text(name: str) -> str:
    """Text of a data file of the package, fclip/resources/<name>, read once."""
    return resource_path(name).read_text(encoding="utf-8")


@cache
def resource_json(name: str) -> Any:
    """Content of a JSON data file of the package, read once; callers must not change what they get."""
    return json.loads(resource_text(name))


def log_rows(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The JSON objects of the lines of a log that is appended to; a line that cannot be read is left out."""
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def cache_folder() -> Path:
    """Where what can be brought or made again lies: $XDG_CACHE_HOME/fclip, by default ~/.cache/fclip."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fclip"


def readable_size(count: int) -> str:
    """Bytes as MB or GB (powers of ten), three digits."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def sha256_file(path: str | Path) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Return the sha256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def json_bytes(obj: Any) -> bytes:
    """Return `obj` as one line of canonical JSON: sorted keys, UTF-8, no spaces, no NaN."""
    text = json.dumps(obj, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` atomically as readable canonical JSON (sorted keys, indent 1, final newline)."""
    text = json.dumps(obj, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; raise FclipError in one line if it is missing, too large or not JSON."""
    path = Path(path)
    try:
        if check_regular(path).st_size > MAX_JSON_BYTES:
            raise FclipError(f"{path}: larger than {MAX_JSON_BYTES} bytes; this is no fclip JSON file")
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise FclipError(f"{path}: {error.strerror}; check the path") from error


def parse_json(data: bytes | str, where: str) -> Any:
    """JSON text as values; FclipError in one line, beginning with `where`, if it is none (NaN is not JSON either)."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FclipError(f"{where}: not valid JSON ({error}); make the file again") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
