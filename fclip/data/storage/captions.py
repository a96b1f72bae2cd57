"""Captions on disk: one JSON line per clip, written canonically and read strictly."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fclip.errors import FclipError
from fclip.files import atomic_write, json_bytes
from fclip.records import CaptionRecord, check_key
from fclip.runner.verify import verified

MAX_LINE_BYTES = 256 << 10
_KINDS: dict[str, type] = {
    "key": str,
    "text": str,
    "model": str,
    "revision": str,
    "prompt_sha256": str,
    "frames": list,
    "decoding": dict,
    "label_shown": bool,
    "removed": list,
}


def write_captions(path: str | Path, records: Iterable[CaptionRecord]) -> None:
    """Write captions atomically, one canonical JSON line each, in the order given."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        for record in records:
            check_key(record.key)
            file.write(json_bytes(asdict(record)) + b"\n")


def read_captions(path: str | Path) -> dict[str, CaptionRecord]:
    """Read captions as {key: record}, in the file's order.

    Raises FclipError for a file that is not the one on record, and naming file and line for anything but exactly the
    fields of CaptionRecord with their types, and for a key that comes twice.
    """
    records: dict[str, CaptionRecord] = {}
    try:
        with open(verified(path), "rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                record = _parse_line(f"{path}:{number}", line)
                if record.key in records:
                    raise FclipError(f"{path}:{number}: clip {record.key} comes twice; keep one of its lines")
                records[record.key] = record
    except OSError as error:
        raise FclipError(f"{path}: {error.strerror}; check the path") from error
    return records


def caption_from_dict(where: str, value: Any) -> CaptionRecord:
    """Build a CaptionRecord from parsed JSON; `where` (file and line, or member) starts the error's text."""
    if not isinstance(value, dict):
        raise FclipError(f"{where}: not a JSON object; one caption record is expected")
    if value.keys() != _KINDS.keys():
        odd = ", ".join(sorted(value.keys() ^ _KINDS.keys()))
        raise FclipError(f"{where}: missing or unknown fields: {odd}")
    for name, kind in _KINDS.items():
        if type(value[name]) is not kind:
            raise FclipError(f"{where}: {name} is {type(value[name]).__name__}, not {kind.__name__}")
    if not all(type(frame) is int for frame in value["frames"]):
        raise FclipError(f"{where}: frames must be whole numbers")
    if not all(_is_text_pair(pair) for pair in value["removed"]):
        raise FclipError(f"{where}: removed must be pairs of text and reason")
    check_key(value["key"])
    return CaptionRecord(**{**value, "removed": [tuple(pair) for pair in value["removed"]]})


def _parse_line(where: str, line: bytes) -> CaptionRecord:
    if len(line) > MAX_LINE_BYTES:
        raise FclipError(f"{where}: line longer than {MAX_LINE_BYTES} bytes; this is no caption file")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FclipError(f"{where}: not valid JSON ({error})") from error
    return caption_from_dict(where, value)


def _is_text_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
