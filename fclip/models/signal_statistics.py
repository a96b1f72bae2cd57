"""What a model reads of a clip's expression signals: level, range and trend of each, both sides of the face as one.

Shape letters: B clips, T frames, S signals, S' signals with their sides averaged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor


def statistics_width(names: Sequence[str]) -> int:
    """How many statistics `summarise` makes of signals of these names: level, range and trend of each of S'."""
    return 3 * merging(names).shape[1]


def merging(names: Sequence[str]) -> Tensor:
    """Matrix (S, S') float64 that averages signals whose names differ in a last Left or Right, and keeps others."""
    stems = [re.sub("(Left|Right)$", "", name) for name in names]
    columns = {stem: column for column, stem in enumerate(dict.fromkeys(stems))}
    matrix = torch.zeros(len(names), len(columns), dtype=torch.float64)
    for row, stem in enumerate(stems):
        matrix[row, columns[stem]] = 1 / stems.count(stem)
    return matrix


def summarise(signals: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Level, range and trend of signals (B, T, S) over the frames with a face: features (B, 3 S') float64, seen (B,).

    A row of zeros is a frame without a face. Level: mean; range: largest less smallest; trend: slope of the regression
    line over the clip, in units of the signal from first to last frame, 0 for fewer than two frames. A clip without
    any face has features 0, and False in `seen`.
    """
    face = signals.any(-1, keepdim=True)  # (B, T, 1)
    values = signals.double() @ merging(names).to(signals.device)  # (B, T, S')
    count = face.sum(1)  # (B, 1)
    at_least = count.clamp(min=1)
    level = (values * face).sum(1) / at_least  # (B, S')
    inf = torch.inf
    spread = values.masked_fill(~face, -inf).amax(1) - values.masked_fill(~face, inf).amin(1)
    time = torch.linspace(0, 1, signals.shape[1], dtype=torch.float64, device=signals.device)[None, :, None]
    offset = (time - (time * face).sum(1, keepdim=True) / at_least[:, None]) * face  # (B, T, 1)
    variance = (offset**2).sum(1)  # (B, 1)
    slope = (offset * values).sum(1) / torch.where(variance > 0, variance, 1.0)
    seen = count > 0
    features = torch.cat([level, torch.where(seen, spread, 0.0), slope], dim=1)  # (B, 3 S')
    return features, seen[:, 0]
