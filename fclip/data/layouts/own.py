"""A user's own clips: a folder of class folders, or a CSV file with the columns path,label[,part][,caption]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fclip.config import option
from fclip.data.layouts.base import (
    Dataset,
    Folds,
    cross_validation,
    inside,
    list_media,
    match_label,
    read_table,
    require,
    single_split,
    spellings,
    unique_keys,
)
from fclip.data.layouts.grouping import draw_parts
from fclip.data.media.images import list_frames
from fclip.errors import FclipError, UsageError
from fclip.records import Clip, make_key
from fclip.registry import register


@dataclass(frozen=True)
class OwnOptions:
    """Options of a user's own clips."""

    classes: tuple[str, ...] = option((), "class names in order [those of the labels, sorted]", output=True)
    folds: int | None = option(None, "folds to draw [one 80/20 split]", output=True)
    seed: int = option(0, "seed of the draw", output=True)


@register(OwnOptions, named_by_source=True)
def read_folder(source: Path, options: OwnOptions) -> Dataset:
    """Read `<source>/<class>/<clip>` where a clip is a video file, a folder of frames, or one picture.

    A folder inside a class folder that holds clips instead of pictures is a group (a person): its clips stay on one
    side of every fold. Parts are drawn: `options.folds` of them, or one 80/20 split.
    """
    folders = [path for path in list_media(require(source, "the folder of class folders")) if path.is_dir()]
    members = {folder.name: _members(folder) for folder in folders}
    found = [(name, *member) for name, clips_of in members.items() for member in clips_of]
    if not found:
        raise FclipError(f"{source}: no clips; expected <class>/<video file, folder of frames or picture> below it")
    classes = _class_list([label for label, _, _ in found], options.classes)
    labels = [match_label(label, classes, spellings(), f"{source / label}") for label, _, _ in found]
    paths = [path.relative_to(source).as_posix() for _, path, _ in found]
    for path in paths:
        inside(source, path, str(source))
    parts, folds = draw_parts(labels, [group for _, _, group in found], options.folds, options.seed)
    clips = [
        Clip(key, str(source / path), label, part, None, {"path": path} | ({} if "/" in group else {"identity": group}))
        for key, path, label, part, (_, _, group) in zip(unique_keys(paths), paths, labels, parts, found, strict=True)
    ]
    problems = [f"class folder {name} holds no clips" for name, clips_of in members.items() if not clips_of]
    return Dataset(make_key(source.resolve().name), source, classes, clips, folds, problems=problems)


def _members(folder: Path) -> list[tuple[Path, str]]:
    """(clip, group) of one class folder; a clip outside a group folder is a group of its own."""
    members = [(path, f"{folder.name}/{path.name}") for path in list_frames(folder)]
    for path in list_media(folder):
        if path.is_dir() and not list_frames(path):
            members += [(clip, path.name) for clip in list_media(path) if clip.is_file() or list_frames(clip)]
        else:
            members.append((path, f"{folder.name}/{path.name}"))
    return members


@register(OwnOptions, named_by_source=True)
def read_csv(source: Path, options: OwnOptions) -> Dataset:
    """Read a CSV file; paths are relative to its folder.

    Columns: path, label; optional part (train/test, or one name per fold), caption, identity (people, kept together
    when parts are drawn). Without parts they are drawn as for `read_folder`.
    """
    if source.is_dir():
        raise UsageError(f"--source {source}: give the CSV file itself, not its folder")
    rows = read_table(source, ("path", "label"))
    if not rows:
        raise FclipError(f"{source}: no clips; the file has a header only")
    root = source.parent
    classes = _class_list([row["label"] for _, row in rows], options.classes)
    paths = [inside(root, row["path"], f"{source}: line {line}") for line, row in rows]
    _check_files(source, rows, paths)
    labels = [match_label(row["label"], classes, spellings(), f"{source}: line {line}") for line, row in rows]
    parts, folds = _parts(source, rows, labels, options)
    places = [path.relative_to(root).as_posix() for path in paths]
    keys = unique_keys(places)
    clips = [
        Clip(
            key,
            str(path),
            label,
            part,
            row.get("caption") or None,
            {"path": place} | ({"identity": row["identity"]} if row.get("identity") else {}),
        )
        for key, place, path, label, part, (_, row) in zip(keys, places, paths, labels, parts, rows, strict=True)
    ]
    return Dataset(make_key(source.stem), root, classes, clips, folds)


def _class_list(labels: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """The class names in order: those given, else the sorted labels."""
    names = [name.strip() for name in given] if given else sorted({label.strip() for label in labels})
    for name in names:
        if not name or not name.isprintable():
            raise FclipError(f"{name!r} is no class name; correct the labels or give --classes")
        if [other.casefold() for other in names].count(name.casefold()) > 1:
            raise FclipError(f"class {name!r} comes twice, apart from case; correct the labels or give --classes")
    return tuple(names)


def _check_files(source: Path, rows: list[tuple[int, dict[str, str]]], paths: list[Path]) -> None:
    missing = [(line, row["path"]) for (line, row), path in zip(rows, paths, strict=True) if not path.exists()]
    if missing:
        line, name = missing[0]
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise FclipError(f"{source}: line {line}: {name!r}: no such file{more}; paths are relative to {source.parent}")
    first_line: dict[Path, int] = {}
    for (line, row), path in zip(rows, paths, strict=True):
        if path in first_line:
            raise FclipError(f"{source}: line {line}: {row['path']!r} is already listed in line {first_line[path]}")
        first_line[path] = line


def _parts(
    source: Path, rows: list[tuple[int, dict[str, str]]], labels: list[str], options: OwnOptions
) -> tuple[list[str], Folds]:
    """The parts of the file's own column, else drawn ones."""
    parts = [row.get("part", "") for _, row in rows]
    if not any(parts):
        groups = [row.get("identity") or row["path"] for _, row in rows]
        return draw_parts(labels, groups, options.folds, options.seed)
    if options.folds:
        raise UsageError(f"--folds {options.folds}: {source} has a part column already; leave one of them out")
    for (line, _), part in zip(rows, parts, strict=True):
        if not part or make_key(part) != part:
            raise FclipError(f"{source}: line {line}: part {part!r}; use letters, digits, _ and - only")
    named = set(parts) <= {"train", "test", "val"} or len(set(parts)) == 1
    return parts, single_split(parts) if named else cross_validation(parts)
