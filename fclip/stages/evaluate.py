"""`fclip eval`: a run's checkpoint on its fold's test parts -> prediction table, figures, confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fclip.config import CommonConfig, option
from fclip.errors import FclipError, MissingOutput, UsageError
from fclip.stages.folds import caption_facts, fold_shards
from fclip.stages.result import StageReport
from fclip.stages.workspace import require_folder


@dataclass(frozen=True)
class Config(CommonConfig):
    """Evaluate trained runs on the test parts of their folds, or score a prediction table of any other method.

    Without arguments every run in <root>/runs is evaluated (those of --dataset, if given). Writes
    <run>/eval/predictions.csv, from which all else is derived: results.json, confusion.png.

    Example:  fclip eval fclip-data/runs/demo7-base-fold1-seed0
              fclip eval --compare RUN1 RUN2
              fclip eval --predictions other-method.csv
    """

    runs: tuple[str, ...] = option((), "run folders [all in <root>/runs]", positional=True)
    variant: str | None = option(None, "only the runs of this variant")
    compare: bool = option(False, "compare two runs of one fold: McNemar's test, bootstrap of the differences")
    predictions: Path | None = option(None, "score this table (key,true,predicted or p:<class>...) instead of a run")
    batch_size: int = option(16, "clips at once")
    without: tuple[str, ...] = option(
        (), "modalities to leave out at test time: caption,parsing,landmarks", output=True
    )
    workers: int = option(0, "processes that load clips; 0 = in this process")
    input: Path | None = option(None, "packed folder instead of the workspace's", flag="--in")


def run(config: Config) -> StageReport:
    """Evaluate the runs asked for and summarise folds and seeds of each variant."""
    from fclip.engine.aggregate import aggregate, format_table

    if config.predictions:
        return _score_table(config.predictions)
    report = StageReport("eval", counts={"runs": 0})
    results = []
    folders = find_runs(config)
    if config.compare and len(folders) != 2:
        raise UsageError(f"--compare takes two run folders, {len(folders)} were given")
    for folder in folders:
        results.append(evaluate_run(config, folder))
        report.counts["runs"] += 1
        report.out = folder / "eval"
    rows = aggregate(results)
    report.values["results"] = rows
    report.lines += format_table(rows)
    if len(results) == 1:
        report.lines += class_lines(results[0])
    if config.compare:
        report.values["comparison"], lines = _compare(folders[0], folders[1])
        report.lines += lines
    return report


def _compare(first: Path, second: Path) -> tuple[dict[str, Any], list[str]]:
    """Compare the prediction tables of two evaluated runs."""
    from fclip.engine.compare import compare_tables
    from fclip.engine.predictions import read_predictions

    found = compare_tables(*(read_predictions(folder / "eval" / "predictions.csv") for folder in (first, second)))
    lines = [f"{first.name} - {second.name} on {found['clips']} clips"]
    for metric in ("uar", "war"):
        low, high = found[f"{metric}_interval"]
        lines.append(
            f"  {metric.upper()} {100 * found[f'{metric}_difference']:+.2f} points, 95 % interval "
            f"{100 * low:+.2f} to {100 * high:+.2f}"
        )
    lines.append(
        f"  McNemar: {found['only_first_right']} and {found['only_second_right']} clips that only one gets right, "
        f"p = {found['mcnemar_p']:.4f}"
    )
    return found, lines


def _score_table(path: Path) -> StageReport:
    from fclip.engine.metrics import summarise
    from fclip.engine.predictions import read_predictions

    table = read_predictions(path)
    found = summarise(table.true_indices(), table.matrix(), table.classes)
    line = f"UAR {100 * found['uar']:.2f}  WAR {100 * found['war']:.2f}  ({found['clips']} clips, as {path} says)"
    return StageReport(
        "eval", counts={"clips": found["clips"]}, values={"result": found}, lines=[line, *class_lines(found)]
    )


def class_lines(found: dict[str, Any]) -> list[str]:
    """Per-class recall as text lines."""
    lines = []
    for name in found["classes"]:
        recall = found["recall"][name]
        shown = "absent" if recall is None else f"{100 * recall:5.1f} %"
        lines.append(f"  {name:15s} recall {shown}  ({found['support'][name]} clips)")
    return lines


def find_runs(config: Config) -> list[Path]:
    """Run folders named, or all of the workspace; MissingOutput when there are none."""
    from fclip.data.files import read_json

    if config.runs:
        folders = [Path(name) for name in config.runs]
        for folder in folders:
            if not (folder / "config.json").is_file():
                raise FclipError(f"{folder}: not a run folder (no config.json); train one with: fclip train")
        return folders
    found = []
    for path in sorted((config.root / "runs").glob("*/config.json")):
        identity = read_json(path)
        if identity.get("stage") != "train" or not (path.parent / "LAST").is_file():
            continue
        if config.dataset in (None, identity["dataset"]) and config.variant in (None, identity["config"]["variant"]):
            found.append(path.parent)
    if not found:
        raise MissingOutput(config.root / "runs", "train")
    return found


def evaluate_run(config: Config, folder: Path) -> dict[str, Any]:
    """Evaluate one run; an evaluation of the same checkpoint and options that is there already is kept."""
    from fclip.data.files import read_json, sha256_file
    from fclip.data.splits import read_splits
    from fclip.engine.runs import RunFolder
    from fclip.models import load_model
    from fclip.models.checkpoint import load_checkpoint

    identity = read_json(folder / "config.json")
    pointer = "LAST" if identity["config"]["select"] == "last" else "BEST"
    checkpoint = RunFolder(folder).pointer(pointer) / "model.safetensors"
    facts = {
        "run": folder.name,
        "dataset": identity["dataset"],
        "variant": identity["config"]["variant"],
        "clip": identity["config"]["clip"],
        "fold": identity["fold"],
        "seed": identity["run_seed"],
        "selection": identity["config"]["select"],
        "checkpoint_sha256": sha256_file(checkpoint),
        "without": list(config.without),
        "set": identity["config"]["set"],
    }
    known = folder / "eval" / "results.json"
    if known.is_file() and (folder / "eval" / "predictions.csv").is_file() and not config.overwrite:
        old = read_json(known)
        if {name: old.get(name) for name in facts} == facts:
            return old
    packed = require_folder(config.input or config.root / identity["dataset"] / "packed", "packed", config)
    model = load_model(checkpoint)
    facts["trained_with"] = load_checkpoint(checkpoint)[1].get("captions")
    shards = fold_shards(read_splits(packed), packed, identity["fold"], "last").test
    options = EvaluationOptions(config.device, config.batch_size, config.workers, config.without)
    return evaluate_model(options, model, packed, shards, folder / "eval", facts)


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate: device, clips at once, loader processes, modalities to leave out."""

    device: str
    batch_size: int
    workers: int
    without: tuple[str, ...]


def evaluate_model(
    config: EvaluationOptions, model: Any, packed: Path, shards: list[Path], out: Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """Predict the clips of `shards`, write the table and everything derived from it into `out`; returns the results."""
    from fclip.data.files import write_json
    from fclip.data.splits import check_classes, read_classes
    from fclip.engine.devices import choose_device
    from fclip.engine.evaluate import predict_clips
    from fclip.engine.inputs import InputPreparer
    from fclip.engine.loading import clip_loader
    from fclip.engine.metrics import per_group, summarise
    from fclip.report.plots import confusion_picture

    check_classes(model.classes, read_classes(packed), f"{packed} for the checkpoint of {facts['run']}")
    if not shards:
        raise FclipError(f"{packed}: no shard of the test parts of fold {facts['fold']}")
    device = choose_device(config.device)
    model.to(device).eval()
    loader = clip_loader(shards, model, config.batch_size, train=False, workers=config.workers, without=config.without)
    table = predict_clips(model, loader.epoch(0), InputPreparer(model, device, without=config.without))
    table.write(out / "predictions.csv")
    found = summarise(table.true_indices(), table.matrix(), table.classes)
    used = sorted(set(table.modalities))
    result = {
        **facts,
        **found,
        "modalities": used,
        "scenes": per_group(table.true_indices(), table.matrix().argmax(1), table.scenes, len(table.classes)),
        "captions": caption_facts(packed) if "caption" in "".join(used) else None,
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    write_json(out / "results.json", result)
    confusion_picture(found["confusion"], found["classes"], out / "confusion.png", title=facts["run"])
    return result
