"""Comparing two methods on the same clips: McNemar's test and the paired bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fclip.engine.evaluate.bootstrap import Bounds, draw_rates, percentiles
from fclip.engine.evaluate.metrics import confusion_matrix, uar, war
from fclip.engine.evaluate.predictions import PredictionTable
from fclip.errors import FclipError


@dataclass(frozen=True)
class Comparison:
    """Differences, first method less second, with 95 % intervals; how many clips only one gets right; McNemar's p."""

    clips: int
    only_first_right: int
    only_second_right: int
    mcnemar_p: float
    war_difference: float
    war_interval: Bounds
    uar_difference: float
    uar_interval: Bounds


def compare_tables(first: PredictionTable, second: PredictionTable, *, draws: int = 2000, seed: int = 0) -> Comparison:
    """Compare two methods by their prediction tables.

    Both tables must hold the same clips with the same labels; raises FclipError else. The bootstrap draws clips, the
    same ones for both methods; McNemar's exact test counts the clips that only one of them gets right.
    """
    from scipy.stats import binomtest

    truth = dict(zip(second.keys, second.true, strict=True))
    if set(first.keys) != set(truth) or set(first.classes) != set(second.classes):
        raise FclipError("the two prediction tables are not about the same clips and classes; compare runs of one fold")
    wrong = [key for key, label in zip(first.keys, first.true, strict=True) if truth[key] != label]
    if wrong:
        raise FclipError(f"clip {wrong[0]} has different labels in the two tables; they were made from other data")
    guesses = dict(zip(second.keys, second.predicted, strict=True))
    columns = {name: i for i, name in enumerate(first.classes)}
    true, classes = first.true_indices(), len(columns)
    a, b = first.predicted_indices(), np.array([columns[guesses[key]] for key in first.keys])
    right = np.stack([a == true, b == true], axis=1)  # (N, 2)
    only_first, only_second = (int((right[:, i] & ~right[:, 1 - i]).sum()) for i in (0, 1))
    drawn = draw_rates(true, right, classes, draws, np.random.default_rng(seed))  # (draws, 2, 2)
    difference = drawn[:, 0] - drawn[:, 1]  # (draws, 2): UAR, WAR
    confusions = [confusion_matrix(true, predicted, classes) for predicted in (a, b)]
    return Comparison(
        clips=len(true),
        only_first_right=only_first,
        only_second_right=only_second,
        mcnemar_p=float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0,
        war_difference=war(confusions[0]) - war(confusions[1]),
        war_interval=percentiles(difference[:, 1]),
        uar_difference=uar(confusions[0]) - uar(confusions[1]),
        uar_interval=percentiles(difference[:, 0]),
    )
