"""The prediction table of one evaluated fold: one CSV row a clip; every reported figure is derived from it.

Columns: key, true, predicted, one probability column `p:<class>` per class (nine digits, so that float32 survives),
modalities (those used, joined by +), scene (where the data set knows it, as FERV39k does). A table of another method
may have the columns fold and seed too.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fclip.errors import FclipError
from fclip.files import atomic_write


@dataclass
class PredictionTable:
    """Predictions of N clips: keys, true class names, probabilities (N, C), modalities used, scene where known."""

    classes: tuple[str, ...]
    keys: list[str] = field(default_factory=list)
    true: list[str] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    scenes: list[str] = field(default_factory=list)

    def add(self, key: str, true: str, probabilities: np.ndarray, modalities: Sequence[str], scene: str = "") -> None:
        """Append one clip; FclipError when its label is not among the classes."""
        if true not in self.classes:
            raise FclipError(f"clip {key}: label {true!r} is not among the classes {', '.join(self.classes)}")
        self.keys.append(key)
        self.true.append(true)
        self.probabilities.append(np.asarray(probabilities, dtype=np.float64))
        self.modalities.append("+".join(modalities))
        self.scenes.append(scene)

    def true_indices(self) -> np.ndarray:
        """(N,) class indices of the true labels."""
        index = {name: i for i, name in enumerate(self.classes)}
        return np.asarray([index[name] for name in self.true], dtype=np.int64)

    def matrix(self) -> np.ndarray:
        """(N, C) probabilities."""
        return np.stack(self.probabilities) if self.probabilities else np.zeros((0, len(self.classes)))

    def write(self, path: Path) -> None:
        """Write the CSV atomically, clips in key order."""
        order = sorted(range(len(self.keys)), key=self.keys.__getitem__)
        with atomic_write(path) as temp, temp.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ["key", "true", "predicted", *(f"p:{name}" for name in self.classes), "modalities", "scene"]
            )
            for i in order:
                row = self.probabilities[i]
                guess = self.classes[int(row.argmax())]
                writer.writerow(
                    [self.keys[i], self.true[i], guess, *(f"{p:.9g}" for p in row), self.modalities[i], self.scenes[i]]
                )


def read_predictions(path: Path) -> PredictionTable:
    """Read the prediction table of one evaluated fold. Raises FclipError with file and line."""
    tables = read_tables(path)
    if len(tables) > 1:
        raise FclipError(f"{path}: holds several folds or seeds; score it with: fclip eval --predictions")
    return next(iter(tables.values()))


def read_tables(path: Path, classes: Sequence[str] = ()) -> dict[tuple[str, int], PredictionTable]:
    """Read any method's predictions, as {(fold, seed): table}; without these columns they are "" and 0.

    The classes are those of the probability columns `p:<class>`, or else `classes`, or else those that occur; a table
    without probabilities (`key,true,predicted`) gets one-hot ones. Raises FclipError with file and line.
    """
    if not path.is_file():
        raise FclipError(f"{path}: no such prediction table; make it with: fclip eval")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0]) if rows else []
    named = [c[2:] for c in columns if c and c.startswith("p:")]
    if not {"key", "true"} <= set(columns) or not (named or "predicted" in columns):
        raise FclipError(f"{path}: needs the columns key, true and predicted (or p:<class> ...)")
    found = sorted({row["true"] for row in rows} | {row["predicted"] for row in rows}) if not named else []
    names = tuple(named or classes or found)
    tables: dict[tuple[str, int], PredictionTable] = {}
    seen: set[tuple[str, int, str]] = set()
    for line, row in enumerate(rows, start=2):
        try:
            place = (row.get("fold") or "", int(row.get("seed") or 0))
            values = _probabilities(row, names, bool(named))
        except (TypeError, ValueError) as error:
            raise FclipError(f"{path}:{line}: {error}") from None
        if (*place, row["key"]) in seen:
            raise FclipError(f"{path}:{line}: clip {row['key']} occurs twice")
        seen.add((*place, row["key"]))
        table = tables.setdefault(place, PredictionTable(names))
        table.add(row["key"], row["true"], values, (row.get("modalities") or "").split("+"), row.get("scene") or "")
    return tables


def _probabilities(row: dict[str, str], names: tuple[str, ...], given: bool) -> np.ndarray:
    """Probabilities (C,) of a row; ValueError says what is wrong with them."""
    if not given:
        if row["predicted"] not in names:
            raise ValueError(f"predicted class {row['predicted']!r} is not among the classes {', '.join(names)}")
        return np.eye(len(names))[names.index(row["predicted"])]
    try:
        values = np.asarray([float(row[f"p:{name}"]) for name in names])
    except (TypeError, ValueError):
        raise ValueError("a probability is not a number") from None
    if not np.isfinite(values).all():
        raise ValueError("a probability is not finite")
    return values
