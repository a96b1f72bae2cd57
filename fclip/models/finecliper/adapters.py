"""The bottleneck adapter, the one trainable piece inside the frozen towers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Adapter(nn.Module):
    """Houlsby bottleneck up(GELU(down(x))), D -> h -> D: (..., D) -> (..., D). No skip: the caller adds it.

    `up` is zero at initialisation, so an untrained adapter adds exactly nothing; `down` is normal(0, 0.02), as
    in AIM.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.normal_(self.down.weight, std=0.02)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.gelu(self.down(x)))
