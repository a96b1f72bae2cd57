"""How much each part of the picture moves, into one linear layer: the least that a variant can be."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fclip.config import option
from fclip.models.base import ExpressionModel, ModelOutput, ModelSpec, Preprocess
from fclip.models.heads import classify, linear_logits
from fclip.models.recipes import PAPER, Recipe
from fclip.registry import register


@dataclass(frozen=True)
class MotionOptions:
    """Options of motion."""

    grid: int = option(8, "cells a side of the picture", output=True)


class Motion(ExpressionModel):
    """Mean change from frame to frame in each cell of a grid -> classes."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, preprocess=Preprocess(image_size=112))
        self.grid = spec.options.grid
        self.classifier = nn.Linear(self.grid**2, len(self.classes))

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        grey = batch["frames"].mean(dim=2)  # (B, T, H, W)
        moved = grey.diff(dim=1).abs().mean(dim=1, keepdim=True)  # (B, 1, H, W)
        cells = nn.functional.adaptive_avg_pool2d(moved, self.grid).flatten(1)  # (B, grid * grid)
        return classify(linear_logits(cells, self.classifier), cells, batch.get("labels"))


@register(MotionOptions, needs_clip=False, recipes={PAPER: Recipe(lr=1e-2, epochs=20)})
def motion(spec: ModelSpec) -> Motion:
    """Movement of the picture and a linear classifier."""
    return Motion(spec)
