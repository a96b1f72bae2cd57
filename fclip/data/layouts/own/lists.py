"""A user's own clips in a list: a table with a column for the file, one for the label, and what else is known."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fclip.config import option
from fclip.data.layouts.base import Dataset, Folds, unique_keys
from fclip.data.layouts.grouping import draw_parts, fold_parts, named_parts
from fclip.data.layouts.labels import read_labels
from fclip.data.layouts.own.folders import OwnOptions
from fclip.data.layouts.tables import Rows, read_named
from fclip.errors import FclipError, UsageError
from fclip.records import Clip, make_key
from fclip.registry import register
from fclip.runner.remote import is_url, local_name

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?|[.,]\d+)")
Stretch = tuple[float | None, float | None]


@dataclass(frozen=True)
class CsvOptions(OwnOptions):
    """Options of a list of clips."""

    media: Path | None = option(None, "folder that relative file names start from [the list's own]", output="given")
    encoding: str | None = option(None, "encoding of the list, e.g. cp1252, gb18030 [UTF-8 or UTF-16]", output="given")


@dataclass(frozen=True)
class _Row:
    """A line of the list: where it stands, its file or URL, its name for keys, and its stretch in seconds."""

    where: str
    values: dict[str, str]
    source: str
    place: str
    stretch: Stretch


@register(CsvOptions, named_by_source=True)
def read_csv(source: Path, options: CsvOptions) -> Dataset:
    """Read a list of clips: comma, semicolon or tab between its columns; which are known under their usual names.

    Columns: path and label; optional part (train, val, test, or one name per fold) or fold, caption, identity (people,
    kept together when parts are drawn), start and end (seconds or h:m:s: the clip is that stretch of the video).
    Without parts they are drawn as for a folder. A file that is missing is a clip that fails.
    """
    if source.is_dir():
        raise UsageError(f"--source {source}: give the CSV file itself, not its folder")
    table = read_named(source, ("path", "label"), options.encoding)
    if not table.rows:
        raise FclipError(f"{source}: no clips; the file has a header only")
    root, rows = _locate(source, table.rows, options.media)
    _check_rows(source, rows)
    labels = read_labels([row.values["label"] for row in rows], options.classes, lambda i: rows[i].where)
    parts, folds, told = _parts(source, rows, labels.of_clips, options)
    unused = [*table.unused, *(["fold (part says it)"] if _column(rows, "fold") and _column(rows, "part") else [])]
    remarks = [*([f"not used: {', '.join(unused)}"] if unused else []), *told, *labels.remarks]
    clips = [
        Clip(key, row.source, label, part, row.values.get("caption") or None, _meta(row))
        for key, row, label, part in zip(unique_keys(list(map(_name, rows))), rows, labels.of_clips, parts, strict=True)
    ]
    return Dataset(make_key(source.stem), root, labels.classes, clips, folds, remarks=remarks, own=True)


def _locate(source: Path, lines: Rows, media: Path | None) -> tuple[Path, list[_Row]]:
    """The folder that clips are named from, and the rows with their files.

    It is the list's own folder (or `media`) where all files lie below that, else the one that they have in common.
    """
    if media is not None and not media.is_dir():
        raise UsageError(f"--media {media}: no such folder; relative file names of the list start from it")
    base = media or source.parent
    real, top, rows = base.resolve(), os.path.normpath(base.absolute()), []
    for line, values in lines:
        where, text = f"{source}: line {line}", values["path"].replace("\\", "/")
        if not text.strip() or "\0" in text:
            raise FclipError(f"{where}: empty or unreadable path")
        stretch = _stretch(values, where)
        if is_url(values["path"]) and (text := local_name(values["path"])) == values["path"]:
            rows.append(_Row(where, values, text, f"{top}/{urlsplit(text).netloc}{urlsplit(text).path}", stretch))
            continue
        named = Path(text)
        path = base / (named.relative_to(real) if named.is_relative_to(real) else named)
        rows.append(_Row(where, values, str(path), os.path.normpath(path.absolute()), stretch))
    if not all(Path(row.place).is_relative_to(top) for row in rows):
        top = os.path.commonpath([os.path.dirname(row.place) for row in rows])
        base = Path(top)
    return base, [_Row(r.where, r.values, r.source, Path(r.place).relative_to(top).as_posix(), r.stretch) for r in rows]


def _stretch(values: dict[str, str], where: str) -> Stretch:
    start, end = (_seconds(values.get(name, ""), f"{where}: {name}") for name in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise FclipError(f"{where}: the clip ends at {end:g} s, before it begins ({start or 0:g} s)")
    return start, end


def _seconds(text: str, where: str) -> float | None:
    """Seconds of "12.5", "1:02.5" or "0:01:02,5"; None for nothing."""
    if not text:
        return None
    found = _CLOCK.fullmatch(text)
    if not found:
        raise FclipError(f"{where} {text!r} is no time; give seconds or h:m:s")
    hours, minutes, seconds = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds.replace(",", "."))


def _check_rows(source: Path, rows: Sequence[_Row]) -> None:
    """Raise FclipError for a clip without a label, one that comes twice, and a list none of whose files is there."""
    first: dict[tuple[str, Stretch], str] = {}
    for row in rows:
        if not row.values["label"]:
            raise FclipError(f"{row.where}: {row.values['path']!r} has no label")
        if (known := first.setdefault((row.place, row.stretch), row.where)) != row.where:
            line = known.rpartition(" ")[2]
            raise FclipError(f"{row.where}: {row.values['path']!r} is already listed in line {line}")
    if not any(is_url(row.source) or os.path.exists(row.source) for row in rows):
        more = f" (nor any of {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise FclipError(
            f"{rows[0].where}: {rows[0].values['path']!r}: no such file{more}; relative names start from "
            f"{source.parent}, or the folder that --media names"
        )


def _name(row: _Row) -> str:
    """What a clip's key is made of: its file, and its stretch of it."""
    if row.stretch == (None, None):
        return row.place
    start, end = row.stretch
    stretch = f"{start or 0:g}-{'' if end is None else format(end, 'g')}".replace(".", "_")
    return f"{os.path.splitext(row.place)[0]}_{stretch}"


def _meta(row: _Row) -> dict[str, Any]:
    values = {"path": row.place}
    identity = {"identity": row.values["identity"]} if row.values.get("identity") else {}
    return values | identity | ({"segment": list(row.stretch)} if row.stretch != (None, None) else {})


def _column(rows: Sequence[_Row], name: str) -> list[str]:
    """A column's values; [] where it is not there, or empty."""
    values = [row.values.get(name, "") for row in rows]
    return values if any(values) else []


def _parts(
    source: Path, rows: Sequence[_Row], labels: Sequence[str], options: CsvOptions
) -> tuple[list[str], Folds, list[str]]:
    """The parts of the list's own column, else drawn ones; and remarks."""
    parts, tested = _column(rows, "part"), _column(rows, "fold")
    if not parts and not tested:
        groups = [row.values.get("identity") or row.values["path"] for row in rows]
        return *draw_parts(labels, groups, options.folds, options.seed), []
    if options.folds:
        raise UsageError(f"--folds {options.folds}: {source} has a part column already; leave one of them out")
    if not parts:
        return *fold_parts(tested, str(source)), []
    parts, folds, remarks = named_parts(parts, str(source))
    for row, part in zip(rows, parts, strict=True):
        if not part or make_key(part) != part:
            raise FclipError(f"{row.where}: part {part!r}; use letters, digits, _ and - only")
    return parts, folds, remarks
