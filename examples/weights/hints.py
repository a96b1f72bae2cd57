"""Tasks beside the contrast that show `tiny`'s image tower early where to look; thrown away after training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fclip.models.backbone.attention import plain_block, readout_block
from fclip.models.backbone.encode import image_tower
from fclip.records import LANDMARKS, PARSING_CLASSES
from fclip.synth.actions import UNITS

from .real import SIGNALS
from .tiny_crops import Crops


class Hints(nn.Module):
    """What the image tower shall know: from the class token the 68 landmarks, from each patch's token the parsing of
    its 4 x 4 parts, and from the image feature itself, so that it is there for everybody who takes the feature, the
    face's shape, the action units of rendered faces, the blendshapes, pose and label of real ones.
    """

    def __init__(self, width: int, feature: int, usual: tuple[Tensor, Tensor], labels: int) -> None:
        super().__init__()
        self.points = nn.Linear(width, 2 * LANDMARKS)
        self.classes = nn.Linear(width, len(PARSING_CLASSES) * 16)
        self.units = nn.Linear(feature, len(UNITS))
        self.signals = nn.Linear(feature, SIGNALS)
        self.shape = nn.Linear(feature, 2 * LANDMARKS)
        self.labels = nn.Linear(feature, max(labels, 1))
        self.usual = usual
        self.usual_shape = torch.zeros(2 * LANDMARKS), torch.ones(2 * LANDMARKS)

    def forward(self, visual: Any, batch: Crops) -> tuple[Tensor, Tensor]:
        """Image features (N, E), as encode_frames gives them, and the loss of the tasks without labels."""
        tower = image_tower(visual)
        *blocks, last = tower.blocks
        x = tower.enter(tower.embed(batch.images))  # (N, 26, D)
        for block in blocks:
            x = plain_block(block, x)
        token = visual.ln_post(readout_block(last, x, torch.zeros(len(x), dtype=torch.long)))  # (N, D)
        feature = token @ visual.proj  # (N, E)
        logits = self.classes(x[:, 1:]).unflatten(2, (len(PARSING_CLASSES), 4, 4)).unflatten(1, (5, 5))
        logits = logits.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # (N, 11, 20, 20)
        parsing = functional.cross_entropy(logits, batch.labels, ignore_index=-1)
        points = 100 * self.points(token).view(batch.points.shape)
        distance = functional.smooth_l1_loss(points, 100 * (batch.points - 0.5), beta=3.0)
        loss = parsing + distance / 10 + 10 * known_error(self.units(feature), batch.units)
        mean, deviation = self.usual
        loss = loss + known_error(self.signals(feature), (batch.signals - mean) / deviation)
        mean, deviation = self.usual_shape
        return feature, loss + known_error(self.shape(feature), (batch.shape - mean) / deviation)


def known_error(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error where the truth is not NaN; 0 where all of it is."""
    known = ~truth.isnan()
    return functional.mse_loss(guess[known], truth[known]) if known.any() else guess.sum() * 0


@torch.no_grad()
def good_start(visual: Any, hints: Hints, batch: Crops) -> None:
    """Start where learning is fast: patches decorrelated (a principal component each, the strong ones damped), smooth
    positions (sines and cosines), landmarks at their mean places.
    """
    patches = functional.unfold(batch.images, 16, stride=16).transpose(1, 2).flatten(0, 1)  # (N*25, 768)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    width = visual.conv1.out_channels
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    visual.conv1.weight.copy_((vectors / values.sqrt()).T.view_as(visual.conv1.weight))
    steps = torch.arange(5)[:, None] * 1.5 / 30 ** torch.linspace(0, 1, width // 4)  # (5, D/4)
    waves = torch.cat([steps.sin(), steps.cos()], 1) / 2  # (5, D/2)
    rows, columns = waves[:, None].expand(-1, 5, -1), waves[None].expand(5, -1, -1)
    visual.positional_embedding[1:] = torch.cat([rows, columns], 2).flatten(0, 1)
    hints.usual_shape = batch.shape.mean(0), batch.shape.std(0).clamp(min=1e-3)
    hints.points.weight.mul_(0.1)
    hints.points.bias.copy_((batch.points.mean(0) - 0.5).flatten())
