"""Comparing two methods on the same clips: McNemar's test and the paired bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fclip.engine.evaluate.bootstrap import Bounds, Clips, draw_rates, fold_clips, percentiles
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
    only_first, only_second, mcnemar_p = _mcnemar(right)
    drawn = draw_rates(true, right, classes, draws, np.random.default_rng(seed))  # (draws, 2, 2)
    difference = drawn[:, 0] - drawn[:, 1]  # (draws, 2): UAR, WAR
    confusions = [confusion_matrix(true, predicted, classes) for predicted in (a, b)]
    return Comparison(
        clips=len(true),
        only_first_right=only_first,
        only_second_right=only_second,
        mcnemar_p=mcnemar_p,
        war_difference=war(confusions[0]) - war(confusions[1]),
        war_interval=percentiles(difference[:, 1]),
        uar_difference=uar(confusions[0]) - uar(confusions[1]),
        uar_interval=percentiles(difference[:, 0]),
    )


def _mcnemar(right: np.ndarray) -> tuple[int, int, float]:
    """Clips that only the first and only the second method gets right, and the exact p; right (N, 2) booleans."""
    from scipy.stats import binomtest

    first, second = (int((right[:, i] & ~right[:, 1 - i]).sum()) for i in (0, 1))
    return first, second, float(binomtest(first, first + second).pvalue) if first + second else 1.0


@dataclass(frozen=True)
class Difference:
    """UAR and WAR of a first method less those of a second, means over folds, with 95 % intervals over clips.

    mcnemar_p: of WAR over the clips of all folds; None where a clip was tested with several seeds.
    """

    clips: int
    uar: float
    uar_interval: Bounds
    war: float
    war_interval: Bounds
    mcnemar_p: float | None


def compare_folds(
    first: Sequence[Sequence[Clips]], second: Sequence[Sequence[Clips]], classes: int, *, draws: int = 2000
) -> Difference:
    """Compare two methods over folds and seeds: `first[f]` holds the tables of the seeds of fold f, as `second[f]`.

    The bootstrap draws the clips of each fold, the same ones for both methods; several seeds of a clip count once, by
    the share that is right. Raises FclipError unless both have the same clips with the same labels in every fold.
    """
    rng = np.random.default_rng(0)
    pairs = []
    for tables in zip(first, second, strict=True):
        a, b = (fold_clips(seeds) for seeds in tables)
        keys = [{key: true for table in seeds for key, (true, _) in table.items()} for seeds in tables]
        if keys[0] != keys[1]:
            raise FclipError("the two methods were not tested on the same clips with the same labels")
        pairs.append((a.true, np.stack([a.right, b.right], axis=1)))  # (N,), (N, 2)
    drawn = np.mean([draw_rates(*pair, classes, draws, rng) for pair in pairs], axis=0)  # (draws, 2, 2)
    rates = np.mean([_rates(*pair, classes) for pair in pairs], axis=0)  # (2, 2)
    uar_war, spread = rates[0] - rates[1], drawn[:, 0] - drawn[:, 1]
    once = all(len(seeds) == 1 for tables in (first, second) for seeds in tables)
    return Difference(
        clips=sum(len(true) for true, _ in pairs),
        uar=float(uar_war[0]),
        uar_interval=percentiles(spread[:, 0]),
        war=float(uar_war[1]),
        war_interval=percentiles(spread[:, 1]),
        mcnemar_p=_mcnemar(np.concatenate([right for _, right in pairs]) > 0.5)[2] if once else None,
    )


def _rates(true: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
    """UAR and WAR (2, 2) of two methods; true (N,), right (N, 2)."""
    recalls = [right[true == c].mean(axis=0) for c in range(classes) if (true == c).any()]
    return np.stack([np.mean(recalls, axis=0), right.mean(axis=0)], axis=1)
