"""`fclip eval`: a run's checkpoint on its fold's test parts -> prediction table, figures, confusion matrix."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fclip.config import CommonConfig, option
from fclip.data.storage.folds import data_hash
from fclip.engine.fetching import provide_for
from fclip.errors import FclipError, MissingOutput, UsageError
from fclip.runner.report import StageReport
from fclip.runner.workspace import features_folder, find_dataset, first_command, require_folder

if TYPE_CHECKING:
    from fclip.engine.evaluate.aggregate import Evaluated
    from fclip.engine.evaluate.compare import Comparison
    from fclip.engine.evaluate.results import Result
    from fclip.report.evaluation import Subject

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config(CommonConfig):
    """Evaluate trained runs on the test parts of their folds, or score a prediction table of any other method.

    A checkpoint file, such as `fclip convert` makes of a released one, is tested on --dataset and --fold; its results
    go to <root>/runs/<dataset>-<file>-fold<k>.

    Without arguments every finished run in <root>/runs is evaluated (those of --dataset, if given). Writes
    <run>/eval/predictions.csv, from which all else is derived: results.json, confusion.png.

    --predictions takes a CSV with the columns key,true,predicted (or p:<class>...), and fold and seed where there are
    several. With --dataset its labels are checked, every test clip must be there, and the data set gives the folds.

    Example:  fclip eval fclip-data/runs/demo7-base-fold1-seed0
              fclip eval released.safetensors --dataset dfew --fold 1
              fclip eval --compare RUN1 RUN2
              fclip eval --predictions other-method.csv --dataset dfew
    """

    runs: tuple[str, ...] = option((), "run folders or checkpoint files [all runs in <root>/runs]", positional=True)
    variant: str | None = option(None, "only the runs of this variant")
    compare: bool = option(False, "compare two runs of one fold: McNemar's test, bootstrap of the differences")
    predictions: Path | None = option(None, "score this CSV of any method instead of runs")
    fold: str = option("1", "fold to test a checkpoint file on", output=True)
    batch_size: int = option(16, "clips at once")
    without: tuple[str, ...] = option(
        (), "modalities to leave out at test time: caption,parsing,landmarks", output=True
    )
    workers: int = option(1, "processes that load clips; 1 = this one, 0 = one per CPU core")
    input: str | None = option(None, "packed folder, or its URL (s3:// ...), instead of the workspace's", flag="--in")


def run(config: Config) -> StageReport:
    """Evaluate the runs asked for and summarise folds and seeds of each variant."""
    from fclip.engine.evaluate.aggregate import format_rows, make_rows
    from fclip.engine.evaluate.external import score_file
    from fclip.schema import as_json

    if config.predictions:
        packed = None
        if config.input or config.dataset:
            there = config.input or config.root / str(config.dataset) / "packed"
            packed = require_folder(there, "packed", config)
        evaluated = score_file(config.predictions, config.dataset, packed)
        report = StageReport("eval", counts={"clips": sum(each.result.clips for each in evaluated)})
        report.values["folds"] = [as_json(each.result) for each in evaluated]
    else:
        names = find_runs(config)
        if config.compare and len(names) != 2:
            raise UsageError(f"--compare takes two run folders, {len(names)} were given")
        evaluated = [evaluate_path(config, name) for name in names]
        report = StageReport("eval", evaluated[-1].out, counts={"runs": len(evaluated)})
    rows = [row for row, _ in make_rows(evaluated)]
    report.values["results"] = [as_json(row) for row in rows]
    report.lines += format_rows(rows)
    if len(evaluated) == 1:
        report.lines += class_lines(evaluated[0].result)
    elif config.predictions:
        report.lines += [f"  {name:15s} recall {_percent(value, 'absent')}" for name, value in rows[0].recall.items()]
    if config.compare:
        comparison, lines = _compare(*evaluated)
        report.values["comparison"] = as_json(comparison)
        report.lines += lines
    return report


def _compare(first: Evaluated, second: Evaluated) -> tuple[Comparison, list[str]]:
    """Compare the prediction tables of two evaluated runs."""
    from fclip.engine.evaluate.compare import compare_tables
    from fclip.engine.evaluate.predictions import read_predictions

    tables = [read_predictions(each.out / "predictions.csv") for each in (first, second) if each.out]
    found = compare_tables(*tables)
    lines = [f"{first.result.run} - {second.result.run} on {found.clips} clips"]
    for name, difference, (low, high) in (
        ("UAR", found.uar_difference, found.uar_interval),
        ("WAR", found.war_difference, found.war_interval),
    ):
        interval = f"95 % interval {100 * low:+.2f} to {100 * high:+.2f}"
        lines.append(f"  {name} {100 * difference:+.2f} points, {interval}")
    lines.append(
        f"  McNemar: {found.only_first_right} and {found.only_second_right} clips that only one gets right, "
        f"p = {found.mcnemar_p:.4f}"
    )
    return found, lines


def class_lines(result: Result) -> list[str]:
    """Recall and precision per class, and figures per scene, as text lines."""
    lines = []
    for name in result.classes:
        recall, precision = _percent(result.recall[name], "absent"), _percent(result.precision[name], "never")
        lines.append(f"  {name:15s} recall {recall}  precision {precision}  ({result.support[name]} clips)")
    for name, scene in result.scenes.items():
        figures = f"UAR {100 * scene.uar:6.2f}  WAR {100 * scene.war:6.2f}"
        lines.append(f"  scene {name:15s} {figures}  ({scene.clips:g} clips)")
    return lines


def _percent(value: float | None, none: str) -> str:
    return f"{100 * value:5.1f} %" if value is not None else f"{none:7s}"


def find_runs(config: Config) -> list[Path]:
    """Run folders named, or all finished ones of the workspace; MissingOutput when there are none."""
    if config.runs:
        folders = [Path(name) for name in config.runs]
        for folder in folders:
            if not folder.is_file() and not (folder / "config.json").is_file():
                raise FclipError(f"{folder}: not a run folder (no config.json); train one with: fclip train")
        return folders
    trained = sorted((config.root / "runs").glob("*/LAST"))
    if not trained:
        raise MissingOutput(config.root / "runs", first_command(config, "train"))
    from fclip.engine.train.run_folder import RunFolder, read_identity

    found = []
    for path in trained:
        folder = path.parent
        identity = read_identity(folder)
        if config.dataset in (None, identity.dataset) and config.variant in (None, identity.options().variant):
            if RunFolder(folder).summary():
                found.append(folder)
            else:
                log.warning("%s: training is not finished; name it to evaluate its last checkpoint", folder)
    if not found:
        raise MissingOutput(config.root / "runs", first_command(config, "train"))
    return found


def evaluate_path(config: Config, path: Path) -> Evaluated:
    """Evaluate a run, or a checkpoint file on the fold asked for."""
    from fclip.models.checkpoint import read_info
    from fclip.report.evaluation import EvaluationOptions, evaluate

    subject, folder = _file_subject(config, path) if path.is_file() else (_run_subject(config, path), path)
    features = features_folder(config, subject.facts.dataset)
    if not (config.root / subject.facts.dataset).is_dir() and not config.input:
        features = subject.packed.parent / features.name  # of the workspace that the run lies in
    if subject.checkpoint:
        provide_for(read_info(subject.checkpoint))
    options = EvaluationOptions(config.device, config.batch_size, config.workers, features)
    evaluated = evaluate(subject, options, folder, overwrite=config.overwrite)
    _remark_untrained(evaluated.result, subject.packed)
    return evaluated


def _remark_untrained(result: Result, packed: Path) -> None:
    """Say which classes the run could not learn; the training part is read only if one is never recognised."""
    from fclip.data.storage.folds import fold_shards
    from fclip.data.storage.splits import read_splits
    from fclip.data.training.access import untrained_remark

    missed = {name for name, recall in result.recall.items() if recall == 0}
    if missed:
        train = fold_shards(read_splits(packed), packed, result.fold, "last").train
        if remark := untrained_remark(missed, train):
            log.warning("eval: note: %s: %s", result.run, remark)


def _run_subject(config: Config, folder: Path) -> Subject:
    """A run's checkpoint, tested on its own fold."""
    from fclip.engine.evaluate.results import RunFacts
    from fclip.engine.train.run_folder import RunFolder, read_identity
    from fclip.files import sha256_file
    from fclip.models.checkpoint import load_model, read_info
    from fclip.report.evaluation import Subject, train_settings

    identity = read_identity(folder)
    options = identity.options()
    checkpoint = RunFolder(folder).chosen(options.select)
    info = read_info(checkpoint)
    packed = require_folder(config.input or packed_of(config, folder), "packed", config)
    facts = RunFacts(
        run=folder.name,
        dataset=identity.dataset,
        variant=options.variant,
        clip=info.clip_read,
        fold=identity.fold,
        seed=identity.run_seed,
        selection=options.select,
        checkpoint_sha256=sha256_file(checkpoint),
        without=config.without,
        set=options.set,
        settings=train_settings(identity.config),
        trained_with=info.captions_read,
        data=data_hash(packed),
    )
    return Subject(facts, packed, checkpoint, lambda: load_model(checkpoint))


def packed_of(config: Config, folder: Path) -> Path:
    """The packed folder of a run, in --root or in the workspace that it lies in: the one that its record names."""
    from fclip.engine.train.run_folder import read_identity

    identity = read_identity(folder)
    places = [root / identity.dataset / "packed" for root in (config.root, folder.resolve().parent.parent)]
    there = [place for place in places if place.is_dir()]
    same = [place for place in there if identity.data and data_hash(place) == identity.data]
    return (same or there or places)[0]


def _file_subject(config: Config, path: Path) -> tuple[Subject, Path]:
    """A checkpoint file, tested on a fold of the data set; and the folder in the workspace for its results."""
    from fclip.data.storage.splits import read_splits
    from fclip.engine.evaluate.results import RunFacts
    from fclip.files import sha256_file
    from fclip.models.checkpoint import load_model, read_info
    from fclip.report.evaluation import Subject

    dataset = config.dataset or find_dataset(config)
    packed = require_folder(config.input or config.root / dataset / "packed", "packed", config)
    folds = read_splits(packed).folds
    if config.fold not in folds:
        raise UsageError(f"--fold {config.fold}: data set {dataset} has the folds {', '.join(sorted(folds))}")
    info = read_info(path)
    folder = config.root / "runs" / f"{dataset}-{path.stem}-fold{config.fold}"
    facts = RunFacts(
        run=folder.name,
        dataset=dataset,
        variant=info.variant,
        clip=info.clip_read,
        fold=config.fold,
        seed=info.seed,
        selection=info.selection,
        checkpoint_sha256=sha256_file(path),
        without=config.without,
        trained_with=info.captions_read,
        data=data_hash(packed),
    )
    return Subject(facts, packed, path, lambda: load_model(path)), folder
