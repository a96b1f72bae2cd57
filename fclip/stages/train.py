"""`fclip train`: packed shards -> a run folder with adapter checkpoints and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fclip.config import CommonConfig, option
from fclip.engine.fetching import provide
from fclip.engine.train.options import TrainOptions
from fclip.errors import UsageError
from fclip.registry import VARIANTS
from fclip.runner.report import StageReport
from fclip.runner.workspace import dataset_folder, features_folder, find_dataset, require_folder, run_folder


@dataclass(frozen=True)
class Config(TrainOptions, CommonConfig):
    """Train a variant on the training parts of a fold and write a run folder.

    FineCLIPER: base, star, dagger, star-dagger; dfer-clip and the baselines of both papers. Hyper-parameters left out
    are those of the variant's paper, with --clip tiny those that suit it; --dry-run shows them. A run that was cut off
    goes on where it stopped, with the same result.

    Example:  fclip train --variant star-dagger --fold 1
              fclip train --variant base --clip tiny --epochs 6
    """

    fold: str = option("1", "fold to train on, or all")
    seed: tuple[int, ...] = option((0,), "seed, or several: 0,1,2")
    input: str | None = option(None, "packed folder, or its URL (s3:// ...), instead of the workspace's", flag="--in")
    out: Path | None = option(None, "run folder instead of <root>/runs/...")
    resume: bool = option(True, "go on from the run's last checkpoint")


def run(config: Config) -> StageReport:
    """Train every fold and seed asked for; finished runs are kept."""
    from fclip.schema import as_json, parse_options

    VARIANTS.make_options(config.variant, parse_options(config.set))  # a wrong one is told before anything is read
    packed = require_folder(config.input or dataset_folder(config) / "packed", "packed", config)
    dataset = config.dataset or (packed.parent.name if config.input else find_dataset(config))
    config = config.for_dataset(dataset)
    provide(config.weights())
    runs = planned_runs(config, dataset, packed)
    if config.out and len(runs) > 1:
        raise UsageError("--out names one run folder, but several folds or seeds were asked for; leave it out")
    options = config.train_options()
    from fclip.data.storage.folds import caption_source
    from fclip.engine.train.chance import chance_warning
    from fclip.engine.train.job import Job
    from fclip.engine.train.run import train_run
    from fclip.engine.train.run_folder import RunFolder

    report = StageReport("train", counts={"runs": 0}, values={"runs": []})
    for fold, seed in runs:
        report.out = config.out or run_folder(config, dataset, options.variant, fold, seed)
        job = Job(dataset, packed, fold, seed, features_folder(config, dataset), report.out)
        summary = train_run(options, job, device=config.device, overwrite=config.overwrite, resume=config.resume)
        report.counts["runs"] += 1
        report.values["runs"].append(as_json(summary))
        loss = "-" if summary.loss is None else f"{summary.loss:.4f}"
        clip = f" on {summary.clip} ({summary.activation})" if summary.activation else ""
        report.lines.append(
            f"fold {fold} seed {seed}: {summary.steps} steps, loss {loss}, "
            f"{summary.trainable:,} trainable parameters{clip} -> {report.out}"
            + (" (best-on-test: the checkpoint is CHOSEN ON THE TEST PART)" if options.select == "best-on-test" else "")
        )
        if summary.cut_captions:
            report.lines.append(
                f"fold {fold} seed {seed}: {summary.cut_captions} captions of the training parts are longer than the "
                f"text tower of {options.clip} reads, and were cut"
            )
        if warning := chance_warning(RunFolder(report.out).read_log()):
            report.lines.append(f"fold {fold} seed {seed}: {warning}")
    if caption_source(packed).label_shown:
        report.lines.append("the captions SAW THE LABEL: results that rest on them say so")
    return report


def listing(config: Config) -> StageReport | None:
    """What there is for `--clip list`; of `list:NAME,...` these models, their speed measured on the device."""
    if config.clip.partition(":")[0] != "list":
        return None
    from fclip.engine.batches.devices import choose_device
    from fclip.models.backbone.listing import clip_rows, listing_lines

    names = tuple(filter(None, config.clip.partition(":")[2].split(",")))
    device = str(choose_device(config.device)) if names else ""
    rows = list(clip_rows(names, device))
    return StageReport("train", values={"clip": rows}, lines=listing_lines(rows))


def planned_runs(config: Config, dataset: str, packed: Path) -> list[tuple[str, int]]:
    """(fold, seed) pairs of --fold and --seed; UsageError for a fold that the data set has not."""
    from fclip.data.storage.splits import read_splits

    splits = read_splits(packed)
    folds = sorted(splits.folds) if config.fold == "all" else config.fold.split(",")
    for fold in folds:
        if fold not in splits.folds:
            raise UsageError(f"--fold {fold}: data set {dataset} has the folds {', '.join(sorted(splits.folds))}")
    return [(fold, seed) for seed in config.seed for fold in folds]
