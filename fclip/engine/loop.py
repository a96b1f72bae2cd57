"""The training loop: one loop for all variants, exact to resume.

The position (epoch, step) together with the optimizer's state and the random state is all there is to resume: the
loader's order and augmentation are functions of (seed, epoch, key).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fclip.engine.inputs import InputPreparer
from fclip.engine.optimise import lr_factor, set_lr
from fclip.engine.runs import RunFolder
from fclip.errors import FclipError
from fclip.models.base import ExpressionModel


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
    save_every: int = 0  # steps; 0 = after each epoch


@dataclass
class Position:
    """Where training stands: `epoch` and `step_in_epoch` to go on from, `step` optimizer steps done."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float = -math.inf


def train(
    model: ExpressionModel,
    loader: Loader,
    prepare: InputPreparer,
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
    run: RunFolder,
    *,
    metadata: dict[str, Any],
    score: Callable[[], dict[str, float]] | None = None,
    progress: Callable[[dict[str, float]], None] = lambda row: None,
) -> Position:
    """Train to the last epoch, resuming from the run's LAST checkpoint when there is one.

    `score` evaluates after each epoch (its "score" decides BEST); None leaves BEST alone. Every step's row goes to
    metrics.jsonl and to `progress`. Raises FclipError when the loss is not finite (naming the batch's clips) or the
    device runs out of memory (naming the flags that help).
    """
    scaler = torch.amp.GradScaler(prepare.device.type, enabled=settings.precision == torch.float16)
    position = restore(model, optimizer, scaler, run)
    micro = loader.steps_per_epoch
    total = settings.epochs * math.ceil(micro / settings.accumulate)
    for epoch in range(position.epoch, settings.epochs):
        model.train()
        started, sums = time.monotonic(), _Means()
        for index, batch in enumerate(loader.epoch(epoch, position.step_in_epoch), start=position.step_in_epoch):
            factor = lr_factor(
                settings.schedule,
                position.step,
                total,
                epoch=epoch,
                milestones=settings.milestones,
                warmup=settings.warmup,
            )
            rate = set_lr(optimizer, factor)
            last = index + 1 == micro
            whole = (index + 1) % settings.accumulate == 0 or last
            share = settings.accumulate if not last else (micro - 1) % settings.accumulate + 1
            sums.add(_backward(model, batch, prepare, settings.precision, scaler, 1 / share))
            if not whole:
                continue
            _update(model, optimizer, scaler, settings.clip_norm)
            position.step += 1
            position.step_in_epoch = index + 1
            row = {"step": position.step, "epoch": epoch, "lr": rate, **sums.take()}
            run.log(row)
            progress(row)
            if settings.save_every and position.step % settings.save_every == 0 and not last:
                _save(run, model, optimizer, scaler, position, metadata)
        position.epoch, position.step_in_epoch = epoch + 1, 0
        best = False
        if score is not None:
            scores = score()
            best = scores["score"] > position.best
            position.best = max(position.best, scores["score"])
            run.log({"step": position.step, "epoch": epoch, **{f"eval_{k}": v for k, v in scores.items()}})
        run.log({"step": position.step, "epoch": epoch, "seconds": round(time.monotonic() - started, 3)})
        _save(run, model, optimizer, scaler, position, metadata, best=best)
    return position


class _Means:
    """Running means of the loss and the fusion weights between two optimizer steps."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def take(self) -> dict[str, float]:
        names = {name: None for row in self.rows for name in row}
        means = {name: sum(row.get(name, 0.0) for row in self.rows) / len(self.rows) for name in names}
        self.rows = []
        return means


def _backward(
    model: ExpressionModel,
    batch: dict[str, Any],
    prepare: InputPreparer,
    precision: torch.dtype,
    scaler: torch.amp.GradScaler,
    share: float,
) -> dict[str, float]:
    """Add a batch's gradients; returns its loss and mean fusion weights."""
    device, clips = prepare.device, len(batch["keys"])
    row = {"loss": 0.0}
    try:
        for index, inputs in prepare.groups(batch):
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                output = model(inputs)
            loss = output.loss
            if loss is None or not torch.isfinite(loss):
                raise FclipError(
                    f"loss is {loss}: not finite; clips of this batch: {', '.join(batch['keys'][:8])}; "
                    "lower --lr or use --precision fp32"
                )
            part = len(index) / clips
            scaler.scale(loss * (share * part)).backward()
            row["loss"] += float(loss.detach()) * part
            if output.weights is not None:
                means: Tensor = output.weights.detach().float().mean(0)  # (M,)
                for name, value in zip(output.modalities, means.tolist(), strict=True):
                    row[f"weight_{name}"] = row.get(f"weight_{name}", 0.0) + value * part
    except torch.OutOfMemoryError:
        raise FclipError(
            f"{device}: out of memory with batch size {clips}; try --batch-size {max(clips // 2, 1)} "
            "--accumulate 2, --set checkpointing=true, or fewer --frames"
        ) from None
    return row


def _update(
    model: ExpressionModel, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, clip_norm: float
) -> None:
    if clip_norm:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], clip_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)


def _save(
    run: RunFolder,
    model: ExpressionModel,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    position: Position,
    metadata: dict[str, Any],
    *,
    best: bool = False,
) -> None:
    state = {
        **vars(position),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    run.save(model, state, {**metadata, "epoch": position.epoch, "step": position.step}, best=best)


def restore(
    model: ExpressionModel, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, run: RunFolder
) -> Position:
    """Load LAST into model, optimizer and random state; the position to go on from (the start when there is none)."""
    from fclip.models.checkpoint import load_checkpoint

    if not (run.path / "LAST").is_file():
        run.trim_log(-1)
        return Position()
    state = run.load_state()
    weights, _ = load_checkpoint(run.pointer() / "model.safetensors")
    model.load_trainable_state(weights)
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["random"])
    if state["cuda_random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda_random"])
    run.trim_log(state["step"])
    return Position(state["epoch"], state["step_in_epoch"], state["step"], state["best"])
