"""Training a model that fits itself (`fits_itself`): all clips at once, no gradients, one checkpoint."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import torch

from fclip.config import loader_processes
from fclip.data.storage.folds import FoldShards
from fclip.engine.batches.loading import clip_loader
from fclip.engine.batches.prepare import InputPreparer
from fclip.engine.batches.team import Team
from fclip.engine.train.options import TrainOptions
from fclip.engine.train.run_folder import RunFolder
from fclip.engine.train.selection import HeldOutScore
from fclip.engine.train.state import Position, TrainState
from fclip.models import ExpressionModel

if TYPE_CHECKING:
    from fclip.engine.train.job import Job

log = logging.getLogger(__name__)
BATCH_SIZE = 16  # clips read at once
OF_GRADIENTS = (
    *("epochs", "lr", "weight_decay", "momentum", "optimizer", "schedule", "warmup", "clip_norm", "ema", "balance"),
    *("augment", "random_frames", "save_every"),
)  # options that say nothing to such a model


def fit_at_once(
    options: TrainOptions, job: Job, model: ExpressionModel, shards: FoldShards, run: RunFolder, team: Team
) -> int:
    """Fit to the training clips as evaluation sees them, each process of a team to all; the steps done, which is 1."""
    ignored = [f"--{name.replace('_', '-')}" for name in OF_GRADIENTS if getattr(options, name)]
    if ignored:
        log.warning("variant %s fits itself: %s has no effect", options.variant, ", ".join(ignored))
    device, size = next(model.parameters()).device, options.batch_size or BATCH_SIZE
    workers = loader_processes(options.workers)
    loader = clip_loader(shards.train, model, size, train=False, workers=workers, without=options.without)
    prepare = InputPreparer(model, device, without=options.without)
    batches = (
        (inputs, [batch["infos"][row] for row in rows])
        for batch in loader.epoch(0)
        for rows, inputs in prepare.groups(batch)
    )
    facts = model.fit(batches, job.seed)
    row = {"step": 1, "epoch": 0, "loss": float(str(facts["loss"])), "chance": math.log(len(model.classes))}
    if shards.held_out:
        score = HeldOutScore(model, shards.held_out, prepare, size, job.features)
        row |= {f"eval_{name}": value for name, value in score().items()}
    if team.leads:
        run.trim_log(-1)
        run.log(row)
        state = TrainState(Position(1, 0, 1), {"state": {}, "param_groups": []}, {}, {}, torch.get_rng_state())
        metadata = {**job.facts(options), "epoch": 1, "step": 1, "fit": facts}
        run.save(model, state, metadata, best=bool(shards.held_out))
    team.wait()
    return 1
