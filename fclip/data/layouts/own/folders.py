"""A user's own clips in folders: `<class>/<clip>`, or more levels (splits, people, scenes)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fclip.config import option
from fclip.data.layouts.base import Dataset, require, unique_keys
from fclip.data.layouts.grouping import draw_parts, named_parts
from fclip.data.layouts.labels import read_labels
from fclip.data.layouts.own.levels import parse_levels, recognise_levels
from fclip.data.layouts.tree import Folder, Taken, level_names, read_tree, take_clips, unread_lines
from fclip.errors import FclipError, UsageError
from fclip.records import Clip, make_key
from fclip.registry import register


@dataclass(frozen=True)
class OwnOptions:
    """Options of a user's own clips."""

    classes: tuple[str, ...] = option((), "class names in order [those of the labels, sorted]", output=True)
    folds: int | None = option(None, "folds to draw [one 80/20 split]", output=True)
    seed: int = option(0, "seed of the draw", output=True)


@dataclass(frozen=True)
class FolderOptions(OwnOptions):
    """Options of a folder of class folders."""

    layout: str | None = option(
        None, "what the folders are, from the top: split/class/person, any, scene [by their names]", output="given"
    )
    pictures: Literal["clips", "ignore"] | None = option(
        None, "single pictures are clips, or not [not beside videos]", output="given"
    )


@register(FolderOptions, named_by_source=True)
def read_folder(source: Path, options: FolderOptions) -> Dataset:
    """Read `<source>/<class>/<clip>` where a clip is a video file, a folder of frames, or one picture.

    Folders inside a class folder that hold clips are people: their clips stay on one side of every fold. There may be
    levels above the classes, too: splits (train, val, test), people, scenes; `--layout` says what the levels are where
    their names do not. Without splits parts are drawn: `options.folds` of them, or one 80/20 split.
    """
    tree = read_tree(require(source, "the folder of class folders"))
    asked = parse_levels(options.layout) if options.layout else None
    levels = asked or recognise_levels(level_names(tree) or [set()], str(source)) if tree.has_media else ("class",)
    label = levels.index("class")
    named = len(levels) if asked else max(levels.index(level) for level in ("class", "split") if level in levels) + 1
    taken = take_clips(tree, named, label, options.pictures)
    if not taken.clips:
        raise FclipError(f"{source}: no clips; expected <class>/<video file, folder of frames or picture> below it")
    places = [path.relative_to(source).as_posix() for path, _ in taken.clips]
    found = [_named(levels, place.split("/")[:-1]) for place in places]
    texts = [names["class"] for names in found]
    labels = read_labels(texts, options.classes, lambda i: str(taken.clips[i][0].parent))
    groups = [names.get("person") or place for names, place in zip(found, places, strict=True)]
    remarks = [*labels.remarks, *unread_lines(taken)]
    if "split" in levels:
        if options.folds:
            raise UsageError(f"--folds {options.folds}: {source} has a level of splits already; leave one of them out")
        parts, folds, told = named_parts([names.get("split", "") for names in found], str(source))
        remarks = told + remarks
    else:
        parts, folds = draw_parts(labels.of_clips, groups, options.folds, options.seed)
    clips = [
        Clip(key, str(source / place), label, part, None, {"path": place} | _meta(names))
        for key, place, label, part, names in zip(
            unique_keys(places), places, labels.of_clips, parts, found, strict=True
        )
    ]
    return Dataset(
        make_key(source.resolve().name),
        source,
        labels.classes,
        clips,
        folds,
        problems=_empty_classes(tree, levels, taken),
        remarks=remarks,
        levels="/".join(_used(levels, found)),
        own=True,
    )


def _named(levels: tuple[str, ...], names: list[str]) -> dict[str, str]:
    """{level: name of the folder} for the folders that a clip lies in."""
    return {level: name for level, name in zip(levels, names, strict=False) if level != "any"}


def _used(levels: tuple[str, ...], found: list[dict[str, str]]) -> list[str]:
    """The levels down to the last that any clip has."""
    there = {level for names in found for level in names}
    last = max(index for index, level in enumerate(levels) if level in there)
    return list(levels[: last + 1])


def _meta(names: dict[str, str]) -> dict[str, Any]:
    return ({"identity": names["person"]} if "person" in names else {}) | (
        {"scene": names["scene"]} if "scene" in names else {}
    )


def _empty_classes(tree: Folder, levels: tuple[str, ...], taken: Taken) -> list[str]:
    """A line for each class folder without a clip."""
    depth = levels.index("class") + 1
    filled = {folder.names[:depth] for _, folder in taken.clips}
    empty = [f for f in tree.all_folders() if len(f.names) == depth and f.names not in filled]
    return [f"class folder {'/'.join(folder.names)} holds no clips" for folder in empty]
