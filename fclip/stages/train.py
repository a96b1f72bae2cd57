"""`fclip train`: packed shards -> a run folder with adapter checkpoints and metrics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.config import CommonConfig, canonical_json, config_dict, hash_of, option
from fclip.errors import FclipError, UsageError
from fclip.stages.result import StageReport
from fclip.stages.workspace import dataset_folder, find_dataset, list_shards, require_folder, run_folder

if TYPE_CHECKING:
    from fclip.data.splits import Splits
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
    without: tuple[str, ...] = option((), "modalities to leave out: parsing,landmarks,caption", output=True)
    set: tuple[str, ...] = option((), "options of the variant: name=value,...", output=True)
    select: Literal["last", "val", "best-on-test"] = option(
        "last",
        "checkpoint to report: the last; the best on a training part held out; or the best on the test part, "
        "as published figures do (flagged in every report)",
        output=True,
    )
    save_every: int = option(0, "also write a checkpoint every N steps")
    workers: int = option(0, "processes that load clips; 0 = in this process")
    input: Path | None = option(None, "packed folder instead of the workspace's", flag="--in")
    out: Path | None = option(None, "run folder instead of <root>/runs/...")
    resume: bool = option(True, "go on from the run's last checkpoint")


def run(config: Config) -> StageReport:
    """Train every fold and seed asked for; finished runs are kept."""
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
        )
    return report


def planned_runs(config: Config, dataset: str, packed: Path) -> list[tuple[str, int]]:
    """(fold, seed) pairs of --fold and --seed; UsageError for a fold that the data set has not."""
    from fclip.data.splits import read_splits

    splits = read_splits(packed)
    folds = sorted(splits.folds) if config.fold == "all" else config.fold.split(",")
    for fold in folds:
        if fold not in splits.folds:
            raise UsageError(f"--fold {fold}: data set {dataset} has the folds {', '.join(sorted(splits.folds))}")
    return [(fold, seed) for seed in config.seed for fold in folds]


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


@dataclass(frozen=True)
class FoldShards:
    """Shards of a fold's sides; `held_out` are those the selection looks at (val or test part), maybe none."""

    train: list[Path]
    test: list[Path]
    held_out: list[Path]


def fold_shards(splits: Splits, packed: Path, fold: str, select: str) -> FoldShards:
    """Split a packed folder's shards for a fold and selection mode.

    val holds out the training part that follows the test part in order (whole parts, so identities stay apart where
    parts are identity-disjoint); FclipError when there is only one training part.
    """
    sides = splits.folds[fold]
    train, test = list(sides["train"]), list(sides["test"])
    held: list[str] = []
    if select == "val":
        if len(train) < 2:
            raise FclipError(f"fold {fold} has one training part, so no part can be held out; use --select last")
        held = [next((p for p in train if p > test[-1]), train[0])]
        train = [p for p in train if p not in held]
    elif select == "best-on-test":
        held = test
    shards = [path for path, _ in list_shards(packed, ".tar", "packed")]

    def of(parts: list[str]) -> list[Path]:
        return [path for path in shards if path.stem.rpartition("-")[0] in parts]

    result = FoldShards(of(train), of(test), of(held))
    if not result.train:
        raise FclipError(f"{packed}: no shard of the training parts {', '.join(train)} of fold {fold}")
    return result


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
    import torch

    from fclip.data.files import read_json, write_json
    from fclip.data.splits import read_classes, read_splits
    from fclip.engine.devices import choose_device, choose_precision, describe_device
    from fclip.engine.inputs import InputPreparer
    from fclip.engine.loading import clip_loader
    from fclip.engine.loop import LoopSettings, train
    from fclip.engine.optimise import make_optimizer
    from fclip.engine.runs import RunFolder

    classes, splits = read_classes(packed), read_splits(packed)
    shards = fold_shards(splits, packed, fold, config.select)
    frames = config.frames or clip_frames(shards.train[0])
    device = choose_device(config.device)
    torch.manual_seed(seed)
    model = build_model(config, classes, frames)
    identity = _identity(config, model, packed, dataset, fold, seed)
    folder = RunFolder(out)
    if folder.claim(identity, overwrite=config.overwrite, resume=config.resume) and (out / "done.json").is_file():
        return read_json(out / "done.json")
    log.warning(
        "train: %s on %s fold %s seed %d, device %s", config.variant, dataset, fold, seed, describe_device(device)
    )
    model.to(device)
    recipe = model.recipe
    batch_size = config.batch_size or recipe.batch_size
    loader = clip_loader(
        shards.train, model, batch_size, train=True, seed=seed, workers=config.workers, without=config.without
    )
    prepare = InputPreparer(model, device, without=config.without)
    groups = model.parameter_groups(_pick(config.lr, recipe.lr), _pick(config.weight_decay, recipe.weight_decay))
    optimizer = make_optimizer(config.optimizer or recipe.optimizer, groups, _pick(config.momentum, recipe.momentum))
    settings = LoopSettings(
        epochs=config.epochs or recipe.epochs,
        schedule=config.schedule or recipe.schedule,
        milestones=recipe.milestones,
        warmup=config.warmup,
        precision=choose_precision(config.precision, device),
        clip_norm=config.clip_norm,
        accumulate=config.accumulate,
        save_every=config.save_every,
    )
    captions = caption_facts(packed)
    metadata = {
        "dataset": dataset,
        "fold": fold,
        "seed": seed,
        "selection": config.select,
        "captions": captions,
        "without": list(config.without),
    }
    score = _scorer(model, shards.held_out, prepare, batch_size) if shards.held_out else None
    with _bar(
        settings.epochs * loader.steps_per_epoch // config.accumulate, f"{config.variant} fold {fold}"
    ) as progress:
        position = train(
            model, loader, prepare, optimizer, settings, folder, metadata=metadata, score=score, progress=progress
        )
    losses = [row["loss"] for row in folder.read_log() if "loss" in row]
    summary = {
        "run": str(out),
        "dataset": dataset,
        "variant": config.variant,
        "clip": config.clip,
        "fold": fold,
        "seed": seed,
        "steps": position.step,
        "loss": losses[-1] if losses else float("nan"),
        "selection": config.select,
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    write_json(out / "done.json", summary)
    return summary


def _pick(value: float | None, default: float) -> float:
    return default if value is None else value


def _identity(
    config: Config, model: ExpressionModel, packed: Path, dataset: str, fold: str, seed: int
) -> dict[str, Any]:
    """What a run's result depends on; stored as the run's config.json."""
    from fclip import __version__
    from fclip.data.files import read_json

    manifest = packed / "manifest.json"
    data = hash_of(read_json(manifest)) if manifest.is_file() else None
    value = {
        "stage": "train",
        "fclip": __version__,
        "dataset": dataset,
        "fold": fold,
        "run_seed": seed,
        "config": config_dict(config, output_only=True),
        "classes": list(model.classes),
        "clip_sha256": model.clip_sha256,
        "data": data,
    }
    value["config_hash"] = hash_of(value)
    import json

    return json.loads(canonical_json(value))


def clip_frames(shard: Path) -> int:
    """Frames a clip in a shard, from its first clip."""
    from fclip.data.shards import parse_info, read_shard

    for key, fields in read_shard(shard):
        return int(parse_info(key, fields)["frames"])
    raise FclipError(f"{shard}: holds no clip")


def caption_facts(packed: Path) -> dict[str, Any]:
    """Where the captions of packed shards come from and whether the label was shown (first clip that has one)."""
    import json

    from fclip.data.shards import read_shard

    for path, _ in list_shards(packed, ".tar", "packed")[:1]:
        for _, fields in read_shard(path):
            if "caption.json" in fields:
                facts = json.loads(fields["caption.json"])
                return {"model": facts.get("model"), "label_shown": bool(facts.get("label_shown"))}
    return {"model": None, "label_shown": False}


def _scorer(model: ExpressionModel, shards: list[Path], prepare: Any, batch_size: int) -> Any:
    """A function that evaluates the model on held-out shards and returns UAR and WAR; WAR is the score."""
    from fclip.engine.evaluate import predict_clips
    from fclip.engine.loading import clip_loader
    from fclip.engine.metrics import confusion_matrix, uar, war

    loader = clip_loader(shards, model, batch_size, train=False)

    def score() -> dict[str, float]:
        table = predict_clips(model, loader.epoch(0), prepare)
        confusion = confusion_matrix(table.true_indices(), table.matrix().argmax(1), len(table.classes))
        model.train()
        return {"uar": uar(confusion), "war": war(confusion), "score": war(confusion)}

    return score


def _bar(total: int, name: str) -> Any:
    """A tqdm bar on stderr as a context manager that yields the loop's progress function."""
    import sys
    from contextlib import contextmanager

    from tqdm import tqdm

    @contextmanager
    def bar() -> Any:
        with tqdm(total=total, desc=name, unit="step", disable=not sys.stderr.isatty()) as shown:

            def progress(row: dict[str, float]) -> None:
                shown.update(row["step"] - shown.n)
                shown.set_postfix(epoch=int(row["epoch"]), loss=f"{row['loss']:.3f}", refresh=False)

            yield progress

    return bar()
