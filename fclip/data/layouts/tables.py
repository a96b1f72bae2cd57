"""Lists as people keep them: any usual delimiter and encoding, columns under their usual names."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from fclip.data.layouts.base import published_facts, require
from fclip.data.media.files import is_pointer
from fclip.errors import FclipError, UsageError

Rows = list[tuple[int, dict[str, str]]]  # line number, {column: text}
_MAX_LIST_BYTES = 256 << 20  # no split file is larger
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_CODE_PAGES = ("gb18030", "shift_jis", "cp949", "cp1251", "cp1252")  # of spreadsheets, strictest first
_DELIMITERS = ",;\t|"


@cache
def usual_columns() -> dict[str, list[str]]:
    """The usual names of each column, lower case without blanks, `_` and `-` (resources/datasets/lists.json)."""
    return dict(published_facts("lists")["columns"])


@dataclass
class Table:
    """A list with a header: its rows, whose columns have the names of `usual_columns`, and the columns not used."""

    rows: Rows
    unused: list[str] = field(default_factory=list)


def read_lines(path: Path, encoding: str = "utf-8-sig") -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of the non-empty lines of a split file."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", _read_text(path, encoding)), start=1):
        if line.strip():
            yield number, line


def read_table(path: Path, required: Sequence[str], encoding: str | None = None) -> Rows:
    """Rows of a list with a header that has the `required` columns, between commas, semicolons, tabs or bars."""
    header, rows = _parse(path, required, encoding, {name: [name] for name in required})
    for name in required:
        header[_find(header, [_plain(name)]) or 0] = name
    return [(line, dict(zip(header, values, strict=True))) for line, values in rows]


def read_named(path: Path, required: Sequence[str], encoding: str | None = None) -> Table:
    """As read_table; the columns may have any of their usual names (`subject` for identity, `split` for part)."""
    columns = usual_columns()
    header, rows = _parse(path, required, encoding, columns)
    taken = {name: place for name in columns if (place := _find(header, columns[name])) is not None}
    unused = [name or f"column {place + 1}" for place, name in enumerate(header) if place not in taken.values()]
    named = [(line, {name: values[place] for name, place in taken.items()}) for line, values in rows]
    return Table(named, unused)


def _find(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The place of the column with the first of these names that is there."""
    plain = [_plain(name) for name in header]
    return next((plain.index(name) for name in names if name in plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name)


def _parse(
    path: Path, required: Sequence[str], encoding: str | None, names: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """(columns in lower case, rows of as many texts); the delimiter is the one that shows the required columns."""
    text = _read_text(path, encoding or "utf-8-sig", asked=encoding is not None)
    start = re.match(r"sep=(.)\r?\n", text)  # Excel's own way to name it
    skipped = 1 if start else 0
    text = text[start.end() :] if start else text
    found = []
    for delimiter in [start[1]] if start else _DELIMITERS:
        header = _header(text, delimiter)
        missing = [name for name in required if _find(header, [_plain(n) for n in names[name]]) is None]
        found.append((len(missing), delimiter, header, missing))
    lacking, delimiter, header, missing = min(found, key=lambda each: each[0])
    if lacking:
        also = "".join(f" ({name} may also be called {', '.join(names[name][1:5])})" for name in missing[:1])
        raise FclipError(
            f"{path}: no column {', '.join(missing)} in its header ({','.join(header)[:80]})"
            f"{also if len(names[missing[0]]) > 1 else ''}"
        )
    return header, list(_rows(path, text, delimiter, len(header), skipped))


def _header(text: str, delimiter: str) -> list[str]:
    try:
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []
    return [name.strip().lower() for name in first]


def _rows(path: Path, text: str, delimiter: str, width: int, skipped: int) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        next(reader, None)
        for values in filter(None, reader):
            while len(values) > width and not values[-1].strip():
                values.pop()  # a spreadsheet's empty columns
            line = reader.line_num + skipped
            if len(values) > width:
                raise FclipError(f"{path}: line {line}: {len(values)} values for {width} columns")
            if any(value.strip() for value in values):
                yield line, [value.strip() for value in values] + [""] * (width - len(values))
    except csv.Error as error:
        line = reader.line_num + skipped
        raise FclipError(f"{path}: line {line}: not comma-separated text ({error})") from error


def _read_text(path: Path, encoding: str, asked: bool = False) -> str:
    """A list's text in its encoding; a byte-order mark says more than `encoding` does."""
    require(path, "the data set's split file")
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise FclipError(f"{path}: over {_MAX_LIST_BYTES >> 20} MiB; this is no split file")
    data = path.read_bytes()
    if is_pointer(path):
        raise FclipError(f"{path}: a git-lfs pointer, not the list itself; fetch it with: git lfs pull")
    if data.startswith(b"PK\3\4"):
        raise FclipError(f"{path}: a workbook or an archive, not text; save the sheet as CSV (UTF-8)")
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    encoding = marked or encoding
    if not marked and not asked and b"\0" in data[:64]:
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        return data.decode(encoding)
    except LookupError:
        raise UsageError(f"--encoding {encoding}: no such encoding; give utf-8, cp1252, gb18030 ...") from None
    except UnicodeDecodeError as error:
        hint = "is it the right file?" if asked or encoding != "utf-8-sig" else _guess(data)
        raise FclipError(f"{path}: not {encoding} text (byte {error.start}); {hint}") from error


def _guess(data: bytes) -> str:
    """What a list that is not UTF-8 may be: the code pages in which it is text."""
    fitting = []
    for name in _CODE_PAGES:
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        if all(char.isprintable() or char.isspace() for char in text):
            fitting.append(name)
    if not fitting:
        return "is it the right file?"
    return f"a spreadsheet's code page? give --encoding {' or '.join(fitting)}, or save it as UTF-8"
