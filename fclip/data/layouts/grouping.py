"""Draw parts for data that come without a split: stratified by class, whole groups (people) kept together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fclip.data.layouts.base import Folds, cross_validation, single_split
from fclip.errors import UsageError

_TRAIN_SHARE = 0.8


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
