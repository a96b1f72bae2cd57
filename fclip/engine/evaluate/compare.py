"""Comparing two methods on the same clips: McNemar's test and the paired bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np

from fclip.engine.evaluate.metrics import confusion_matrix, uar, war
from fclip.engine.evaluate.predictions import PredictionTable
from fclip.errors import FclipError


def compare_tables(
    first: PredictionTable, second: PredictionTable, *, draws: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Differences (first - second) of WAR and UAR with 95 % intervals, and McNemar's exact p-value.

    Both tables must hold the same clips with the same labels; raises FclipError else. The bootstrap draws clips, the
    same ones for both methods; McNemar counts the clips that only one of them gets right.
    """
    from scipy.stats import binomtest

    truth = dict(zip(second.keys, second.true, strict=True))
    if set(first.keys) != set(truth) or set(first.classes) != set(second.classes):
        raise FclipError("the two prediction tables are not about the same clips and classes; compare runs of one fold")
    wrong = [key for key, label in zip(first.keys, first.true, strict=True) if truth[key] != label]
    if wrong:
        raise FclipError(f"clip {wrong[0]} has different labels in the two tables; they were made from other data")
    classes = first.classes
    places = {key: i for i, key in enumerate(second.keys)}
    order = [places[key] for key in first.keys]
    true, a = first.true_indices(), first.matrix().argmax(1)
    columns = [second.classes.index(name) for name in classes]
    b = second.matrix()[order][:, columns].argmax(1)
    only_first = int(((a == true) & (b != true)).sum())
    only_second = int(((b == true) & (a != true)).sum())
    rng = np.random.default_rng(seed)
    differences = np.array(
        [_difference(true, a, b, len(classes), rng.integers(0, len(true), len(true))) for _ in range(draws)]
    )
    point = _difference(true, a, b, len(classes), np.arange(len(true)))
    low, high = np.nanquantile(differences, [0.025, 0.975], axis=0)
    return {
        "clips": len(true),
        "only_first_right": only_first,
        "only_second_right": only_second,
        "mcnemar_p": float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0,
        "war_difference": point[0],
        "war_interval": (float(low[0]), float(high[0])),
        "uar_difference": point[1],
        "uar_interval": (float(low[1]), float(high[1])),
    }


def _difference(true: np.ndarray, a: np.ndarray, b: np.ndarray, classes: int, rows: np.ndarray) -> tuple[float, float]:
    """(WAR, UAR) of a minus those of b over the given rows."""
    first = confusion_matrix(true[rows], a[rows], classes)
    second = confusion_matrix(true[rows], b[rows], classes)
    return war(first) - war(second), uar(first) - uar(second)
