"""The prediction table of one evaluated fold: one CSV row a clip; every reported figure is derived from it.

Columns: key, true, predicted, one probability column `p:<class>` per class (nine digits, so that float32 survives),
modalities (those used, joined by +), scene (where the data set knows it, as FERV39k does). A table of another method
may have the columns fold and seed too, and no probabilities.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fclip.engine.evaluate.bootstrap import Clips
from fclip.errors import FclipError
from fclip.files import atomic_write
from fclip.records import check_class_names

log = logging.getLogger(__name__)

TOLERANCE = 0.02  # by which the probabilities of a clip may miss a sum of 1: tables with two digits do
Tables = dict[tuple[str, int], "PredictionTable"]  # (fold, seed) -> table


@dataclass
class PredictionTable:
    """Predictions of N clips: keys, true and predicted class names, probabilities (N, C), modalities used, scenes.

    `has_probabilities` False: they are made up, 1 for the predicted class, as the method gave labels only.
    """

    classes: tuple[str, ...]
    has_probabilities: bool = True
    keys: list[str] = field(default_factory=list)
    true: list[str] = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    scenes: list[str] = field(default_factory=list)

    def add(
        self,
        key: str,
        true: str,
        probabilities: np.ndarray,
        modalities: Sequence[str],
        scene: str = "",
        predicted: str | None = None,
    ) -> None:
        """Append one clip; predicted: the most probable class where it is left out, probabilities: (C,).

        FclipError when a label is not among the classes, or the probabilities are none (a model that gives nan).
        """
        if true not in self.classes:
            raise FclipError(f"clip {key}: label {true!r} is not among the classes {', '.join(self.classes)}")
        values: list[float] = np.asarray(probabilities, dtype=np.float64).tolist()
        if not all(0 <= value <= 1 + 1e-6 for value in values):  # nan is neither
            raise FclipError(f"clip {key}: {_listed(values)} are no probabilities; they must lie between 0 and 1")
        if abs(sum(values) - 1) > TOLERANCE:
            raise FclipError(f"clip {key}: its probabilities {_listed(values)} add up to {sum(values):.4g}, not to 1")
        best = self.classes[values.index(max(values))]
        if predicted is None:
            predicted = best
        elif predicted not in self.classes:
            known = ", ".join(self.classes)
            raise FclipError(f"clip {key}: predicted class {predicted!r} is not among the classes {known}")
        elif values[self.classes.index(predicted)] < max(values):
            raise FclipError(f"clip {key}: predicted is {predicted}, but its most probable class is {best}")
        self.keys.append(key)
        self.true.append(true)
        self.predicted.append(predicted)
        self.probabilities.append(np.asarray(values))
        self.modalities.append("+".join(modalities))
        self.scenes.append(scene)

    def true_indices(self) -> np.ndarray:
        """(N,) class indices of the true labels."""
        return self._indices(self.true)

    def predicted_indices(self) -> np.ndarray:
        """(N,) class indices of the predicted labels."""
        return self._indices(self.predicted)

    def _indices(self, names: Sequence[str]) -> np.ndarray:
        index = {name: i for i, name in enumerate(self.classes)}
        return np.asarray([index[name] for name in names], dtype=np.int64)

    def matrix(self) -> np.ndarray:
        """(N, C) probabilities."""
        return np.stack(self.probabilities) if self.probabilities else np.zeros((0, len(self.classes)))

    def clips(self) -> Clips:
        """{key: (true, predicted) class indices}."""
        pairs = zip(self.true_indices().tolist(), self.predicted_indices().tolist(), strict=True)
        return dict(zip(self.keys, pairs, strict=True))

    def write(self, path: Path) -> None:
        """Write the CSV atomically, clips in key order."""
        order = sorted(range(len(self.keys)), key=self.keys.__getitem__)
        with atomic_write(path) as temp, temp.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ["key", "true", "predicted", *(f"p:{name}" for name in self.classes), "modalities", "scene"]
            )
            for i in order:
                values = [f"{p:.9g}" for p in self.probabilities[i]]
                writer.writerow(
                    [self.keys[i], self.true[i], self.predicted[i], *values, self.modalities[i], self.scenes[i]]
                )


def _listed(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:4])
    return f"{shown}, ..." if len(values) > 4 else shown


def read_predictions(path: Path) -> PredictionTable:
    """Read the prediction table of one evaluated fold. Raises FclipError with file and line."""
    tables = read_tables(path)
    if len(tables) > 1:
        raise FclipError(f"{path}: holds several folds or seeds; score it with: fclip eval --predictions")
    return next(iter(tables.values()))


def read_tables(path: Path, classes: Sequence[str] = ()) -> Tables:
    """Read any method's predictions, as {(fold, seed): table}; without these columns they are "" and 0.

    The classes are `classes`, or else those of the probability columns `p:<class>`, or else those that occur; labels
    are matched to them whatever their case or usual spelling. Raises FclipError with file and line.
    """
    lines = list(_read_csv(path))
    if not lines:
        raise FclipError(f"{path}: holds no prediction; it needs the columns key, true and predicted (or p:<class>)")
    columns = {c[2:]: c for c in lines[0][1] if c.startswith("p:")}
    texts = set(columns) or {row[name] for _, row in lines for name in ("true", "predicted")}
    names, meaning = _match_classes(path, columns, texts, classes)
    order = [columns[text] for text in sorted(columns, key=lambda text: names.index(meaning[text]))]
    if order and len(order) < len(names):
        raise FclipError(f"{path}: has no probability column for each of the classes {', '.join(names)}")
    tables: Tables = {}
    seen: set[tuple[str, int, str]] = set()
    for line, row in lines:
        try:
            place = (row.get("fold", ""), _seed(row.get("seed", "")))
            if (*place, row["key"]) in seen:
                raise FclipError(f"clip {row['key']} occurs twice")
            seen.add((*place, row["key"]))
            table = tables.setdefault(place, PredictionTable(names, bool(columns)))
            _add_row(table, row, order, meaning)
        except FclipError as error:
            raise FclipError(f"{path}:{line}: {error}") from None
    return tables


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, {column: text}) of every row; each row has a text for every column of the header."""
    if not path.is_file():
        raise FclipError(f"{path}: no such prediction table; make it with: fclip eval")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            named = any(name.startswith("p:") for name in header)
            if not {"key", "true"} <= set(header) or not (named or "predicted" in header):
                raise FclipError(f"{path}: needs the columns key, true and predicted (or p:<class> ...)")
            if len(set(header)) < len(header):
                raise FclipError(f"{path}: a column comes twice in its header")
            for values in filter(None, reader):
                if len(values) != len(header):
                    raise FclipError(f"{path}:{reader.line_num}: {len(values)} values for {len(header)} columns")
                yield reader.line_num, dict(zip(header, values, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise FclipError(f"{path}:{reader.line_num}: not comma-separated UTF-8 text ({error})") from None


def _match_classes(
    path: Path, columns: Mapping[str, str], texts: set[str], classes: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The classes in order, and which of them each label text of the table means."""
    from fclip.data.layouts.labels import match_label, merge_spellings, merged_lines, misspelt_lines

    if not classes and columns:
        check_class_names(columns, f"{path}: probability columns")
        return tuple(columns), {text: text for text in columns}
    if not classes:
        merged = merge_spellings(texts)
        for line in (*merged_lines(merged), *misspelt_lines(merged)):
            log.warning("%s: note: %s", path, line)
        return tuple(sorted(set(merged.values()))), merged
    try:
        meaning = {text: match_label(text, classes, str(path)) for text in texts}
    except FclipError:
        if columns:
            raise
        return tuple(classes), {}  # the line will be named when it is read
    if columns and len(set(meaning.values())) < len(columns):
        raise FclipError(f"{path}: two probability columns are of one class; the classes are {', '.join(classes)}")
    return tuple(classes), meaning


def _add_row(table: PredictionTable, row: dict[str, str], order: Sequence[str], meaning: Mapping[str, str]) -> None:
    """Add a CSV row; FclipError says what is wrong with it."""
    from fclip.data.layouts.labels import match_label

    def label(name: str) -> str:
        text = row[name]
        return meaning.get(text) or match_label(text, table.classes, f"clip {row['key']}: {name}")

    predicted = label("predicted") if row.get("predicted") or not order else None
    if order:
        try:
            values = np.asarray([float(row[column]) for column in order])
        except ValueError:
            raise FclipError(f"clip {row['key']}: a probability is not a number") from None
    else:
        values = np.eye(len(table.classes))[table.classes.index(str(predicted))]
    modalities = row.get("modalities", "").split("+")
    table.add(row["key"], label("true"), values, modalities, row.get("scene", ""), predicted)


def _seed(text: str) -> int:
    try:
        return int(text or 0)
    except ValueError:
        raise FclipError(f"seed {text!r} is not a whole number") from None
