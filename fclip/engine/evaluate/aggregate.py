"""Results of several folds and seeds -> one row a method: mean over folds, mean and deviation over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fclip.config import canonical_json
from fclip.engine.evaluate.bootstrap import Clips, fold_clips, pool_folds, rate_intervals
from fclip.engine.evaluate.metrics import Reliability, recall_per_class, uar, war
from fclip.engine.evaluate.results import MethodFacts, Metric, Result, Row, Scene, narrow
from fclip.schema import JsonObject, as_json, parse_options


@dataclass(frozen=True)
class Evaluated:
    """A result with the clips of its prediction table and where it lies."""

    result: Result
    clips: Clips
    folder: Path | None = None

    @property
    def out(self) -> Path | None:
        """The folder of its files: predictions.csv, results.json, ..."""
        return self.folder / "eval" if self.folder else None


def make_rows(evaluated: Sequence[Evaluated]) -> list[tuple[Row, list[Evaluated]]]:
    """A row for each method, by data set and WAR, with the results that it is the mean of."""
    groups: dict[str, list[Evaluated]] = {}
    for each in evaluated:
        groups.setdefault(canonical_json(as_json(_method(each.result, with_settings=True))), []).append(each)
    pairs = [(make_row(group), group) for group in groups.values()]
    rows = [row for row, _ in pairs]
    pairs = [(replace(row, differs=_differing(row, rows)), group) for row, group in pairs]
    return sorted(pairs, key=lambda pair: (pair[0].dataset, pair[0].source is not None, pair[0].war))


def _method(record: MethodFacts, *, with_settings: bool = False) -> MethodFacts:
    """What makes a method: its facts, but for what follows from them or from the data."""
    settings = record.settings if with_settings else {}
    return replace(narrow(MethodFacts, record), settings=settings, in_domain=False)


def _differing(row: Row, rows: Sequence[Row]) -> JsonObject:
    """The settings {name: value} of a row in which others of the same method are not like it."""
    alike = [other.settings for other in rows if _method(other) == _method(row)]
    return {n: v for n, v in row.settings.items() if any(other.get(n) != v for other in alike)}


def make_row(members: Sequence[Evaluated]) -> Row:
    """The row of one method from its results, one a fold and seed.

    A seed's figure is the unweighted mean over its folds (as the papers do; `pooled` beside it counts every clip
    once); the row carries mean and standard deviation over seeds, and intervals over clips.
    """
    results = [member.result for member in members]
    first, classes = results[0], results[0].classes
    by_fold: dict[str, list[Clips]] = {}
    for member in members:
        by_fold.setdefault(member.result.fold, []).append(member.clips)
    folds = [fold_clips(group) for _, group in sorted(by_fold.items())]
    intervals = rate_intervals(folds, len(classes))
    pooled = rate_intervals([pool_folds(folds)], len(classes)) if len(folds) > 1 else intervals
    times = Counter((result.fold, result.seed) for result in results)
    seeds = sorted({result.seed for result in results})
    confusion = np.sum([result.confusion for result in results], axis=0)  # (C, C)
    recall = zip(classes, recall_per_class(confusion), confusion.sum(1), strict=True)
    means = {name: _over_seeds(results, name) for name in ("uar", "war", "macro_f1")}
    return Row(
        **vars(narrow(MethodFacts, first)),
        folds=tuple(sorted(by_fold)),
        seeds=tuple(seeds),
        clips=sum(result.clips for result in results),
        test_clips=sum(len(fold.true) for fold in folds),
        classes=classes,
        uar=means["uar"][0],
        uar_deviation=means["uar"][1],
        uar_interval=intervals[0],
        pooled_uar=uar(confusion),
        pooled_uar_interval=pooled[0],
        war=means["war"][0],
        war_deviation=means["war"][1],
        war_interval=intervals[1],
        pooled_war=war(confusion),
        pooled_war_interval=pooled[1],
        macro_f1=means["macro_f1"][0],
        macro_f1_deviation=means["macro_f1"][1],
        ece=_mean_error(results),
        reliability=pool_reliability([r.reliability for r in results if r.reliability is not None]),
        recall={name: float(value) if clips else None for name, value, clips in recall},
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        scenes=mean_scenes([result.scenes for result in results]),
        modalities=first.modalities,
        captions=first.captions,
        trainable=first.trainable,
        options=parse_options(first.set),
        repeated=tuple(sorted(pair for pair, count in times.items() if count > 1)),
        lacking=tuple(sorted({(fold, seed) for fold in by_fold for seed in seeds} - times.keys())),
    )


def _over_seeds(results: Sequence[Result], metric: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds of a figure's mean over folds."""
    by_seed: dict[int, list[float]] = {}
    for result in results:
        by_seed.setdefault(result.seed, []).append(getattr(result, metric))
    means = [float(np.mean(values)) for values in by_seed.values()]
    return float(np.mean(means)), float(np.std(means))


def _mean_error(results: Sequence[Result]) -> float | None:
    errors = [result.ece for result in results if result.ece is not None]
    return float(np.mean(errors)) if len(errors) == len(results) else None


def pool_reliability(curves: Sequence[Reliability]) -> Reliability | None:
    """Reliability over the clips of several tables: counts added, confidence and accuracy weighted by them."""
    if not curves:
        return None
    counts = np.array([curve.count for curve in curves])  # (R, bins)
    total = counts.sum(0)

    def pooled(values: Sequence[Sequence[float]]) -> tuple[float, ...]:
        return tuple(((counts * np.array(values)).sum(0) / np.maximum(total, 1)).tolist())

    return Reliability(
        tuple(total.tolist()), pooled([c.confidence for c in curves]), pooled([c.accuracy for c in curves])
    )


def mean_scenes(found: Sequence[dict[str, Scene]]) -> dict[str, Scene]:
    """Clips, UAR and WAR of each scene that a data set names, means over the results that have it."""
    means = {}
    for name in sorted({name for scenes in found for name in scenes}):
        there = [scenes[name] for scenes in found if name in scenes]
        means[name] = Scene(*(float(np.mean([getattr(s, what) for s in there])) for what in ("clips", "uar", "war")))
    return means


def format_rows(rows: Sequence[Row]) -> list[str]:
    """The rows as aligned text, in percent: mean over folds with 95 % interval, pooled over folds, flags.

    Deviations over seeds stand beside where there are several.
    """
    lines = [
        f"{'data set':18s} {'variant':14s} {'UAR':>6s} {'95 %':13s} {'WAR':>6s} {'95 %':13s} {'pooled UAR, WAR':16s}"
        " folds seeds  selection"
    ]
    for row in sorted(rows, key=lambda r: (r.dataset, r.war)):
        name = f"{row.source}->{row.dataset}" if row.source else row.dataset
        lines.append(
            f"{name:18s} {row.variant:14s} {_with_interval(row, 'uar')} {_with_interval(row, 'war')} "
            f"{100 * row.pooled_uar:8.2f}{100 * row.pooled_war:8.2f} "
            f"{len(row.folds):6d} {len(row.seeds):5d}  {' '.join(_flags(row))}"
        )
    return lines


def _flags(row: Row) -> list[str]:
    """What a reader of a row's figures must know."""
    flags = [row.selection or "-", *(["in-domain"] if row.in_domain else []), *row.set]
    if row.source and row.trained_with:
        flags.append(f"(trained on captions by {row.trained_with.kind})")
    flags += [f"{setting}={value}" for setting, value in row.differs.items()]
    if row.selection == "best-on-test":
        flags.append("(chosen on the test part)")
    if row.captions and row.captions.label_shown:
        flags.append("(captions saw the label)")
    if len(row.seeds) > 1:
        flags.append(f"over seeds: UAR +- {100 * row.uar_deviation:.2f}, WAR +- {100 * row.war_deviation:.2f}")
    return flags


def _with_interval(row: Row, metric: Metric) -> str:
    rate = row.rate(metric)
    low, high = (100 * bound for bound in rate.interval)
    return f"{100 * rate.mean:6.2f} {f'({low:.1f}-{high:.1f})':13s}"
