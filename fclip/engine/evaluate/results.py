"""What an evaluation found, as records: `Result` of one run (results.json), `Row` of one method over folds and seeds.

Rates are fractions in [0, 1]. results.json is one flat JSON object of Result's fields; files without `schema` are of
schema 1, which lacks what has a default here; before schema 3, trained_with told the captions of the training data
whether or not the training read them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from fclip.engine.evaluate.bootstrap import Bounds, fold_clips, rate_intervals
from fclip.engine.evaluate.metrics import (
    Reliability,
    confusion_matrix,
    expected_calibration_error,
    macro_f1,
    precision_per_class,
    recall_per_class,
    reliability,
    uar,
    war,
)
from fclip.engine.evaluate.predictions import PredictionTable
from fclip.records import CaptionSource
from fclip.schema import JsonObject

SCHEMA = 3
Metric = Literal["uar", "war"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """What was evaluated and how: results that agree in this are averaged over their folds and seeds.

    dataset: the one tested; source: the one trained on where that is another ("none": plain CLIP; None: no transfer);
    set: the options of the variant, as given; settings: what else the training was told; without: modalities left
    out; trained_with: whose captions the training read, None for none. clip and selection are None for another
    program's predictions.
    """

    dataset: str
    variant: str
    clip: str | None = None
    selection: str | None = None
    set: tuple[str, ...] = ()
    settings: JsonObject = field(default_factory=dict)
    without: tuple[str, ...] = ()
    source: str | None = None
    objective: str | None = None
    in_domain: bool = False
    trained_with: CaptionSource | None = None


@dataclass(frozen=True, kw_only=True)
class RunFacts(MethodFacts):
    """What one result is of: a method's run on one fold with one seed, its weights, and the data.

    checkpoint: of a transfer the run folder that the weights come from; data: hash of the packed folder's manifest;
    prompts_sha256: of a transfer, whose class texts are the target's.
    """

    run: str
    fold: str
    seed: int
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    prompts_sha256: str | None = None
    data: str | None = None


@dataclass(frozen=True)
class Scene:
    """Figures of the clips of one scene."""

    clips: float
    uar: float
    war: float

    def rate(self, metric: Metric) -> float:
        """UAR or WAR."""
        return self.uar if metric == "uar" else self.war


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a prediction table alone tells. recall, precision: None for a class that is absent or never predicted;
    confusion (C, C): rows are true classes; ece and reliability: None where the table has no probabilities."""

    clips: int
    classes: tuple[str, ...]
    uar: float
    war: float
    macro_f1: float
    ece: float | None
    reliability: Reliability | None
    recall: dict[str, float | None]
    precision: dict[str, float | None]
    support: dict[str, int]
    absent: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    scenes: dict[str, Scene] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result(Figures, RunFacts):
    """The result of one run on one fold: what it is of, the figures and their 95 % intervals over clips.

    captions: those of the tested clips, None where none was used; trainable: number of trained parameters.
    """

    uar_interval: Bounds
    war_interval: Bounds
    captions: CaptionSource | None = None
    trainable: int | None = None
    schema: int = 1


@dataclass(frozen=True)
class Rate:
    """UAR or WAR of a row: mean over folds, its deviation over seeds and 95 % interval; and pooled over folds."""

    mean: float
    deviation: float
    interval: Bounds
    pooled: float
    pooled_interval: Bounds


@dataclass(frozen=True, kw_only=True)
class Row(MethodFacts):
    """A method's result over its folds and seeds: a line of the tables.

    clips: predictions, test_clips: different clips; pooled_...: every clip counted once, whatever its fold; recall,
    confusion and reliability are pooled over folds and seeds. options: `set` as values; differs: the settings in which
    it is unlike other rows of the same variant; repeated, lacking: pairs (fold, seed) that were run several times, or
    not at all; leak: accuracy of the leak probe on the data set's captions.
    """

    folds: tuple[str, ...]
    seeds: tuple[int, ...]
    clips: int
    test_clips: int
    classes: tuple[str, ...]
    uar: float
    uar_deviation: float
    uar_interval: Bounds
    pooled_uar: float
    pooled_uar_interval: Bounds
    war: float
    war_deviation: float
    war_interval: Bounds
    pooled_war: float
    pooled_war_interval: Bounds
    macro_f1: float
    macro_f1_deviation: float
    ece: float | None
    reliability: Reliability | None
    recall: dict[str, float | None]
    confusion: tuple[tuple[int, ...], ...]
    scenes: dict[str, Scene]
    modalities: tuple[str, ...]
    captions: CaptionSource | None
    trainable: int | None
    options: JsonObject
    differs: JsonObject = field(default_factory=dict)
    repeated: tuple[tuple[str, int], ...] = ()
    lacking: tuple[tuple[str, int], ...] = ()
    leak: float | None = None

    def rate(self, metric: Metric) -> Rate:
        """UAR or WAR with all that is known of it."""
        if metric == "uar":
            return Rate(self.uar, self.uar_deviation, self.uar_interval, self.pooled_uar, self.pooled_uar_interval)
        return Rate(self.war, self.war_deviation, self.war_interval, self.pooled_war, self.pooled_war_interval)


def figures_of(table: PredictionTable) -> Figures:
    """Every figure of one prediction table that holds a clip, without intervals."""
    names, true, predicted = table.classes, table.true_indices(), table.predicted_indices()
    confusion = confusion_matrix(true, predicted, len(names))
    probabilities = table.matrix() if table.has_probabilities else None
    return Figures(
        clips=len(true),
        classes=names,
        uar=uar(confusion),
        war=war(confusion),
        macro_f1=macro_f1(confusion),
        ece=None if probabilities is None else expected_calibration_error(probabilities, true),
        reliability=None if probabilities is None else reliability(probabilities, true),
        recall=_by_class(names, recall_per_class(confusion)),
        precision=_by_class(names, precision_per_class(confusion)),
        support={name: int(n) for name, n in zip(names, confusion.sum(1), strict=True)},
        absent=tuple(name for name, n in zip(names, confusion.sum(1), strict=True) if n == 0),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        scenes=figures_of_scenes(true, predicted, table.scenes, len(names)),
        modalities=tuple(sorted(set(table.modalities))),
    )


def figures_of_scenes(true: np.ndarray, predicted: np.ndarray, scenes: Sequence[str], classes: int) -> dict[str, Scene]:
    """UAR, WAR and number of clips of each scene; {} when no clip names one. true, predicted (N,) class indices."""
    names = np.asarray(scenes)
    found = {}
    for name in sorted({scene for scene in scenes if scene}):
        rows = names == name
        confusion = confusion_matrix(true[rows], predicted[rows], classes)
        found[name] = Scene(int(rows.sum()), uar(confusion), war(confusion))
    return found


def make_result(
    facts: RunFacts,
    table: PredictionTable,
    *,
    captions: CaptionSource | None = None,
    trainable: int | None = None,
    draws: int = 1000,
) -> Result:
    """The result of the run that `facts` describe, from its prediction table."""
    figures = figures_of(table)
    intervals = rate_intervals([fold_clips([table.clips()])], len(table.classes), draws=draws)
    return Result(
        **vars(facts),
        **vars(figures),
        uar_interval=intervals[0],
        war_interval=intervals[1],
        captions=captions,
        trainable=trainable,
        schema=SCHEMA,
    )


def narrow(cls: type[T], record: object) -> T:
    """The part of a record that is a `cls`, one of those that its class is made of."""
    return cls(**{item.name: getattr(record, item.name) for item in dataclasses.fields(cls)})  # type: ignore[arg-type]


def _by_class(names: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    return {name: float(v) if np.isfinite(v) else None for name, v in zip(names, values, strict=True)}
