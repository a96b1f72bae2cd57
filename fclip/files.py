"""Files that appear whole or not at all: atomic writing, hashing, canonical JSON."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fclip.errors import FclipError

MAX_JSON_BYTES = 256 << 20


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a path `.{name}.{pid}.tmp` beside `path`, which becomes `path` when the block ends well.

    The file is flushed to the disk before it is renamed, so that a reader sees the old file or the whole new
    one, also after a power cut. Any exception (Ctrl-C too) removes the temporary file and leaves `path` as it
    was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def log_rows(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The JSON objects of the lines of a log that is appended to; a line that a crash cut off is left out."""
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


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
        if path.stat().st_size > MAX_JSON_BYTES:
            raise FclipError(f"{path}: larger than {MAX_JSON_BYTES} bytes; this is no fclip JSON file")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FclipError(f"{path}: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise FclipError(f"{path}: not valid JSON ({error}); make the file again") from error
