"""Metrics of DFER from predictions alone: UAR, WAR, macro-F1, recall and precision, calibration.

Rates are fractions in [0, 1]. A class that no clip of the table has (absent) is left out of UAR and macro-F1 and listed
in `absent`. DFER-CLIP's evaluation also leaves out a class that is in neither targets nor predictions; where an absent
class is predicted, its UAR becomes nan, ours stays the mean over the classes that can be recalled.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Reliability:
    """A reliability curve: of each bin of confidence its number of clips, mean confidence and accuracy."""

    count: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]


def reliability(probabilities: np.ndarray, true: np.ndarray, bins: int = 10) -> Reliability:
    """Reliability curve of the predicted class: per equal-width confidence bin its count, confidence and accuracy.

    probabilities (N, C), true (N,) indices.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == true
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    safe = np.maximum(counts, 1)
    return Reliability(
        tuple(counts.tolist()),
        tuple((np.bincount(index, confidence, bins) / safe).tolist()),
        tuple((np.bincount(index, right, bins) / safe).tolist()),
    )


def expected_calibration_error(probabilities: np.ndarray, true: np.ndarray, bins: int = 10) -> float:
    """ECE (Guo et al., ICML 2017): mean gap of confidence and accuracy over the bins, weighted by their counts."""
    curve = reliability(probabilities, true, bins)
    gaps = np.abs(np.asarray(curve.confidence) - np.asarray(curve.accuracy))
    return float((np.asarray(curve.count) * gaps).sum() / max(len(true), 1))
