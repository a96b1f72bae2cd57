"""Optimisers and learning-rate schedules by name; a schedule is a pure function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch

from fclip.errors import UsageError
from fclip.models.base import ExpressionModel
from fclip.models.recipes import Recipe


def optimizer_of(recipe: Recipe, model: ExpressionModel) -> torch.optim.Optimizer:
    """The optimizer of a recipe over a model's trainable weights."""
    return make_optimizer(recipe.optimizer, model.parameter_groups(recipe.lr, recipe.weight_decay), recipe.momentum)


def make_optimizer(name: str, groups: list[dict[str, Any]], momentum: float) -> torch.optim.Optimizer:
    """SGD or AdamW over parameter groups that carry their own lr and weight_decay; remembers each group's first lr.

    Fused: one pass over each tensor's memory, on CPU and GPU.
    """
    if name == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=groups[0]["lr"], momentum=momentum, fused=True)
    elif name == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=groups[0]["lr"], fused=True)
    else:
        raise UsageError(f"unknown optimizer {name!r}; choose sgd or adamw")
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def lr_factor(
    schedule: str, step: int, steps: int, *, epoch: int, milestones: tuple[int, ...] = (), warmup: int = 0
) -> float:
    """Factor on the initial learning rate at `step` of `steps`: cosine to 0, multistep x0.1 at epochs, or constant."""
    if warmup and step < warmup:
        return (step + 1) / warmup
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
    if schedule == "multistep":
        return 0.1 ** sum(epoch >= milestone for milestone in milestones)
    if schedule == "constant":
        return 1.0
    raise UsageError(f"unknown schedule {schedule!r}; choose cosine, multistep or constant")


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set each group's lr to its initial lr times `factor`; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
