"""The leak probe: how well do the captions alone give the label away?

A bag-of-words classifier guesses the label from the text. It is trained and tested across parts (folds), so that no
text is tested that it was trained on; its accuracy stands beside the majority rate, with a confidence interval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fclip.errors import FclipError

MOST_WORDS = 5  # telling words reported for a label
SURE = 0.9  # confidence from which a text counts as giving its label away


@dataclass(frozen=True)
class LeakReport:
    """Result of the probe over n texts.

    accuracy of the guesses, its Wilson 95 % interval and the majority rate, all in [0, 1]; words: label -> its most
    telling words with their weights; confidence (n,): probability given to the true label, in the order of the texts;
    guesses: the n guessed labels.
    """

    count: int
    accuracy: float
    interval: tuple[float, float]
    majority: float
    words: dict[str, list[tuple[str, float]]]
    confidence: np.ndarray = field(repr=False)
    guesses: list[str] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """What is stored and shown; not the confidences of single texts."""
        words = {label: [word for word, _ in found] for label, found in self.words.items()}
        return {
            "count": self.count,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "majority": self.majority,
            "words": words,
        }

    def summary(self) -> str:
        """One line for people."""
        low, high = self.interval
        words = "; ".join(f"{label}: {', '.join(w for w, _ in found[:3])}" for label, found in self.words.items())
        return (
            f"accuracy {100 * self.accuracy:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}), "
            f"majority {100 * self.majority:.1f} %, {self.count} captions; telling words: {words}"
        )

    def revealing(self, labels: Sequence[str], least: float = SURE) -> list[int]:
        """Indices of the texts whose label was guessed with at least this confidence."""
        return [
            index
            for index, (guess, label) in enumerate(zip(self.guesses, labels, strict=True))
            if guess == label and self.confidence[index] >= least
        ]


def leak_probe(texts: Sequence[str], labels: Sequence[str], parts: Sequence[str]) -> LeakReport:
    """Run the probe. `parts` names each text's part (fold); with one part only, five random folds are made.

    Raises FclipError when there are fewer than two labels to tell apart or too few texts.
    """
    if not len(texts) == len(labels) == len(parts):
        raise FclipError(f"leak probe: {len(texts)} texts, {len(labels)} labels and {len(parts)} parts do not match")
    counts = Counter(labels)
    if len(counts) < 2 or len(texts) < 4:
        raise FclipError(f"leak probe: needs at least 4 captions of 2 labels, has {len(texts)} of {len(counts)}")
    classes = sorted(counts)
    truth = np.array([classes.index(label) for label in labels])
    probabilities = np.zeros((len(texts), len(classes)))
    for train, test in _folds(truth, parts):
        known, tested = [texts[i] for i in train], [texts[i] for i in test]
        probabilities[test] = _fit_predict(known, truth[train], tested, len(classes))
    guesses = probabilities.argmax(axis=1)
    right = int((guesses == truth).sum())
    return LeakReport(
        count=len(texts),
        accuracy=right / len(texts),
        interval=wilson_interval(right, len(texts)),
        majority=max(counts.values()) / len(texts),
        words=_telling_words(texts, truth, classes),
        confidence=probabilities[np.arange(len(texts)), truth],
        guesses=[classes[index] for index in guesses],
    )


def wilson_interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a rate `right / count` (95 % by default)."""
    rate, spread = right / count, z * z / count
    middle = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _folds(truth: np.ndarray, parts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, test) index pairs: each part once the test set, or five shuffled folds where there is but one part."""
    names = sorted(set(parts))
    groups = np.array([names.index(part) for part in parts])
    if len(names) == 1:
        groups = np.random.default_rng(0).permutation(len(truth)) % min(5, len(truth))
    every = np.arange(len(truth))
    return [(every[groups != g], every[groups == g]) for g in np.unique(groups)]


def _model(count: int) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = CountVectorizer(binary=True, token_pattern=r"[^\W\d_]+", min_df=2 if count >= 50 else 1)
    return make_pipeline(words, LogisticRegression(max_iter=2000))


def _fit_predict(texts: list[str], truth: np.ndarray, tested: list[str], classes: int) -> np.ndarray:
    """Probabilities (n, classes) of the tested texts; the labels' rates where the training texts allow no more."""
    result = np.zeros((len(tested), classes))
    model = _model(len(texts))
    if len(set(truth)) < 2 or not _has_words(model, texts):
        result[:] = np.bincount(truth, minlength=classes) / max(len(truth), 1)
        return result
    model.fit(texts, truth)
    result[:, model.classes_] = model.predict_proba(tested)
    return result


def _has_words(model: Any, texts: list[str]) -> bool:
    try:
        model[0].fit(texts)
    except ValueError:  # scikit-learn's word for an empty vocabulary
        return False
    return True


def _telling_words(texts: Sequence[str], truth: np.ndarray, classes: list[str]) -> dict[str, list[tuple[str, float]]]:
    """The words with the greatest positive weights for each label, fitted on all texts."""
    model = _model(len(texts))
    if not _has_words(model, list(texts)):
        return {}
    model.fit(texts, truth)
    names, weights = model[0].get_feature_names_out(), model[1].coef_
    if len(classes) == 2:  # one row of weights stands for both
        weights = np.concatenate([-weights, weights])
    best = np.argsort(-weights, axis=1)[:, :MOST_WORDS]
    return {
        label: [(str(names[i]), round(float(weights[row, i]), 3)) for i in best[row] if weights[row, i] > 0]
        for row, label in enumerate(classes)
    }
