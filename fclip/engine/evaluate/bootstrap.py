"""The one bootstrap: 95 % intervals of UAR and WAR, over clips that are drawn again with replacement.

The clips of each fold are drawn by themselves. A clip that several seeds tested is drawn once for all of them, so that
seeds do not count as further clips; two methods that are compared are given the same draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 1_000_000  # drawn clips at once, which bounds the memory
Clips = Mapping[str, tuple[int, int]]  # key -> (true, predicted) class indices: a prediction table
Bounds = tuple[float, float]


@dataclass(frozen=True)
class FoldClips:
    """The test clips of one fold: `true` (N,) class indices, `right` (N,) share of the seeds that got it right."""

    true: np.ndarray
    right: np.ndarray


def fold_clips(tables: Sequence[Clips]) -> FoldClips:
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


def rate_intervals(
    folds: Sequence[FoldClips], classes: int, *, draws: int = 1000, seed: int = 0
) -> tuple[Bounds, Bounds]:
    """95 % intervals of UAR and of WAR, each the unweighted mean over `folds`; nan where there is no clip.

    A class that a drawn fold lacks is left out of that fold's UAR.
    """
    rng = np.random.default_rng(seed)
    filled = [fold for fold in folds if len(fold.true)]
    if not filled:
        return (float("nan"), float("nan")), (float("nan"), float("nan"))
    drawn = [draw_rates(fold.true, fold.right[:, None], classes, draws, rng)[:, 0] for fold in filled]
    values = np.mean(drawn, axis=0)  # (draws, 2)
    return percentiles(values[:, 0]), percentiles(values[:, 1])


def percentiles(values: np.ndarray, level: float = 0.95) -> Bounds:
    """The bounds between which the share `level` of drawn values (draws,) lies."""
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def draw_rates(true: np.ndarray, right: np.ndarray, classes: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """UAR and WAR (draws, K, 2) of K methods on clips that are drawn again, the same ones for all methods.

    true (N,) class indices, right (N, K): whether, or in which share of its seeds, each method got a clip right.
    """
    count, methods = right.shape
    of_class = np.eye(classes)[true]  # (N, C)
    columns = np.concatenate([of_class, *(of_class * right[:, [k]] for k in range(methods))], axis=1)  # (N, (1+K)*C)
    parts = []
    for start in range(0, draws, max(1, _CHUNK // count)):
        rows = min(max(1, _CHUNK // count), draws - start)
        drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)  # how often each clip
        parts.append(times @ columns)  # (rows, (1+K)*C)
    sums = np.concatenate(parts).reshape(draws, 1 + methods, classes)  # (draws, 1+K, C)
    support, hits = sums[:, :1], sums[:, 1:]  # (draws, 1, C), (draws, K, C)
    recall = np.where(support > 0, hits / np.maximum(support, 1), np.nan)
    return np.stack([np.nanmean(recall, axis=2), hits.sum(2) / count], axis=2)
