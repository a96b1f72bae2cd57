"""Captions of the same clips by several captioners, side by side, with the facial parts that each names (Fig. 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from fclip.data.storage.captions import read_captions
from fclip.errors import FclipError
from fclip.files import resource_json
from fclip.records import CaptionRecord
from fclip.report.page.blocks import Block, Cell, Flag, Measure, Table, Text
from fclip.runner.workspace import list_shards


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """resources/captions/parts.json: part of the face -> words that name it, also in the plural."""
    table: Mapping[str, Sequence[str]] = resource_json("captions/parts.json")
    return {part: re.compile(rf"\b(?:{'|'.join(words)})s?\b", re.IGNORECASE) for part, words in table.items()}


def named_parts(text: str) -> list[str]:
    """The parts of the face that a caption names, each once, from the forehead down."""
    return [part for part, pattern in _patterns().items() if pattern.search(text)]


def compare_captioners(folders: Sequence[Path], clips: int) -> list[Block]:
    """How many facial parts each folder's captions name, over the clips that all have, and up to `clips` of them whole.

    Raises FclipError where the folders have no clip in common.
    """
    found = {folder: _read(folder) for folder in folders}
    keys = [key for key in next(iter(found.values())) if all(key in records for records in found.values())]
    if not keys:
        raise FclipError(f"{', '.join(map(str, folders))}: no clip has a caption in all of them")
    columns = list(_patterns())
    counts: list[list[Cell]] = []
    texts: list[list[Cell]] = []
    for folder, records in found.items():
        named = [named_parts(records[key].text) for key in keys]
        share = {part: 100 * sum(part in parts for parts in named) / len(keys) for part in columns}
        about = _about(records[keys[0]])
        words = sum(len(records[key].text.split()) for key in keys) / len(keys)
        counts.append([folder.name, about, Measure(words), Measure(sum(map(len, named)) / len(keys)), *share.values()])
    for key in keys[:clips]:
        for folder, records in found.items():
            parts = named_parts(records[key].text)
            texts.append([key, folder.name, len(parts), ", ".join(parts) or None, records[key].text])
    return [
        Text(
            f"{len(keys)} clips that all describe; of each part of the face, the share of captions that name it in %."
        ),
        Table(["captions", "captioner", "words", "parts named", *columns], counts),
        Table(["clip", "captions", "number of parts", "parts named", "text"], texts),
    ]


def _about(record: CaptionRecord) -> Cell:
    return Flag(f"{record.model}, SAW THE LABEL") if record.label_shown else f"{record.model}, label-blind"


def _read(folder: Path) -> dict[str, CaptionRecord]:
    shards = [path for path, _ in list_shards(folder, ".jsonl", "captions")]
    return {key: record for path in shards for key, record in read_captions(path).items()}
