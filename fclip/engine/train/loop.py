"""The training loop: one loop for all variants, exact to resume, alone or in a team of processes.

The position (epoch, step) together with the optimizer's state and the random state is all there is to resume: the
loader's order and augmentation are functions of (seed, epoch, key).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from fclip.engine.batches.devices import choose_precision
from fclip.engine.batches.prepare import InputPreparer
from fclip.engine.batches.team import Team
from fclip.engine.train.averaging import MovingAverage
from fclip.engine.train.optimise import lr_factor, set_lr
from fclip.engine.train.options import TrainOptions
from fclip.engine.train.run_folder import RunFolder
from fclip.engine.train.state import Position, TrainState
from fclip.errors import FclipError
from fclip.models.base import ExpressionModel
from fclip.models.checkpoint import load_checkpoint
from fclip.models.recipes import Recipe
from fclip.runner.pointer import WEIGHTS
from fclip.schema import JsonObject

log = logging.getLogger(__name__)
Row = dict[str, float]


class Loader(Protocol):
    """What the loop asks of a loader: batches of an epoch from a step on, and how many there are."""

    @property
    def steps_per_epoch(self) -> int: ...

    def epoch(self, epoch: int, start_step: int = 0) -> Any: ...


@dataclass(frozen=True)
class LoopSettings:
    """How to train; see `fclip train --help` for each."""

    epochs: int
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    warmup: int = 0
    precision: torch.dtype = torch.float32
    clip_norm: float = 0.0
    accumulate: int = 1
    ema: float = 0.0  # decay of the weights' moving average; 0 = off
    save_every: int = 0  # steps; 0 = after each epoch only

    @classmethod
    def of(cls, options: TrainOptions, recipe: Recipe, device: torch.device) -> LoopSettings:
        """The settings of these options, whose recipe is `recipe`."""
        return cls(
            epochs=recipe.epochs,
            schedule=recipe.schedule,
            milestones=recipe.milestones,
            warmup=options.warmup,
            precision=choose_precision(options.precision, device),
            clip_norm=options.clip_norm,
            accumulate=options.accumulate,
            ema=options.ema,
            save_every=options.save_every,
        )


class Trainer:
    """Trains a model into a run folder; `metadata` goes into every checkpoint.

    `score` evaluates after each epoch (its "score" decides BEST); without it BEST is left alone. Every row of
    metrics.jsonl (a step's, a score's, an epoch's) also goes to `progress`.
    """

    def __init__(
        self,
        model: ExpressionModel,
        prepare: InputPreparer,
        optimizer: torch.optim.Optimizer,
        settings: LoopSettings,
        run: RunFolder,
        metadata: JsonObject,
        *,
        team: Team | None = None,
        score: Callable[[], Row] | None = None,
        progress: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self.model, self.prepare, self.optimizer, self.settings = model, prepare, optimizer, settings
        self.run, self.metadata, self.team = run, metadata, team or Team()
        self.score, self.progress = score, progress
        self.scaler = torch.amp.GradScaler(prepare.device.type, enabled=settings.precision == torch.float16)
        self.average = MovingAverage(model, settings.ema)
        self.names = ("loss", "chance", *(f"weight_{name}" for name in prepare.modalities))
        self.position = Position()

    def train(self, loader: Loader) -> Position:
        """Train to the last epoch, from the run's LAST checkpoint on when there is one.

        Raises FclipError when the loss is not finite (naming the batch's clips) or the device runs out of memory
        (naming the flags that help).
        """
        self.restore()
        position, batches = self.position, loader.steps_per_epoch
        while position.epoch < self.settings.epochs:
            started = time.monotonic()
            self._epoch(loader, batches)
            position.epoch, position.batch = position.epoch + 1, 0
            best = self._score()
            self._log({"step": position.step, "seconds": round(time.monotonic() - started, 3)})
            self._save(best)
        return position

    def _epoch(self, loader: Loader, batches: int) -> None:
        """One pass over the loader, from the position's batch on."""
        self.model.train()
        position, accumulate = self.position, self.settings.accumulate
        steps = self.settings.epochs * math.ceil(batches / accumulate)
        rows: list[Row] = []
        for index, batch in enumerate(loader.epoch(position.epoch, position.batch), start=position.batch):
            together = min(accumulate, batches - index // accumulate * accumulate)  # the last step may have fewer
            rows.append(self._backward(batch, 1 / together))
            if len(rows) < together:
                continue
            rate = self._update(steps)
            position.step, position.batch = position.step + 1, index + 1
            means = self.team.mean(_means(rows), self.names)
            row = {"step": position.step, "epoch": position.epoch, "lr": rate, **means}
            rows = []
            self._log(row)
            every = self.settings.save_every
            if every and position.step % every == 0 and position.batch < batches:
                self._save()

    def _backward(self, batch: dict[str, Any], share: float) -> Row:
        """Add a batch's gradients, weighted with `share`; returns its loss and mean fusion weights."""
        device, clips, precision = self.prepare.device, len(batch["keys"]), self.settings.precision
        row = {"loss": 0.0}
        try:
            for index, inputs in self.prepare.groups(batch):
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    output = self.model(inputs)
                loss = output.loss
                if loss is None or not torch.isfinite(loss):
                    raise FclipError(
                        f"loss is {loss}: not finite; clips of this batch: "
                        f"{', '.join(batch['keys'][i] for i in index)}; lower --lr or use --precision fp32"
                    )
                part = len(index) / clips
                self.scaler.scale(loss * (share * part)).backward()
                row["loss"] += float(loss.detach()) * part
                if output.chance is not None:
                    row["chance"] = row.get("chance", 0.0) + output.chance * part
                if output.weights is not None:
                    means: Tensor = output.weights.detach().float().mean(0)  # (M,)
                    for name, value in zip(output.modalities, means.tolist(), strict=True):
                        row[f"weight_{name}"] = row.get(f"weight_{name}", 0.0) + value * part
        except torch.OutOfMemoryError:
            half = f"--batch-size {clips * self.team.size // 2} --accumulate {2 * self.settings.accumulate}, "
            checkpointing = "--set checkpointing=true, " if "checkpointing" in self.model.options else ""
            raise FclipError(
                f"{device}: out of memory with {clips} clips at once; try {half if clips > 1 else ''}{checkpointing}"
                "--precision bf16 or fewer --frames"
            ) from None
        return row

    def _update(self, steps: int) -> float:
        """One optimizer step with the schedule's learning rate, which is returned."""
        settings, position = self.settings, self.position
        factor = lr_factor(
            settings.schedule,
            position.step,
            steps,
            epoch=position.epoch,
            milestones=settings.milestones,
            warmup=settings.warmup,
        )
        rate = set_lr(self.optimizer, factor)
        self.team.average_gradients(self.model)
        if settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        return rate

    def _score(self) -> bool:
        """Evaluate, log it, and say whether it is the best so far."""
        if self.score is None:
            return False
        with self.average.applied():
            scores = self.score()
        best = self.position.best is None or scores["score"] > self.position.best
        self.position.best = scores["score"] if best else self.position.best
        self._log({"step": self.position.step, **{f"eval_{name}": value for name, value in scores.items()}})
        return best

    def _log(self, row: Row) -> None:
        if self.team.leads:
            self.run.log(row)
            self.progress(row)

    def _save(self, best: bool = False) -> None:
        with self.average.applied() as raw:
            state = TrainState(
                replace(self.position),
                self.optimizer.state_dict(),
                self.scaler.state_dict(),
                raw,
                torch.get_rng_state(),
                torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            )
            if self.team.leads:
                facts = {**self.metadata, "epoch": self.position.epoch, "step": self.position.step}
                self.run.save(self.model, state, facts, best=best)
        self.team.wait()

    def restore(self) -> None:
        """Load LAST into model, optimizer and random state; nothing to load leaves the start.

        So does a checkpoint that is damaged: it is said, and training begins anew.
        """
        if (self.run.path / "LAST").is_file():
            try:
                state, weights = self.run.load_state(), load_checkpoint(self.run.pointer() / WEIGHTS)[0]
            except FclipError as error:
                log.warning("%s: training begins anew", error)
            else:
                self._load(state, weights)
        if self.team.leads:
            self.run.trim_log(self.position.step or -1)
        self.team.wait()

    def _load(self, state: TrainState, weights: dict[str, Tensor]) -> None:
        self.model.load_trainable_state(state.raw_weights or weights)
        try:
            self.optimizer.load_state_dict(state.optimizer)
            self.scaler.load_state_dict(dict(state.scaler))
            torch.set_rng_state(state.random)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise FclipError(f"{self.run.path}: its checkpoint is of another training; use --overwrite") from error
        if state.cuda_random and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state.cuda_random)
        if self.settings.ema:
            self.average.average = {name: tensor.to(self.prepare.device) for name, tensor in weights.items()}
        self.position = state.position


def _means(rows: list[Row]) -> Row:
    """Mean of each value over the batches of a step; a value that a batch lacks counts as zero."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: sum(row.get(name, 0.0) for row in rows) / len(rows) for name in names}
