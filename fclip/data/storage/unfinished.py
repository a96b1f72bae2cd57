"""Captions of a shard that is still being worked on, so that a run that was cut off does not ask for them again."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fclip.errors import FclipError

if TYPE_CHECKING:
    from fclip.records import CaptionRecord


class Journal:
    """An append-only file beside the shard: a line for each caption, under the hash of all that it was made from.

    A line that was cut off, or whose hash nobody asks for any more, does no harm. `remove` it when the shard is done.
    """

    def __init__(self, path: Path, resume: bool = True) -> None:
        from fclip.files import log_rows

        self.path, self._lock = path, threading.Lock()
        if not resume:
            self.remove()
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        self._known = {str(row.get("input")): row.get("record") for row in log_rows(lines)}

    def find(self, digest: str) -> CaptionRecord | None:
        """The caption made from the input of this hash, or None."""
        from fclip.data.storage.captions import caption_from_dict

        try:
            return caption_from_dict(str(self.path), self._known[digest])
        except (KeyError, FclipError):
            return None

    def add(self, digest: str, record: CaptionRecord) -> None:
        """Append a caption under the hash of its input; from any thread."""
        with self._lock, self.path.open("ab") as file:  # the newline in front ends a line that was cut off
            file.write(b"\n" + json.dumps({"input": digest, "record": asdict(record)}).encode())

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)
