"""What every data-set adapter shares: the Dataset record, its options, safe paths, unique keys, label names."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fclip.data.media.images import natural_key
from fclip.errors import FclipError
from fclip.files import resource_json
from fclip.records import Clip, make_key

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".wmv",
        ".flv",
        ".mpg",
        ".mpeg",
        ".m4v",
        ".gif",
        ".ts",
        ".mts",
        ".m2ts",
        ".3gp",
        ".ogv",
        ".264",
        ".h264",
        ".265",
        ".hevc",
    }
)
_MAX_LIST_BYTES = 256 << 20  # no split file is larger

Folds = dict[str, dict[str, list[str]]]


@dataclass
class Dataset:
    """A data set as its release describes it, before any frame is decoded.

    `folds` maps a fold's name to the parts it trains and tests on. For the validation: `declared` gives the clip
    keys of each fold and side as the split files list them (repeats kept); `media` is the folder whose entries, at
    `depth` levels below it, should be the clips and nothing else; `published` names the table of published counts;
    `problems` are contradictions found while reading.
    """

    name: str
    source: Path
    classes: tuple[str, ...]
    clips: list[Clip]
    folds: Folds
    declared: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    media: Path | None = None
    depth: int = 1
    published: str | None = None
    problems: list[str] = field(default_factory=list)


@cache
def published_facts(name: str) -> dict[str, Any]:
    """Published counts, label spellings and class orders of an official data set (resources/datasets/<name>.json)."""
    return dict(resource_json(f"datasets/{name}.json"))


@cache
def class_names(name: str) -> tuple[str, ...]:
    """The canonical class names of a data set, in order (resources/classes.json)."""
    return tuple(resource_json("classes.json")[name])


# --- paths --------------------------------------------------------------------------------------------------------


def inside(root: Path, relative: str, where: str) -> Path:
    """`root / relative`, refused with FclipError if it leaves `root` (by `..`, an absolute path, or through a link).

    `where` says which file and line named the path.
    """
    posix = relative.replace("\\", "/")
    pure = PurePosixPath(posix)
    if not posix.strip() or "\0" in posix:
        raise FclipError(f"{where}: empty or unreadable path")
    outside = pure.is_absolute() and not pure.is_relative_to(root.resolve())
    if outside or PureWindowsPath(relative).drive or ".." in pure.parts:
        raise FclipError(
            f"{where}: path {relative!r} leads out of {root.resolve()}; move the list to a folder above what it names"
        )
    path = root / pure.relative_to(root.resolve()) if pure.is_absolute() else root / pure
    if not path.resolve().is_relative_to(root.resolve()):
        raise FclipError(f"{where}: {relative!r} is a link that leads out of {root}; copy the file into the folder")
    return path


def require(path: Path, what: str) -> Path:
    """`path` if it exists, else FclipError saying what was looked for."""
    if not path.exists():
        raise FclipError(f"{path}: no such {'folder' if not path.suffix else 'file'}; {what}")
    return path


def first_existing(root: Path, names: Iterable[str], what: str) -> Path:
    """The first of `root / name` that exists; releases and their mirrors name the same folder differently."""
    names = list(names)
    for name in names:
        if (root / name).exists():
            return root / name
    raise FclipError(f"{root}: found none of {', '.join(names)}; {what}")


def list_media(folder: Path) -> list[Path]:
    """Videos and sub-folders of a folder in natural order, hidden ones left out."""
    entries = [
        Path(entry.path)
        for entry in os.scandir(folder)
        if not entry.name.startswith(".") and (entry.is_dir() or Path(entry.name).suffix.lower() in VIDEO_SUFFIXES)
    ]
    return sorted(entries, key=lambda path: (natural_key(path.name), path.name))


# --- text files -----------------------------------------------------------------------------------------------------


def _read_text(path: Path, encoding: str) -> str:
    require(path, "the data set's split file")
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise FclipError(f"{path}: over {_MAX_LIST_BYTES >> 20} MiB; this is no split file")
    try:
        return path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise FclipError(f"{path}: not {encoding} text (byte {error.start}); is it the right file?") from error


def read_lines(path: Path, encoding: str = "utf-8-sig") -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of the non-empty lines of a split file."""
    for number, line in enumerate(_read_text(path, encoding).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def read_table(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows (line number, {column: text}) of a comma-separated file with a header that has the `required` columns."""
    reader = csv.reader(io.StringIO(_read_text(path, "utf-8-sig"), newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in required if name not in header]
        if missing:
            raise FclipError(f"{path}: no column {', '.join(missing)} in its header ({','.join(header)[:80]})")
        rows = []
        for values in filter(None, reader):
            if len(values) > len(header):
                raise FclipError(f"{path}: line {reader.line_num}: {len(values)} values for {len(header)} columns")
            values += [""] * (len(header) - len(values))
            rows.append((reader.line_num, dict(zip(header, (value.strip() for value in values), strict=True))))
    except csv.Error as error:
        raise FclipError(f"{path}: line {reader.line_num}: not comma-separated text ({error})") from error
    return rows


# --- names ----------------------------------------------------------------------------------------------------------


def match_label(text: str, classes: Sequence[str], spellings: dict[str, str], where: str) -> str:
    """The class that a label text means: itself, another case, or a known spelling ("Happy" -> happiness)."""
    folded = text.strip().casefold()
    by_case = {name.casefold(): name for name in classes}
    name = by_case.get(folded) or by_case.get(spellings.get(folded, "").casefold())
    if name is None:
        close = difflib.get_close_matches(folded, by_case, n=1)
        hint = f"; did you mean {by_case[close[0]]}?" if close else ""
        raise FclipError(f"{where}: unknown class {text.strip()!r}; the classes are {', '.join(classes)}{hint}")
    return name


def merge_spellings(texts: Iterable[str]) -> dict[str, str]:
    """{label text: the name of its class} for labels without a list of classes.

    Texts that differ in case only, or are known spellings of one expression, are one class ("Happy", "happy",
    "happiness"). It keeps the one spelling that occurs; of several it is called by the canonical one, or the first.
    """
    groups: dict[str, list[str]] = {}
    for text in sorted(set(texts)):
        folded = text.strip().casefold()
        groups.setdefault(spellings().get(folded, folded), []).append(text)
    names = {key: group[0].strip() if len(group) == 1 else _common_name(key, group) for key, group in groups.items()}
    return {text: names[key] for key, group in groups.items() for text in group}


def _common_name(key: str, group: Sequence[str]) -> str:
    return key if key in spellings().values() else group[0].strip()


@cache
def spellings() -> dict[str, str]:
    """Known spellings of expression names, lower case -> canonical name (resources/datasets/spellings.json)."""
    return published_facts("spellings")


def unique_keys(names: Sequence[str]) -> list[str]:
    """Valid keys for relative paths: the path without suffix; names that would collide get a hash of the path."""
    plain = [make_key(re.sub(r"\.[A-Za-z0-9]{1,5}$", "", name)) for name in names]
    uses = Counter(plain)
    return [
        key if uses[key] == 1 else f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for key, name in zip(plain, names, strict=True)
    ]


# --- folds ----------------------------------------------------------------------------------------------------------


def cross_validation(parts: Iterable[str]) -> Folds:
    """One fold per part: fold k tests on the k-th part (natural order) and trains on the others."""
    names = sorted(set(parts), key=natural_key)
    return {
        str(index): {"train": [part for part in names if part != name], "test": [name]}
        for index, name in enumerate(names, start=1)
    }


def single_split(parts: Iterable[str]) -> Folds:
    """The one fold of a data set with parts "train" and "test" (either may be missing); other parts train."""
    names = sorted(set(parts), key=natural_key)
    return {
        "1": {
            "train": [part for part in names if part not in ("test", "val")],
            "test": [part for part in names if part == "test"],
        }
    }
