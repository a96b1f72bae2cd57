"""Parts and folds: read from the names that people give to splits, or drawn, whole groups (people) kept together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from fclip.data.layouts.base import Folds, published_facts
from fclip.data.media.images import natural_key
from fclip.errors import FclipError, UsageError
from fclip.records import make_key

_TRAIN_SHARE = 0.8


@cache
def _split_words() -> dict[str, str]:
    words = published_facts("lists")["splits"]
    return {word: split for split, names in words.items() for word in names}


def split_of(name: str) -> str | None:
    """Which split a word names ("Validation" -> val, "DEV" -> val, "train_set" -> train); None if it is none."""
    return _split_words().get(re.sub(r"[\s_-]", "", name.strip().casefold()))


def cross_validation(parts: Iterable[str]) -> Folds:
    """One fold per part: fold k tests on the k-th part (natural order) and trains on the others."""
    names = sorted(set(parts), key=natural_key)
    return {
        str(index): {"train": [part for part in names if part != name], "test": [name]}
        for index, name in enumerate(names, start=1)
    }


def single_split(parts: Iterable[str]) -> Folds:
    """The one fold of a data set with parts "train" and "test" (either may be missing); other parts train.

    Without a test part "val" is tested.
    """
    names = sorted(set(parts), key=natural_key)
    tested = "test" if "test" in names or "train" not in names else "val"
    return {
        "1": {
            "train": [part for part in names if part not in ("test", "val")],
            "test": [part for part in names if part == tested],
        }
    }


def named_parts(names: Sequence[str], where: str) -> tuple[list[str], Folds, list[str]]:
    """The parts of clips, the folds, and remarks, from what their list or folders call them.

    Words for splits, in any case, are the one split; other names are the parts of a cross-validation. A mixture of
    both is refused: clips meant for testing would be trained on.
    """
    words = {name: split_of(name) for name in set(names)}
    known = sorted(name for name, split in words.items() if split)
    others = sorted(name for name, split in words.items() if not split)
    if known and others and len(words) > 1:
        raise FclipError(
            f"{where}: part {others[0]!r} beside {known[0]!r}: it is no word for training, validation or test"
        )
    if not known:
        return list(names), single_split(names) if len(words) == 1 else cross_validation(names), []
    parts = [str(words[name]) for name in names]
    folds, remarks = single_split(parts), []
    if renamed := sorted({(name, split) for name, split in words.items() if name.casefold() != split}):
        remarks.append("parts: " + ", ".join(f"{name} is {split}" for name, split in renamed))
    if folds["1"]["test"] == ["val"]:
        remarks.append("no part is for testing: val is tested")
    return parts, folds, remarks


def fold_parts(values: Sequence[str], where: str) -> tuple[list[str], Folds]:
    """The parts of clips whose list says in which fold each is tested, and one fold of each name."""
    short = [re.sub(r"\.0*$", "", value.strip()) for value in values]
    for value in short:
        if make_key(value) != value:
            raise FclipError(f"{where}: fold {value!r}; use letters, digits, _ and - only, for every clip")
    names = sorted(set(short), key=natural_key)
    if len(names) < 2:
        raise FclipError(f"{where}: one fold only ({', '.join(names)}), so nothing is left to train on")
    part = {name: f"part{name}" if name.isdecimal() else name for name in names}
    folds = {name: {"train": [part[n] for n in names if n != name], "test": [part[name]]} for name in names}
    return [part[value] for value in short], folds


def draw_parts(labels: Sequence[str], groups: Sequence[str], folds: int | None, seed: int) -> tuple[list[str], Folds]:
    """A part name for each clip and the folds: `folds` equal parts, or an 80/20 split where it is None.

    The result depends on the labels, the groups and the seed only, not on the order of the clips.
    """
    if folds is None:
        names, shares = ["train", "test"], np.array([_TRAIN_SHARE, 1 - _TRAIN_SHARE])
    else:
        if not 2 <= folds <= len(set(groups)):
            raise UsageError(f"--folds {folds}: give 2 to {len(set(groups))} (the number of clips or people)")
        names, shares = [f"part{index}" for index in range(1, folds + 1)], np.full(folds, 1 / folds)
    chosen = _balance(labels, groups, shares, seed)
    parts = [names[chosen[group]] for group in groups]
    return parts, single_split(parts) if folds is None else cross_validation(parts)


def _balance(labels: Sequence[str], groups: Sequence[str], shares: np.ndarray, seed: int) -> dict[str, int]:
    """Give each group, largest first and equal ones in seeded order, to the part that lacks its classes most."""
    classes, class_ids = np.unique(np.asarray(labels), return_inverse=True)
    group_names, group_ids = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(group_names), len(classes)))
    np.add.at(counts, (group_ids, class_ids), 1)
    wanted = shares[:, None] * counts.sum(0)  # (parts, classes)
    filled = np.zeros_like(wanted)
    shuffled = np.random.default_rng(seed).permutation(len(group_names))
    order = shuffled[np.argsort(-counts.sum(1)[shuffled], kind="stable")]
    chosen = {}
    for group in order:
        fill = (filled / wanted) @ counts[group]  # how full each part is, in this group's classes
        total = filled.sum(1) / shares
        part = int(np.lexsort((-shares, total, np.round(fill, 9)))[0])
        filled[part] += counts[group]
        chosen[str(group_names[group])] = part
    return chosen
