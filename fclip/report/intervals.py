"""95 % bootstrap intervals of a mean over folds and seeds: the clips of each fold are drawn again, with replacement.

A clip that several seeds tested is drawn once for all of them, so that seeds do not count as further clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 1_000_000  # drawn clips at once, which bounds the memory


@dataclass(frozen=True)
class FoldClips:
    """The test clips of one fold: `true` (N,) class indices, `right` (N,) share of the seeds that got it right."""

    true: np.ndarray
    right: np.ndarray


def fold_clips(tables: Sequence[Mapping[str, tuple[int, int]]]) -> FoldClips:
    """Join the prediction tables of a fold's seeds, each {key: (true, predicted) class indices}."""
    found: dict[str, list[int]] = {}  # key -> [true, seeds, seeds that were right]
    for table in tables:
        for key, (true, predicted) in table.items():
            entry = found.setdefault(key, [true, 0, 0])
            entry[1] += 1
            entry[2] += true == predicted
    rows = np.array([found[key] for key in sorted(found)], dtype=np.int64).reshape(-1, 3)  # (N, 3)
    return FoldClips(rows[:, 0], rows[:, 2] / np.maximum(rows[:, 1], 1))


def pool_folds(folds: Sequence[FoldClips]) -> FoldClips:
    """The clips of all folds as if they were one."""
    return FoldClips(np.concatenate([f.true for f in folds]), np.concatenate([f.right for f in folds]))


def fold_mean_intervals(
    folds: Sequence[FoldClips], classes: int, *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of UAR and WAR, each the unweighted mean over `folds` (METHOD 1), as {"uar": (low, high)}.

    A class that a drawn fold lacks is left out of that fold's UAR. nan where there is no clip.
    """
    rng = np.random.default_rng(seed)
    filled = [fold for fold in folds if len(fold.true)]
    if not filled:
        return {name: (float("nan"), float("nan")) for name in ("uar", "war")}
    values = np.mean([_draw(fold, classes, draws, rng) for fold in filled], axis=0)  # (draws, 2)
    tail = (1 - level) / 2
    bounds = np.quantile(values, [tail, 1 - tail], axis=0).T  # (2, 2)
    return {name: (float(low), float(high)) for name, (low, high) in zip(("uar", "war"), bounds, strict=True)}


def _draw(fold: FoldClips, classes: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """UAR and WAR (draws, 2) of a fold whose clips are drawn again."""
    count = len(fold.true)
    of_class = np.eye(classes)[fold.true]  # (N, C)
    columns = np.concatenate([of_class, of_class * fold.right[:, None]], axis=1)  # (N, 2*C)
    parts = []
    for start in range(0, draws, max(1, _CHUNK // count)):
        rows = min(max(1, _CHUNK // count), draws - start)
        drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)  # how often each clip
        parts.append(times @ columns)  # (rows, 2*C)
    support, right = np.split(np.concatenate(parts), 2, axis=1)  # (draws, C) each
    recall = np.where(support > 0, right / np.maximum(support, 1), np.nan)
    return np.stack([np.nanmean(recall, axis=1), right.sum(1) / count], axis=1)
