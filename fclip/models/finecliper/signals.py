"""Expression signals as a further modality of FineCLIPER's fusion; not in the paper.

Shape letters: B clips, T frames, S signals, F statistics, E joint width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fclip.models.signal_statistics import statistics_width, summarise

MOST = 5.0  # standard deviations; what lies further out counts as so far
LEAST = 1e-6  # standard deviation


class SignalEncoder(nn.Module):
    """Level, range and trend of a clip's signals, standardised, through one linear layer: (B, T, S) -> (B, E).

    Mean and deviation are those of all clips seen in training so far, each counted as often as it was seen; they are
    the same in training and after it, and belong to the checkpoint. A clip without a face counts as the mean clip.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, names: tuple[str, ...], joint: int) -> None:
        super().__init__()
        self.names = names
        width = statistics_width(names)
        self.linear = nn.Linear(width, joint)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(width, dtype=torch.float64))

    def forward(self, signals: Tensor) -> Tensor:
        """Signals (B, T, S) of the names given -> features (B, E), not normalised."""
        statistics, seen = summarise(signals, self.names)  # (B, F), (B,)
        if self.training and seen.any():
            self._count_in(statistics[seen])
        deviation = self.variance.sqrt().clamp(min=LEAST)
        values = ((statistics - self.mean) / deviation).clamp(-MOST, MOST)  # (B, F)
        return self.linear(torch.where(seen[:, None], values, 0.0).to(self.linear.weight.dtype))

    @torch.no_grad()
    def _count_in(self, statistics: Tensor) -> None:
        """Add clips (N, F) to the mean and the variance (Chan et al., 1979)."""
        new = len(statistics)
        total = self.count + new
        mean, variance = statistics.mean(0), statistics.var(0, unbiased=False)
        apart = mean - self.mean
        self.variance.copy_((self.count * self.variance + new * variance + self.count * new / total * apart**2) / total)
        self.mean += apart * (new / total)
        self.count.copy_(total)
