"""Evaluated runs as they lie on disk, read for tables: the result, the figures derived anew from the predictions."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fclip.config import CommonConfig
from fclip.data.storage.shards import index_shard
from fclip.data.storage.training_log import read_training_log
from fclip.engine.evaluate.aggregate import Evaluated
from fclip.engine.evaluate.predictions import read_predictions
from fclip.engine.evaluate.results import Result, figures_of
from fclip.engine.train.chance import chance_warning
from fclip.errors import FclipError, MissingOutput
from fclip.files import sha256_file
from fclip.records import CaptionSource, CheckpointInfo
from fclip.runner.pointer import WEIGHTS, read_pointer
from fclip.runner.workspace import first_command
from fclip.schema import parse_record, read_record
from fclip.tensors import read_header

log = logging.getLogger(__name__)


def find_evaluated(config: CommonConfig, runs: tuple[str, ...]) -> list[Evaluated]:
    """The evaluated runs asked for, or all of the workspace's; MissingOutput if there is none."""
    if runs:
        folders = [Path(name) for name in runs]
        for folder in folders:
            if not (folder / "eval" / "results.json").is_file():
                raise MissingOutput(folder / "eval", f"eval {folder}")
    else:
        folders = [path.parent.parent for path in sorted((config.root / "runs").glob("*/eval/results.json"))]
    found = []
    for folder in folders:
        try:
            found.append(read_evaluated(folder))
        except FclipError as error:
            if runs:
                raise
            log.warning("left out: %s", error)
    found = [each for each in found if config.dataset in (None, each.result.dataset)]
    if not found:
        raise MissingOutput(config.root / "runs" / "*" / "eval", first_command(config, "eval"))
    return found


def untrained(evaluated: Iterable[Evaluated]) -> list[str]:
    """A line for each run behind these results that has learned nothing, as far as its log tells."""
    folders = [each.result.checkpoint or each.folder for each in evaluated]
    lines = []
    for folder in dict.fromkeys(Path(folder) for folder in folders if folder):
        if warning := chance_warning(read_training_log(folder / "metrics.jsonl")):
            lines.append(f"{folder.name}: {warning}")
    return lines


@dataclass(frozen=True)
class EvaluationRecord:
    """The commit record of an evaluation, eval/evaluation.json, written last: {name: sha256} of all that was read
    (shards, splits, classes, checkpoint) and all that was written."""

    inputs: dict[str, str]
    outputs: dict[str, str]


RECORD = "evaluation.json"
OUTPUTS = ("predictions.csv", "results.json", "confusion.png")


def changed_output(out: Path) -> str | None:
    """The first output of the evaluation in `out` that is not what its record lists; None if all are.

    The record's own name where it is missing or damaged: such an evaluation is not finished.
    """
    try:
        record = read_record(out / RECORD, EvaluationRecord)
    except FclipError:
        return RECORD
    if set(record.outputs) != set(OUTPUTS):
        return RECORD
    for name, sha256 in record.outputs.items():
        if not (out / name).is_file() or sha256_file(out / name) != sha256:
            return name
    return None


def read_evaluated(folder: Path) -> Evaluated:
    """One evaluated run, its figures derived from predictions.csv.

    FclipError where the evaluation is not finished, or something of it was changed afterwards. Evaluations of schema 1
    have no record; of them predictions.csv must be of the classes and clips of results.json.
    """
    result = read_record(folder / "eval" / "results.json", Result)
    recorded = result.schema > 1 or (folder / "eval" / RECORD).exists()  # schema may be what was changed
    changed = changed_output(folder / "eval") if recorded else None
    if changed is not None:
        what = "is missing or damaged, the evaluation is not finished" if changed == RECORD else "is not as written"
        raise FclipError(f"{folder / 'eval' / changed}: {what}; make it again: fclip eval {folder}")
    path = folder / "eval" / "predictions.csv"
    table = read_predictions(path)
    if table.classes != result.classes or len(table.keys) != result.clips:
        raise FclipError(f"{path}: does not belong to results.json beside it; make both again: fclip eval --overwrite")
    result = dataclasses.replace(result, **vars(figures_of(table)))
    if result.schema < 3:
        result = dataclasses.replace(result, trained_with=training_captions(folder, result))
    return Evaluated(result, table.clips(), folder)


def training_captions(folder: Path, result: Result) -> CaptionSource | None:
    """The captions that the training of a run read, from its checkpoint's header; None where it read none."""
    run = Path(result.checkpoint) if result.checkpoint else folder
    try:  # the header alone, without the models' libraries
        header, _ = read_header(read_pointer(run / "LAST") / WEIGHTS)
        info = parse_record(header, CheckpointInfo, str(run))
    except FclipError:  # nothing was trained, or the weights were moved away
        return None
    return info.captions_read


def has_signals(folder: Path) -> bool:
    """Whether signals were packed for the data set in `folder`, so that variant `signals` can be trained on it."""
    first = next(iter(sorted((folder / "packed").glob("*.tar"))), None)
    if first is None:
        return False
    try:
        return any("signals.npy" in fields for fields in index_shard(first).values())
    except FclipError:  # a report needs the results alone
        return False


@dataclass(frozen=True)
class LeakProbe:
    """How well a bag-of-words classifier tells the label from captions alone, and the share of the largest class."""

    accuracy: float
    interval: tuple[float, float]
    majority: float


@dataclass(frozen=True)
class LeakReport:
    """refined/leak.json: the probe before and after refinement."""

    before: LeakProbe
    after: LeakProbe


def read_leak(folder: Path) -> LeakReport | None:
    """The leak probe's result of a data set's folder; None where it was not run."""
    path = folder / "refined" / "leak.json"
    return read_record(path, LeakReport) if path.is_file() else None
