"""Metrics of DFER from predictions alone: UAR, WAR, macro-F1, recall and precision, calibration, bootstrap intervals.

Rates are fractions in [0, 1]. A class that no clip of the table has (absent) is left out of UAR and macro-F1 and listed
in `absent`. DFER-CLIP's evaluation also leaves out a class that is in neither targets nor predictions; where an absent
class is predicted, its UAR becomes nan, ours stays the mean over the classes that can be recalled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) counts, row = true class, column = predicted class, from class indices (N,)."""
    flat = np.bincount(true.astype(np.int64) * classes + predicted.astype(np.int64), minlength=classes * classes)
    return flat.reshape(classes, classes)  # (C, C)


def recall_per_class(confusion: np.ndarray) -> np.ndarray:
    """(C,) recall of each class; nan for a class without clips."""
    support = confusion.sum(1)
    return np.where(support > 0, np.diag(confusion) / np.maximum(support, 1), np.nan)


def precision_per_class(confusion: np.ndarray) -> np.ndarray:
    """(C,) precision of each class; nan for a class never predicted."""
    predicted = confusion.sum(0)
    return np.where(predicted > 0, np.diag(confusion) / np.maximum(predicted, 1), np.nan)


def uar(confusion: np.ndarray) -> float:
    """Unweighted average recall: mean recall over the classes that have clips; nan when there is no clip."""
    recall = recall_per_class(confusion)
    return float(np.nanmean(recall)) if np.isfinite(recall).any() else float("nan")


def war(confusion: np.ndarray) -> float:
    """Weighted average recall, which is accuracy; nan when there is no clip."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 over the classes that have clips; F1 is 0 for a class that is never predicted right."""
    true_positive = np.diag(confusion)
    denominator = confusion.sum(0) + confusion.sum(1)
    f1 = 2 * true_positive / np.maximum(denominator, 1)
    present = confusion.sum(1) > 0
    return float(f1[present].mean()) if present.any() else float("nan")


def reliability(probabilities: np.ndarray, true: np.ndarray, bins: int = 10) -> dict[str, list[float]]:
    """Reliability curve of the predicted class: per equal-width confidence bin its count, confidence and accuracy.

    probabilities (N, C), true (N,) indices.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == true
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    safe = np.maximum(counts, 1)
    return {
        "count": counts.tolist(),
        "confidence": (np.bincount(index, confidence, bins) / safe).tolist(),
        "accuracy": (np.bincount(index, right, bins) / safe).tolist(),
    }


def expected_calibration_error(probabilities: np.ndarray, true: np.ndarray, bins: int = 10) -> float:
    """ECE (Guo et al., ICML 2017): mean gap of confidence and accuracy over the bins, weighted by their counts."""
    curve = {name: np.asarray(values) for name, values in reliability(probabilities, true, bins).items()}
    return float((curve["count"] * np.abs(curve["confidence"] - curve["accuracy"])).sum() / max(len(true), 1))


def bootstrap_interval(
    true: np.ndarray,
    predicted: np.ndarray,
    classes: int,
    metric: Callable[[np.ndarray], float],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a confusion-matrix metric over clips (resampled with replacement)."""
    if not len(true):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    cells = true.astype(np.int64) * classes + predicted.astype(np.int64)
    values = []
    for _ in range(draws):
        drawn = np.bincount(cells[rng.integers(0, len(cells), len(cells))], minlength=classes * classes)
        values.append(metric(drawn.reshape(classes, classes)))  # (C, C)
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def summarise(
    true: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Every figure of one prediction table as JSON values: true (N,) indices, probabilities (N, C), class names."""
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(true, predicted, len(classes))
    recall, precision = recall_per_class(confusion), precision_per_class(confusion)
    return {
        "clips": int(len(true)),
        "uar": uar(confusion),
        "war": war(confusion),
        "macro_f1": macro_f1(confusion),
        "uar_interval": bootstrap_interval(true, predicted, len(classes), uar, draws=draws, seed=seed),
        "war_interval": bootstrap_interval(true, predicted, len(classes), war, draws=draws, seed=seed),
        "ece": expected_calibration_error(probabilities, true),
        "reliability": reliability(probabilities, true),
        "recall": {name: _number(value) for name, value in zip(classes, recall, strict=True)},
        "precision": {name: _number(value) for name, value in zip(classes, precision, strict=True)},
        "support": {name: int(n) for name, n in zip(classes, confusion.sum(1), strict=True)},
        "absent": [name for name, n in zip(classes, confusion.sum(1), strict=True) if n == 0],
        "confusion": confusion.tolist(),
        "classes": list(classes),
    }


def per_group(true: np.ndarray, predicted: np.ndarray, groups: Sequence[str], classes: int) -> dict[str, Any]:
    """UAR, WAR and number of clips of each group (scene); {} when no clip names one."""
    names = np.asarray(groups)
    found = {}
    for name in sorted({group for group in groups if group}):
        rows = names == name
        confusion = confusion_matrix(true[rows], predicted[rows], classes)
        found[name] = {"clips": int(rows.sum()), "uar": uar(confusion), "war": war(confusion)}
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
