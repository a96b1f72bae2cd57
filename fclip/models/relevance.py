"""Which parts of the frames speak for what a model answered, in two ways that know nothing of one another.

`relevance` follows the gradient of the answer: integrated gradients (Sundararajan et al., ICML 2017, arXiv 1703.01365)
from frames without detail, all in the clip's mean colour, to the frames as they are. `occlusion` (Zeiler and Fergus,
ECCV 2014, arXiv 1311.2901) covers one place of the frames after the other with that colour and looks how the answer
changes. Where both agree, a picture of the first explains something; `agreement` says how far. The answer is measured
as the log odds of the predicted class; the other modalities stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fclip.models.base import ExpressionModel

STEPS = 8  # on the way from no detail to all of it
GRID = 7  # places a side that are covered, at most


def relevance(model: ExpressionModel, batch: dict[str, Tensor], grid: tuple[int, int]) -> Tensor:
    """How much each patch of each frame adds to the log odds of the predicted class: (B, T, *grid), signed.

    Clip by clip, as gradients of many frames need much memory. The model must be in eval mode.
    """
    rows = [
        _of_clip(model, {name: value[i : i + 1] for name, value in batch.items()}, grid)
        for i in range(len(batch["frames"]))
    ]
    return torch.cat(rows)


def _of_clip(model: ExpressionModel, batch: dict[str, Tensor], grid: tuple[int, int]) -> Tensor:
    """`relevance` of one clip, (1, T, *grid)."""
    frames = batch["frames"]
    plain, odds = _plain(frames), _log_odds(model, batch)
    total = torch.zeros_like(frames)
    for step in range(STEPS):
        share = (step + 0.5) / STEPS
        point = (plain + share * (frames - plain)).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(odds(point).sum(), point)
        total += gradient
    parts = (total / STEPS * (frames - plain)).sum(dim=2)  # (1, T, H, W)
    cell = parts.shape[-2] * parts.shape[-1] / (grid[0] * grid[1])
    return F.adaptive_avg_pool2d(parts, grid) * cell


@torch.no_grad()
def occlusion(model: ExpressionModel, batch: dict[str, Tensor], side: int) -> Tensor:
    """How much the log odds of the predicted class fall where a place is covered in all frames: (B, side, side)."""
    frames, odds = batch["frames"], _log_odds(model, batch)
    plain, whole = _plain(frames), odds(frames)  # (B,)
    height, width = frames.shape[-2:]
    falls = frames.new_zeros(len(frames), side, side)
    for row in range(side):
        for column in range(side):
            covered = frames.clone()
            place = (
                slice(row * height // side, (row + 1) * height // side),
                slice(column * width // side, (column + 1) * width // side),
            )
            covered[..., place[0], place[1]] = plain
            falls[:, row, column] = whole - odds(covered)
    return falls


def agreement(found: Tensor, falls: Tensor) -> np.ndarray:
    """Spearman's rank correlation of relevance (B, T, Hp, Wp), summed over the frames, with occlusion (B, g, g): (B,).

    0 where one of them is the same everywhere.
    """
    places = F.adaptive_avg_pool2d(found.sum(dim=1), falls.shape[-1])  # (B, g, g)
    ranks = [_ranks(each.flatten(1).double().cpu().numpy()) for each in (places, falls)]
    a, b = (each - each.mean(axis=1, keepdims=True) for each in ranks)  # (B, g * g)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.where(size > 0, (a * b).sum(1) / np.maximum(size, 1e-12), 0.0)


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    ranks: np.ndarray = rankdata(values, axis=1)
    return ranks


def _plain(frames: Tensor) -> Tensor:
    """The mean colour of each clip, (B, T, 3, H, W) -> (B, 1, 3, 1, 1)."""
    return frames.mean(dim=(1, 3, 4), keepdim=True)


def _log_odds(model: ExpressionModel, batch: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Frames (B, T, 3, H, W) -> log odds (B,) of the class that the model predicts for the whole batch."""
    with torch.no_grad():
        answer = model(batch).logits.argmax(dim=-1, keepdim=True)  # (B, 1)

    def odds(frames: Tensor) -> Tensor:
        logits = model({**batch, "frames": frames}).logits.float()  # (B, C)
        chosen = logits.gather(1, answer)
        return (chosen - logits.scatter(1, answer, -torch.inf).logsumexp(dim=1, keepdim=True)).squeeze(1)

    return odds
