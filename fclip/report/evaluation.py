"""Evaluating a model on a fold: predictions.csv, results.json and confusion.png, and last the record of all three.

An evaluation is kept where its record says that nothing has changed: not the outputs, not the shards, splits, classes
and weights that it was made from. Anything less is made again; other options are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fclip.config import differences, loader_processes
from fclip.data.storage.folds import caption_source, fold_shards
from fclip.data.storage.splits import check_classes, read_classes, read_splits
from fclip.engine.evaluate.aggregate import Evaluated
from fclip.engine.evaluate.predictions import PredictionTable, read_predictions
from fclip.engine.evaluate.results import Result, RunFacts, make_result, narrow
from fclip.errors import FclipError, OutputDiffers
from fclip.files import sha256_file
from fclip.report.evaluated import OUTPUTS, RECORD, EvaluationRecord, changed_output, read_evaluated
from fclip.runner.lock import FolderLock
from fclip.runner.verify import read_hash
from fclip.schema import JsonObject, plain_fields, read_record, write_record

if TYPE_CHECKING:
    from fclip.models.base import ExpressionModel


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate: device, clips at once, loader processes, folder of cached features."""

    device: str
    batch_size: int
    workers: int
    features: Path


@dataclass(frozen=True)
class Subject:
    """What is evaluated: what it is called, the data, the weights file (None: CLIP's own), how its model is made."""

    facts: RunFacts
    packed: Path
    checkpoint: Path | None
    load: Callable[[], ExpressionModel]


def evaluate(subject: Subject, options: EvaluationOptions, folder: Path, *, overwrite: bool) -> Evaluated:
    """The evaluation in <folder>/eval: kept where it is whole and of the same subject, else made.

    Raises OutputDiffers where one of other options is there and `overwrite` is not given.
    """
    packed, out = subject.packed, folder / "eval"
    shards = fold_shards(read_splits(packed), packed, subject.facts.fold, "last").test
    if not shards:
        raise FclipError(f"{packed}: no shard of the test parts of fold {subject.facts.fold}")
    files = {path.name: path for path in (*shards, packed / "splits.json", packed / "classes.json")}
    if subject.checkpoint:
        files["checkpoint"] = subject.checkpoint
    inputs = {name: read_hash(path) for name, path in files.items()}
    with FolderLock(out).held():
        if overwrite or not _is_kept(out, subject.facts, inputs):
            model = subject.load()
            check_classes(model.classes, read_classes(packed), f"{packed} for the checkpoint of {subject.facts.run}")
            for stale in (RECORD, "explanations.npz"):
                (out / stale).unlink(missing_ok=True)
            _predict(model, shards, subject.facts, options).write(out / OUTPUTS[0])
            _derive(out, subject, sum(p.numel() for p in model.parameters() if p.requires_grad))
            outputs = {name: sha256_file(out / name) for name in OUTPUTS}
            write_record(out / RECORD, EvaluationRecord(inputs, outputs))
    return read_evaluated(folder)


def _is_kept(out: Path, facts: RunFacts, inputs: dict[str, str]) -> bool:
    """Whether `out` holds a whole evaluation of these facts and inputs; OutputDiffers if an option has changed."""
    changed = changed_output(out)
    try:
        old = narrow(RunFacts, read_record(out / "results.json", Result))
    except FclipError:
        return False
    if changed != "results.json" and _chosen(old) != _chosen(facts):
        lines = differences(plain_fields(old), plain_fields(facts))
        raise OutputDiffers(f"{out}: made with other options ({'; '.join(lines)}); use --overwrite")
    return changed is None and old == facts and read_record(out / RECORD, EvaluationRecord).inputs == inputs


def _chosen(facts: RunFacts) -> RunFacts:
    """The facts without those that are not options, but follow from the files that were read and their folder."""
    return replace(facts, run="", checkpoint_sha256=None, data=None, trained_with=None)


def _predict(
    model: ExpressionModel, shards: list[Path], facts: RunFacts, options: EvaluationOptions
) -> PredictionTable:
    """The predictions of the clips of `shards`, without the modalities that are left out."""
    from fclip.engine.batches.devices import choose_device
    from fclip.engine.batches.loading import clip_loader
    from fclip.engine.batches.prepare import InputPreparer
    from fclip.engine.evaluate.run_model import predict_clips

    device = choose_device(options.device)
    model.to(device).eval()
    loader = clip_loader(
        shards,
        model,
        options.batch_size,
        train=False,
        features=options.features,
        workers=loader_processes(options.workers),
        without=facts.without,
    )
    return predict_clips(model, loader.epoch(0), InputPreparer(model, device, without=facts.without))


def _derive(out: Path, subject: Subject, trainable: int) -> None:
    """Write what follows from predictions.csv as it was stored: results.json and confusion.png."""
    from fclip.report.page.plots import confusion_picture

    table = read_predictions(out / OUTPUTS[0])
    reads_captions = any("caption" in used for used in table.modalities)
    captions = caption_source(subject.packed) if reads_captions else None
    result = make_result(subject.facts, table, captions=captions, trainable=trainable)
    write_record(out / OUTPUTS[1], result)
    confusion_picture(result.confusion, result.classes, out / OUTPUTS[2], title=subject.facts.run)


def train_settings(config: JsonObject) -> JsonObject:
    """What a run was trained with beside the facts of its own in a result: a mean over folds needs the same."""
    return {name: config[name] for name in config if name not in ("variant", "clip", "set", "select")}
