"""Training one run, as a recipe: data, model, run folder, loader, optimizer, loop, summary."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from fclip.config import loader_processes
from fclip.data.storage.folds import FoldShards, caption_source, clip_frames, data_hash, fold_shards
from fclip.data.storage.splits import read_classes, read_splits
from fclip.engine.batches.devices import choose_device, choose_precision, describe_device
from fclip.engine.batches.loading import clip_loader
from fclip.engine.batches.prepare import InputPreparer
from fclip.engine.batches.team import Team, join_team
from fclip.engine.train.loop import LoopSettings, Trainer
from fclip.engine.train.optimise import make_optimizer
from fclip.engine.train.options import TrainOptions
from fclip.engine.train.progress import show_progress
from fclip.engine.train.run_folder import RunFolder, RunIdentity, RunSummary
from fclip.engine.train.selection import HeldOutScore
from fclip.errors import UsageError
from fclip.models import ExpressionModel, create_model
from fclip.schema import JsonObject, as_json, parse_options
from fclip.seeing.preparation import read_preparation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One run to train: fold and seed of a data set, the folders of its clips, of cached features and of the run."""

    dataset: str
    packed: Path
    fold: str
    seed: int
    features: Path
    out: Path


def train_run(options: TrainOptions, job: Job, *, device: str, overwrite: bool, resume: bool) -> RunSummary:
    """Train one run; its summary, also when it was finished before. A run that was cut off goes on where it stopped.

    Raises OutputDiffers (exit 3) when job.out holds another run.
    """
    shards = fold_shards(read_splits(job.packed), job.packed, job.fold, options.select)
    torch.manual_seed(job.seed)
    frames = options.frames or clip_frames(shards.train[0])
    model = build_model(options, read_classes(job.packed), frames)
    run = RunFolder(job.out)
    team, place = join_team(choose_device(device))
    with ExitStack() as stack:
        if team.leads:
            identity = RunIdentity.of(options, model, job.dataset, job.fold, job.seed, data_hash(job.packed))
            stack.enter_context(run.claim(identity, overwrite=overwrite, resume=resume))
        team.wait()
        if summary := run.summary():
            return summary
        if team.leads:
            where = f"{describe_device(place)}{f', {team.size} processes' if team.size > 1 else ''}"
            what = f"{options.variant} on {job.dataset} fold {job.fold} seed {job.seed}"
            log.warning("train: %s, device %s", what, where)
        steps = fit(options, job, model.to(place), shards, run, team)
        losses = [row["loss"] for row in run.read_log() if "loss" in row]
        summary = RunSummary(
            run=str(job.out),
            dataset=job.dataset,
            variant=options.variant,
            clip=options.clip,
            fold=job.fold,
            seed=job.seed,
            steps=steps,
            loss=losses[-1] if losses else None,
            selection=options.select,
            trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        )
        if team.leads:
            run.finish(summary)
        return summary


def build_model(options: TrainOptions, classes: Sequence[str], frames: int) -> ExpressionModel:
    """The untrained model of these options."""
    return create_model(
        options.variant,
        clip=options.clip,
        classes=classes,
        frames=frames,
        clip_weights=options.clip_weights,
        longclip_weights=options.longclip_weights,
        **parse_options(options.set),
    )


def fit(options: TrainOptions, job: Job, model: ExpressionModel, shards: FoldShards, run: RunFolder, team: Team) -> int:
    """Make loader, optimizer and loop from the options and the variant's recipe, and train; the steps done."""
    recipe, device = model.recipe, next(model.parameters()).device
    batch_size = options.batch_size or recipe.batch_size
    if batch_size % team.size:
        raise UsageError(f"--batch-size {batch_size}: choose a multiple of the {team.size} processes that share it")
    loader = clip_loader(
        shards.train,
        model,
        batch_size // team.size,
        train=True,
        features=job.features,
        seed=job.seed,
        workers=loader_processes(options.workers),
        without=options.without,
        balance=options.balance,
        rank=team.rank,
        world_size=team.size,
    )
    prepare = InputPreparer(model, device, without=options.without)
    lr, decay = _pick(options.lr, recipe.lr), _pick(options.weight_decay, recipe.weight_decay)
    momentum = _pick(options.momentum, recipe.momentum)
    optimizer = make_optimizer(options.optimizer or recipe.optimizer, model.parameter_groups(lr, decay), momentum)
    settings = LoopSettings(
        epochs=options.epochs or recipe.epochs,
        schedule=options.schedule or recipe.schedule,
        milestones=recipe.milestones,
        warmup=options.warmup,
        precision=choose_precision(options.precision, device),
        clip_norm=options.clip_norm,
        accumulate=options.accumulate,
        ema=options.ema,
        save_every=options.save_every,
    )
    score = HeldOutScore(model, shards.held_out, prepare, batch_size, job.features) if shards.held_out else None
    preparation = read_preparation(job.packed)
    metadata: JsonObject = {
        "dataset": job.dataset,
        "fold": job.fold,
        "seed": job.seed,
        "selection": options.select,
        "captions": as_json(caption_source(job.packed)),
        "preparation": preparation.as_dict() if preparation else None,
        "without": list(options.without),
    }
    steps = settings.epochs * -(-loader.steps_per_epoch // options.accumulate)
    events = run.path / "tensorboard" if options.tensorboard and team.leads else None
    with show_progress(steps, f"{options.variant} fold {job.fold}", team.leads, events) as progress:
        trainer = Trainer(model, prepare, optimizer, settings, run, metadata, team=team, score=score, progress=progress)
        return trainer.train(loader).step


def _pick(value: float | None, default: float) -> float:
    return default if value is None else value
