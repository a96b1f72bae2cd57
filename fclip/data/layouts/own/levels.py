"""What the levels of a folder tree mean: splits, classes, people, scenes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fclip.data.layouts.base import published_facts
from fclip.data.layouts.grouping import split_of
from fclip.data.layouts.labels import spellings
from fclip.errors import FclipError, UsageError

_PERSON = re.compile(
    r"(actor|subject|subj|sub|person|people|speaker|spk|participant|user|id|pt|male|female|s|p|m|f)?[ _-]*\d+[a-z]?",
    re.I,
)


def parse_levels(text: str) -> tuple[str, ...]:
    """`--layout split/class/person` as level names, from the top; UsageError for what is no level, or no class."""
    known = published_facts("lists")["levels"]
    levels = tuple(level.strip().lower() for level in text.strip("/ ").split("/"))
    for level in levels:
        if level not in known:
            raise UsageError(f"--layout {text}: level {level!r}; give {', '.join(known)}, with / between them")
    for level in known[:-1]:
        if levels.count(level) > 1:
            raise UsageError(f"--layout {text}: {level} comes twice; use any for a level without a meaning")
    if "class" not in levels:
        raise UsageError(f"--layout {text}: one of the levels must be class")
    return levels


def recognise_levels(names: Sequence[set[str]], where: str) -> tuple[str, ...]:
    """The levels of a tree by the names of its folders at each depth, as far as the class and the people below it.

    A level of words for training, validation and test is the split; the first where half the names are known
    expressions is the class, else the first (or the second, if the first are numbered people); above it are people or
    scenes, below it people.
    """
    split = next((depth for depth, found in enumerate(names) if found and all(map(split_of, found))), None)
    if split is None and names:
        _refuse_half_a_split(names[0], where)
    depths = [depth for depth in range(len(names)) if depth != split]
    if not depths:
        raise FclipError(f"{where}: no class folders in the folders {', '.join(sorted(names[0])[:3])}; see --layout")
    label = _class_depth(names, depths)
    levels = ["split" if depth == split else "" for depth in range(label + 1)]
    for depth in range(label):
        if depth != split:
            levels[depth] = "scene" if _are_scenes(names[depth]) else "person" if "person" not in levels else "any"
    levels[label] = "class"
    for depth in range(label + 1, len(names)):
        if depth == split:
            levels.append("split")
        else:
            levels.append("any" if "person" in levels else "person")
    return tuple(levels)


def _refuse_half_a_split(names: set[str], where: str) -> None:
    splits = {split_of(name) for name in names} - {None}
    if {"train", "test"} <= splits:
        other = next(name for name in sorted(names) if not split_of(name))
        raise FclipError(
            f"{where}: folder {other} beside those for training and test; move it away, or say with --layout what the "
            "levels are (split/class, class/person ...)"
        )


def _class_depth(names: Sequence[set[str]], depths: Sequence[int]) -> int:
    for depth in depths:
        known = sum(name.strip().casefold() in spellings() for name in names[depth])
        if known >= max(1, len(names[depth]) / 2):
            return depth
    first = depths[0]
    if len(depths) > 1 and all(map(_PERSON.fullmatch, names[first])):
        second = names[depths[1]]
        if not any(map(_PERSON.fullmatch, second)) and len(second) < len(names[first]) * 10:
            return depths[1]
    return first


def _are_scenes(names: set[str]) -> bool:
    """Whether folders above the classes are scenes (of FERV39k, or called scene, session ...) and not people."""
    known = {scene.casefold() for scene in published_facts("ferv39k")["counts"]["single"]["scenes"]}
    words = set(published_facts("lists")["scenes"])
    plain = [re.sub(r"[\s_-]*\d*$", "", name.strip().casefold()) for name in names]
    return sum(name in known or name in words for name in plain) >= max(1, len(names) / 2)
