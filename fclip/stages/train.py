"""`fclip train`: packed shards -> a run folder with adapter checkpoints and metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fclip.config import CommonConfig, canonical_json, config_dict, hash_of, option
from fclip.data.storage.folds import FoldShards, caption_facts, clip_frames, data_hash, fold_shards
from fclip.errors import UsageError
from fclip.runner.report import StageReport
from fclip.runner.workspace import dataset_folder, features_folder, find_dataset, require_folder, run_folder

if TYPE_CHECKING:
    from fclip.engine.batches.team import Team
    from fclip.engine.train.run_folder import RunFolder
    from fclip.models.base import ExpressionModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config(CommonConfig):
    """Train a variant on the training parts of a fold and write a run folder.

    FineCLIPER: base, star, dagger, star-dagger; dfer-clip and the baselines of both papers. Hyper-parameters left out
    are those of the variant's paper. A run that was cut off goes on where it stopped, with the same result.

    Example:  fclip train --variant star-dagger --fold 1
              fclip train --variant base --clip tiny --epochs 6 --lr 0.01
    """

    variant: str = option("star-dagger", "which model", output=True)
    clip: str = option("ViT-B-16", "tiny, ViT-B-16, ViT-B-32, ViT-L-14 or another open_clip model", output=True)
    clip_weights: str | None = option(None, "tag or file of CLIP's weights instead of the default", output=True)
    longclip_weights: str | None = option(
        None, "Long-CLIP weights for captions (else CLIP's positions are stretched)", output=True
    )
    fold: str = option("1", "fold to train on, or all")
    seed: tuple[int, ...] = option((0,), "seed, or several: 0,1,2")  # type: ignore[assignment]
    epochs: int | None = option(None, "epochs [the paper's]", output=True)
    batch_size: int | None = option(None, "clips a step [the paper's]", output=True)
    lr: float | None = option(None, "initial learning rate [the paper's]", output=True)
    weight_decay: float | None = option(None, "weight decay, not on biases and norms [the paper's]", output=True)
    momentum: float | None = option(None, "momentum of SGD [the paper's]", output=True)
    optimizer: Literal["sgd", "adamw"] | None = option(None, "optimizer [the paper's]", output=True)
    schedule: Literal["cosine", "multistep", "constant"] | None = option(
        None, "learning-rate schedule [the paper's]", output=True
    )
    warmup: int = option(0, "steps of linear warm-up", output=True)
    frames: int | None = option(None, "frames a clip [those in the shards]", output=True)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "auto = bf16 on a GPU, fp32 on the CPU", output=True
    )
    clip_norm: float = option(0.0, "clip gradients to this norm; 0 = off", output=True)
    accumulate: int = option(1, "batches a step", output=True)
    ema: float = option(0.0, "decay of a moving average of the weights, e.g. 0.999; 0 = off", output=True)
    balance: bool = option(False, "draw all classes equally often", output=True)
    without: tuple[str, ...] = option((), "modalities to leave out: parsing,landmarks,caption", output=True)
    set: tuple[str, ...] = option(
        (), "options of the variant: name=value,...; FineCLIPER's have checkpointing=true: less memory", output=True
    )
    descriptions: Path | None = option(
        None, "JSON file {class: text} of facial behaviour, for variants with class descriptions"
    )
    temporal: bool = option(False, "finetune: with a temporal transformer over the frames")
    select: Literal["last", "val", "best-on-test"] = option(
        "last",
        "checkpoint to report: the last; the best on a training part held out; or the best on the test part, "
        "as published figures do (flagged in every report)",
        output=True,
    )
    save_every: int = option(0, "also write a checkpoint every N steps")
    tensorboard: bool = option(False, "also write TensorBoard events to <run>/tensorboard (needs tensorboard)")
    workers: int = option(0, "processes that load clips; 0 = in this process")
    input: str | None = option(None, "packed folder, or its URL (s3:// ...), instead of the workspace's", flag="--in")
    out: Path | None = option(None, "run folder instead of <root>/runs/...")
    resume: bool = option(True, "go on from the run's last checkpoint")


ConfigT = TypeVar("ConfigT", bound=Config)


def run(config: Config) -> StageReport:
    """Train every fold and seed asked for; finished runs are kept."""
    config = with_flags(config)
    packed = require_folder(config.input or dataset_folder(config) / "packed", "packed", config)
    dataset = config.dataset or (packed.parent.name if config.input else find_dataset(config))
    runs = list(planned_runs(config, dataset, packed))
    if config.out and len(runs) > 1:
        raise UsageError("--out names one run folder, but several folds or seeds were asked for; leave it out")
    report = StageReport("train", counts={"runs": 0})
    for fold, seed in runs:
        out = config.out or run_folder(config, dataset, config.variant, fold, seed)
        summary = train_run(config, dataset, packed, fold, seed, out)
        report.counts["runs"] += 1
        report.out = out
        report.values.setdefault("runs", []).append(summary)
        report.lines.append(
            f"fold {fold} seed {seed}: {summary['steps']} steps, loss {summary['loss']:.4f}, "
            f"{summary['trainable']:,} trainable parameters -> {out}"
            + (" (best-on-test: the checkpoint is CHOSEN ON THE TEST PART)" if config.select == "best-on-test" else "")
        )
    if caption_facts(packed)["label_shown"]:
        report.lines.append("the captions SAW THE LABEL: results that rest on them say so")
    return report


def planned_runs(config: Config, dataset: str, packed: Path) -> list[tuple[str, int]]:
    """(fold, seed) pairs of --fold and --seed; UsageError for a fold that the data set has not."""
    from fclip.data.storage.splits import read_splits

    splits = read_splits(packed)
    folds = sorted(splits.folds) if config.fold == "all" else config.fold.split(",")
    for fold in folds:
        if fold not in splits.folds:
            raise UsageError(f"--fold {fold}: data set {dataset} has the folds {', '.join(sorted(splits.folds))}")
    return [(fold, seed) for seed in config.seed for fold in folds]


def with_flags(config: ConfigT) -> ConfigT:
    """The configuration with the options of the variant that have a flag of their own moved to --set."""
    import dataclasses

    pairs = [f"descriptions={config.descriptions}"] if config.descriptions else []
    pairs += ["temporal=true"] if config.temporal else []
    return dataclasses.replace(config, set=(*config.set, *pairs), descriptions=None, temporal=False)


def parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`name=value` pairs of --set as JSON values (true, 0.5, [1,2], text)."""
    import json

    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: write it as name=value")
        try:
            options[name.strip().replace("-", "_")] = json.loads(text)
        except ValueError:
            options[name.strip().replace("-", "_")] = text
    return options


def build_model(config: Config, classes: Sequence[str], frames: int) -> ExpressionModel:
    """The model of a configuration."""
    from fclip.models import create_model

    return create_model(
        config.variant,
        clip=config.clip,
        classes=classes,
        frames=frames,
        clip_weights=config.clip_weights,
        longclip_weights=config.longclip_weights,
        **parse_options(config.set),
    )


def train_run(config: Config, dataset: str, packed: Path, fold: str, seed: int, out: Path) -> dict[str, Any]:
    """Train one fold and seed into `out`; returns the run's summary (also when it was finished before)."""
    import contextlib

    import torch

    from fclip.data.storage.splits import read_classes, read_splits
    from fclip.engine.batches.devices import choose_device, describe_device
    from fclip.engine.batches.team import join_team
    from fclip.engine.train.run_folder import RunFolder
    from fclip.files import read_json, write_json
    from fclip.seeing.preparation import read_preparation

    shards = fold_shards(read_splits(packed), packed, fold, config.select)
    torch.manual_seed(seed)
    model = build_model(config, read_classes(packed), config.frames or clip_frames(shards.train[0]))
    identity = _identity(config, model, packed, dataset, fold, seed)
    folder = RunFolder(out)
    team, device = join_team(choose_device(config.device))
    with contextlib.ExitStack() as stack:
        if team.leads:
            stack.enter_context(folder.claim(identity, overwrite=config.overwrite, resume=config.resume))
        team.wait()
        if (out / "done.json").is_file():
            return read_json(out / "done.json")
        if team.leads:
            where = f"{describe_device(device)}{f', {team.size} processes' if team.size > 1 else ''}"
            log.warning("train: %s on %s fold %s seed %d, device %s", config.variant, dataset, fold, seed, where)
        preparation = read_preparation(packed)
        facts = {
            "dataset": dataset,
            "fold": fold,
            "seed": seed,
            "selection": config.select,
            "captions": caption_facts(packed),
            "preparation": preparation.as_dict() if preparation else None,
            "without": list(config.without),
        }
        steps = _fit(config, model.to(device), shards, seed, folder, facts, team)
        losses = [row["loss"] for row in folder.read_log() if "loss" in row]
        summary = {
            "run": str(out),
            "dataset": dataset,
            "variant": config.variant,
            "clip": config.clip,
            "fold": fold,
            "seed": seed,
            "steps": steps,
            "loss": losses[-1] if losses else None,
            "selection": config.select,
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        }
        if team.leads:
            write_json(out / "done.json", summary)
    return summary


def _fit(
    config: Config,
    model: ExpressionModel,
    shards: FoldShards,
    seed: int,
    folder: RunFolder,
    facts: dict[str, Any],
    team: Team,
) -> int:
    """Make loader, optimizer and trainer from the configuration and the variant's recipe, and train; the steps done."""
    from fclip.engine.batches.devices import choose_precision
    from fclip.engine.batches.loading import clip_loader
    from fclip.engine.batches.prepare import InputPreparer
    from fclip.engine.train.loop import LoopSettings, Trainer
    from fclip.engine.train.optimise import make_optimizer

    recipe, device = model.recipe, next(model.parameters()).device
    features = features_folder(config, facts["dataset"])
    batch_size = config.batch_size or recipe.batch_size
    if batch_size % team.size:
        raise UsageError(f"--batch-size {batch_size}: choose a multiple of the {team.size} processes that share it")
    loader = clip_loader(
        shards.train,
        model,
        batch_size // team.size,
        train=True,
        features=features,
        seed=seed,
        workers=config.workers,
        without=config.without,
        balance=config.balance,
        rank=team.rank,
        world_size=team.size,
    )
    prepare = InputPreparer(model, device, without=config.without)
    lr, decay = _pick(config.lr, recipe.lr), _pick(config.weight_decay, recipe.weight_decay)
    optimizer = make_optimizer(
        config.optimizer or recipe.optimizer, model.parameter_groups(lr, decay), _pick(config.momentum, recipe.momentum)
    )
    settings = LoopSettings(
        epochs=config.epochs or recipe.epochs,
        schedule=config.schedule or recipe.schedule,
        milestones=recipe.milestones,
        warmup=config.warmup,
        precision=choose_precision(config.precision, device),
        clip_norm=config.clip_norm,
        accumulate=config.accumulate,
        ema=config.ema,
        save_every=config.save_every,
    )
    score = _scorer(model, shards.held_out, prepare, batch_size, features) if shards.held_out else None
    steps = settings.epochs * -(-loader.steps_per_epoch // config.accumulate)
    events = folder.path / "tensorboard" if config.tensorboard and team.leads else None
    with _progress(steps, f"{config.variant} fold {facts['fold']}", team.leads, events) as progress:
        trainer = Trainer(model, prepare, optimizer, settings, folder, facts, team=team, score=score, progress=progress)
        return trainer.train(loader).step


def _pick(value: float | None, default: float) -> float:
    return default if value is None else value


def _identity(
    config: Config, model: ExpressionModel, packed: Path, dataset: str, fold: str, seed: int
) -> dict[str, Any]:
    """What a run's result depends on; stored as the run's config.json."""
    import json

    from fclip import __version__

    value = {
        "stage": "train",
        "fclip": __version__,
        "dataset": dataset,
        "fold": fold,
        "run_seed": seed,
        "config": config_dict(config, output_only=True),
        "classes": list(model.classes),
        "prompts": model.prompts,
        "clip_sha256": model.clip_sha256,
        "data": data_hash(packed),
    }
    value["config_hash"] = hash_of(value)
    return json.loads(canonical_json(value))


def _scorer(model: ExpressionModel, shards: list[Path], prepare: Any, batch_size: int, features: Path) -> Any:
    """A function that evaluates the model on held-out shards and returns UAR and WAR; WAR is the score."""
    from fclip.engine.batches.loading import clip_loader
    from fclip.engine.evaluate.metrics import confusion_matrix, uar, war
    from fclip.engine.evaluate.run_model import predict_clips

    loader = clip_loader(shards, model, batch_size, train=False, features=features, without=prepare.without)

    def score() -> dict[str, float]:
        table = predict_clips(model, loader.epoch(0), prepare)
        confusion = confusion_matrix(table.true_indices(), table.matrix().argmax(1), len(table.classes))
        model.train()
        return {"uar": uar(confusion), "war": war(confusion), "score": war(confusion)}

    return score


@contextmanager
def _progress(total: int, name: str, shown: bool, events: Path | None) -> Iterator[Callable[[dict[str, float]], None]]:
    """What the loop calls with every row: a tqdm bar on stderr, and TensorBoard events where a folder is given."""
    import sys

    from tqdm import tqdm

    from fclip.engine.train.tensorboard import EventFolder

    writer = EventFolder(events) if events else None
    with tqdm(total=total, desc=name, unit="step", disable=not (shown and sys.stderr.isatty())) as bar:
        figures: dict[str, str] = {}

        def progress(row: dict[str, float]) -> None:
            if writer:
                writer.write(row)
            bar.update(row["step"] - bar.n)
            figures.update({n: f"{row[n]:.3f}" for n in ("loss", "eval_uar", "eval_war") if n in row})
            bar.set_postfix(figures, refresh=False)

        try:
            yield progress
        finally:
            if writer:
                writer.close()
