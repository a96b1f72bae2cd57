"""Training one run, as a recipe: data, model, run folder, loader, optimizer, loop, summary."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from datetime import UTC, datetime

import torch

from fclip.config import loader_processes
from fclip.data.storage.folds import FoldShards, clip_frames, data_hash, fold_shards, frame_size
from fclip.data.storage.splits import read_classes, read_splits
from fclip.data.training.access import clip_labels, untrained_remark
from fclip.data.training.augment import AUGMENTATIONS
from fclip.engine.batches.devices import choose_device, describe_device
from fclip.engine.batches.features import cut_captions
from fclip.engine.batches.loading import clip_loader
from fclip.engine.batches.prepare import InputPreparer
from fclip.engine.batches.team import Team, join_team
from fclip.engine.provenance import FILE as PROVENANCE
from fclip.engine.provenance import Provenance
from fclip.engine.train.at_once import fit_at_once
from fclip.engine.train.job import Job
from fclip.engine.train.loop import LoopSettings, Trainer
from fclip.engine.train.optimise import optimizer_of
from fclip.engine.train.options import TrainOptions
from fclip.engine.train.progress import show_progress
from fclip.engine.train.run_folder import RunFolder, RunIdentity, RunSummary
from fclip.engine.train.selection import HeldOutScore
from fclip.errors import UsageError
from fclip.models import ExpressionModel
from fclip.schema import as_json, write_record

log = logging.getLogger(__name__)


def train_run(options: TrainOptions, job: Job, *, device: str, overwrite: bool, resume: bool) -> RunSummary:
    """Train one run; its summary, also when it was finished before. A run that was cut off goes on where it stopped.

    Raises OutputDiffers (exit 3) when job.out holds another run.
    """
    shards = fold_shards(read_splits(job.packed), job.packed, job.fold, options.select)
    torch.manual_seed(job.seed)
    model = options.build(read_classes(job.packed), options.frames or clip_frames(shards.train[0]))
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
            log.warning(
                "train: %s on %s fold %s seed %d, device %s", options.variant, job.dataset, job.fold, job.seed, where
            )
            size, wanted = frame_size(shards.train[0]), model.preprocess.image_size
            if size < wanted:
                log.warning(
                    "train: note: frames of %d pixels are enlarged to the %d that %s reads; fclip preprocess --size %d "
                    "keeps what the videos have",
                    *(size, wanted, options.clip, wanted),
                )
            if shards.test and (remark := untrained_remark(set(clip_labels(shards.test).values()), shards.train)):
                log.warning("train: note: %s", remark)
        started = datetime.now(UTC)
        train = fit_at_once if model.fits_itself else fit
        steps = train(options, job, model.to(place), shards, run, team)
        summary = RunSummary(
            run=str(job.out),
            dataset=job.dataset,
            variant=options.variant,
            clip=options.clip,
            fold=job.fold,
            seed=job.seed,
            steps=steps,
            loss=next((row["loss"] for row in reversed(run.read_log()) if "loss" in row), None),
            selection=options.select,
            trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
            cut_captions=0 if "caption" in options.without else cut_captions(model, shards.train),
            activation=model.clip_activation,
        )
        if team.leads:
            recipe = as_json(options.recipe())
            made = Provenance.now(place, started, recipe if isinstance(recipe, dict) else {})
            write_record(run.path / PROVENANCE, made)
            run.finish(summary)
        return summary


def fit(options: TrainOptions, job: Job, model: ExpressionModel, shards: FoldShards, run: RunFolder, team: Team) -> int:
    """Make loader, optimizer and loop from the options and their recipe, and train; the steps done."""
    recipe, device = options.recipe(), next(model.parameters()).device
    if recipe is None:
        model.parameter_groups(0.0, 0.0)  # says what is not trained
        raise UsageError(f"variant {options.variant} has no recipe to train it by gradients")
    batch_size = recipe.batch_size
    if "frames" in model.frozen_encoders() and (options.augment or options.random_frames is not None):
        log.warning(
            "variant %s is trained on cached features: --augment, --random-frames have no effect", options.variant
        )
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
        augmentation=AUGMENTATIONS[recipe.augment],
        random_frames=recipe.random_frames,
        balance=options.balance,
        rank=team.rank,
        world_size=team.size,
    )
    prepare = InputPreparer(model, device, without=options.without)
    optimizer, settings = optimizer_of(recipe, model), LoopSettings.of(options, recipe, device)
    score = HeldOutScore(model, shards.held_out, prepare, batch_size, job.features) if shards.held_out else None
    metadata = job.facts(options)
    steps = settings.epochs * -(-loader.steps_per_epoch // options.accumulate)
    events = run.path / "tensorboard" if options.tensorboard and team.leads else None
    with show_progress(steps, f"{options.variant} fold {job.fold}", team.leads, events) as progress:
        trainer = Trainer(model, prepare, optimizer, settings, run, metadata, team=team, score=score, progress=progress)
        return trainer.train(loader).step
