"""An exponential moving average of the trainable weights (EMA)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fclip.models.base import ExpressionModel


class MovingAverage:
    """Keeps average = decay * average + (1 - decay) * weights over steps; decay 0 keeps the weights themselves."""

    def __init__(self, model: ExpressionModel, decay: float) -> None:
        self.model, self.decay = model, decay
        self.average: dict[str, Tensor] = {n: t.clone() for n, t in model.trainable_state().items()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of one more step into the average."""
        weights = self.model.trainable_state()
        for name, average in self.average.items():
            average.lerp_(weights[name], 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[dict[str, Tensor]]:
        """Let the model have the averaged weights inside the block; yields the raw ones ({} without averaging)."""
        if not self.decay:
            yield {}
            return
        raw = {name: tensor.clone() for name, tensor in self.model.trainable_state().items()}
        self.model.load_trainable_state(self.average)
        try:
            yield raw
        finally:
            self.model.load_trainable_state(raw)
