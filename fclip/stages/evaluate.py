"""`fclip eval`: a run's checkpoint on its fold's test parts -> prediction table, figures, confusion matrix."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fclip.config import CommonConfig, option
from fclip.data.storage.folds import caption_facts, data_hash, fold_shards
from fclip.errors import FclipError, MissingOutput, OutputDiffers, UsageError
from fclip.runner.report import StageReport
from fclip.runner.workspace import features_folder, find_dataset, require_folder

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
    workers: int = option(0, "processes that load clips; 0 = in this process")
    input: str | None = option(None, "packed folder, or its URL (s3:// ...), instead of the workspace's", flag="--in")


def run(config: Config) -> StageReport:
    """Evaluate the runs asked for and summarise folds and seeds of each variant."""
    from fclip.engine.evaluate.aggregate import format_table
    from fclip.report.external import score_file
    from fclip.stages.report import complete_rows

    if config.predictions:
        return score_file(config.predictions, config, config.input)
    report = StageReport("eval", counts={"runs": 0})
    results = []
    folders = find_runs(config)
    if config.compare and len(folders) != 2:
        raise UsageError(f"--compare takes two run folders, {len(folders)} were given")
    for place, name in enumerate(folders):
        folder, result = evaluate_file(config, name) if name.is_file() else (name, evaluate_run(config, name))
        folders[place] = folder
        results.append({**result, "folder": folder})
        report.counts["runs"] += 1
        report.out = folder / "eval"
    report.values["results"] = rows = complete_rows(results)[0]
    report.lines += format_table(rows)
    if len(results) == 1:
        report.lines += class_lines(results[0])
    if config.compare:
        report.values["comparison"], lines = _compare(folders[0], folders[1])
        report.lines += lines
    return report


def _compare(first: Path, second: Path) -> tuple[dict[str, Any], list[str]]:
    """Compare the prediction tables of two evaluated runs."""
    from fclip.engine.evaluate.compare import compare_tables
    from fclip.engine.evaluate.predictions import read_predictions

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


def class_lines(found: dict[str, Any]) -> list[str]:
    """Recall and precision per class, and figures per scene, as text lines."""

    def percent(value: float | None, none: str) -> str:
        return f"{100 * value:5.1f} %" if value is not None else f"{none:7s}"

    lines = []
    for name in found["classes"]:
        recall, precision = percent(found["recall"][name], "absent"), percent(found["precision"][name], "never")
        lines.append(f"  {name:15s} recall {recall}  precision {precision}  ({found['support'][name]} clips)")
    for name, scene in found.get("scenes", {}).items():
        figures = f"UAR {100 * scene['uar']:6.2f}  WAR {100 * scene['war']:6.2f}"
        lines.append(f"  scene {name:15s} {figures}  ({scene['clips']} clips)")
    return lines


def find_runs(config: Config) -> list[Path]:
    """Run folders named, or all finished ones of the workspace; MissingOutput when there are none."""
    from fclip.files import read_json

    if config.runs:
        folders = [Path(name) for name in config.runs]
        for folder in folders:
            if not folder.is_file() and not (folder / "config.json").is_file():
                raise FclipError(f"{folder}: not a run folder (no config.json); train one with: fclip train")
        return folders
    found = []
    for path in sorted((config.root / "runs").glob("*/config.json")):
        identity = read_json(path)
        if identity.get("stage") != "train" or not (path.parent / "LAST").is_file():
            continue
        if config.dataset in (None, identity["dataset"]) and config.variant in (None, identity["config"]["variant"]):
            if (path.parent / "done.json").is_file():
                found.append(path.parent)
            else:
                log.warning("%s: training is not finished; name it to evaluate its last checkpoint", path.parent)
    if not found:
        raise MissingOutput(config.root / "runs", "train")
    return found


def evaluate_run(config: Config, folder: Path) -> dict[str, Any]:
    """Evaluate one run; an evaluation of the same checkpoint and options that is there already is kept."""
    from fclip.data.storage.splits import read_splits
    from fclip.engine.train.run_folder import RunFolder
    from fclip.files import read_json, sha256_file
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
        "settings": train_settings(identity["config"]),
    }
    packed = require_folder(config.input or config.root / identity["dataset"] / "packed", "packed", config)
    facts["data"] = data_hash(packed)
    kept = kept_results(folder / "eval", facts, config.overwrite)
    if kept is not None:
        return kept
    model = load_model(checkpoint)
    facts["trained_with"] = load_checkpoint(checkpoint)[1].get("captions")
    shards = fold_shards(read_splits(packed), packed, identity["fold"], "last").test
    features = features_folder(config, identity["dataset"])
    options = EvaluationOptions(config.device, config.batch_size, config.workers, config.without, features)
    return evaluate_model(options, model, packed, shards, folder / "eval", facts)


def train_settings(config: dict[str, Any]) -> dict[str, Any]:
    """What a run was trained with beside the facts of its own in a result: a mean over folds needs the same."""
    return {name: config[name] for name in config if name not in ("variant", "clip", "set", "select")}


def evaluate_file(config: Config, path: Path) -> tuple[Path, dict[str, Any]]:
    """Test a checkpoint file on a fold of the data set: (folder of its results in the workspace, results)."""
    from fclip.data.storage.splits import read_splits
    from fclip.files import sha256_file
    from fclip.models import load_model
    from fclip.models.checkpoint import load_checkpoint

    dataset = config.dataset or find_dataset(config)
    packed = require_folder(config.input or config.root / dataset / "packed", "packed", config)
    splits = read_splits(packed)
    if config.fold not in splits.folds:
        raise UsageError(f"--fold {config.fold}: data set {dataset} has the folds {', '.join(sorted(splits.folds))}")
    meta = load_checkpoint(path)[1]
    out = config.root / "runs" / f"{dataset}-{path.stem}-fold{config.fold}"
    facts = {
        "run": out.name,
        "dataset": dataset,
        "variant": meta["variant"],
        "clip": meta["clip"],
        "fold": config.fold,
        "seed": meta.get("seed", 0),
        "selection": meta.get("selection", "unknown"),
        "checkpoint_sha256": sha256_file(path),
        "without": list(config.without),
        "set": [],
        "settings": {},
        "data": data_hash(packed),
        "trained_with": meta.get("captions"),
    }
    kept = kept_results(out / "eval", facts, config.overwrite)
    if kept is None:
        features = features_folder(config, dataset)
        options = EvaluationOptions(config.device, config.batch_size, config.workers, config.without, features)
        shards = fold_shards(splits, packed, config.fold, "last").test
        kept = evaluate_model(options, load_model(path), packed, shards, out / "eval", facts)
    return out, kept


def kept_results(out: Path, facts: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The results in `out` if they come from `facts`; None where there are none, or weights or data have changed.

    Raises OutputDiffers where an option has changed.
    """
    from fclip.config import differences
    from fclip.files import read_json

    if overwrite or not all((out / name).is_file() for name in ("results.json", "predictions.csv")):
        return None
    results: dict[str, Any] = read_json(out / "results.json")
    old = {name: results.get(name) for name in facts}
    if old == facts:
        return results
    inputs = dict.fromkeys(("checkpoint_sha256", "data"))
    if {**old, **inputs} == {**facts, **inputs}:
        return None
    raise OutputDiffers(f"{out}: made with other options ({'; '.join(differences(old, facts))}); use --overwrite")


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate: device, clips at once, loader processes, modalities to leave out, folder of cached features."""

    device: str
    batch_size: int
    workers: int
    without: tuple[str, ...]
    features: Path


def evaluate_model(
    config: EvaluationOptions, model: Any, packed: Path, shards: list[Path], out: Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """Predict the clips of `shards`, write the table and everything derived from it into `out`; returns the results."""
    from fclip.data.storage.splits import check_classes, read_classes
    from fclip.engine.batches.devices import choose_device
    from fclip.engine.batches.loading import clip_loader
    from fclip.engine.batches.prepare import InputPreparer
    from fclip.engine.evaluate.metrics import per_group, summarise
    from fclip.engine.evaluate.predictions import read_predictions
    from fclip.engine.evaluate.run_model import predict_clips
    from fclip.files import write_json
    from fclip.report.page.plots import confusion_picture

    check_classes(model.classes, read_classes(packed), f"{packed} for the checkpoint of {facts['run']}")
    if not shards:
        raise FclipError(f"{packed}: no shard of the test parts of fold {facts['fold']}")
    device = choose_device(config.device)
    model.to(device).eval()
    loader = clip_loader(
        shards,
        model,
        config.batch_size,
        train=False,
        features=config.features,
        workers=config.workers,
        without=config.without,
    )
    predict_clips(model, loader.epoch(0), InputPreparer(model, device, without=config.without)).write(
        out / "predictions.csv"
    )
    table = read_predictions(out / "predictions.csv")
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
