"""What every data-set adapter shares: the Dataset record, published facts, safe paths, unique keys."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fclip.data.media.files import is_hidden, is_video
from fclip.errors import FclipError
from fclip.files import resource_json
from fclip.records import Clip, make_key

Folds = dict[str, dict[str, list[str]]]


@dataclass
class Dataset:
    """A data set as its release describes it, before any frame is decoded.

    `folds` maps a fold's name to the parts it trains and tests on. For the validation: `declared` gives the clip
    keys of each fold and side as the split files list them (repeats kept); `media` is the folder whose entries, at
    `depth` levels below it, should be the clips and nothing else; `published` names the table of published counts;
    `problems` are contradictions found while reading, `remarks` what a user should know and need not change; `levels`
    says what the folders of a tree were read as ("split/class/person"); `own`: the list is a user's, not a release's.
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
    remarks: list[str] = field(default_factory=list)
    levels: str = ""
    own: bool = False

    def summary(self) -> str:
        """What was understood, in one line: "3 parts, 7 classes, 24 people, 210 clips (folders: split/class)"."""
        people = {clip.meta["identity"] for clip in self.clips if "identity" in clip.meta}
        parts = {clip.part for clip in self.clips}
        counts = [(len(parts), "parts"), (len(self.classes), "classes"), (len(people), "people")]
        text = ", ".join(f"{count} {what}" for count, what in [*counts, (len(self.clips), "clips")] if count)
        return text + (f" (folders: {self.levels})" if self.levels else "")


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
    """`root / relative`, refused with FclipError if a list names what is not below `root` (`..`, an absolute path).

    For lists that were downloaded; a user's own list may name any file (lists.py). Links are somebody's own doing and
    are followed. `where` says which file and line named the path.
    """
    posix = relative.replace("\\", "/")
    pure = PurePosixPath(posix)
    if not posix.strip() or "\0" in posix:
        raise FclipError(f"{where}: empty or unreadable path")
    outside = pure.is_absolute() and not pure.is_relative_to(root.resolve())
    if outside or PureWindowsPath(relative).drive or ".." in pure.parts:
        raise FclipError(f"{where}: path {relative!r} leads out of {root.resolve()}")
    return root / pure.relative_to(root.resolve()) if pure.is_absolute() else root / pure


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


def find_media(folder: Path, depth: int = 1) -> Iterator[Path]:
    """The clips of a release `depth` levels below a folder, in order: videos and folders, hidden ones left out."""
    for path in sorted(folder.glob("/".join("*" * depth))):
        hidden = any(is_hidden(name) for name in path.relative_to(folder).parts)
        if not hidden and (is_video(path.name) or path.is_dir()):
            yield path


def unique_keys(names: Sequence[str]) -> list[str]:
    """Valid keys for relative paths: the path without suffix; names that would collide get a hash of the path."""
    plain = [make_key(re.sub(r"\.[A-Za-z0-9]{1,5}$", "", name)) for name in names]
    uses = Counter(plain)
    return [
        key if uses[key] == 1 else f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for key, name in zip(plain, names, strict=True)
    ]
