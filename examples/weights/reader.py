"""Training of `lite`'s reader: landmarks, parsing, expression signals and presence on 96 x 96 crops.

The crop's square errs as the finder's does. Rendered faces have landmarks and parsing exactly; of real ones MediaPipe
says the landmarks, the parsing within the face and the signals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fclip.faces.lite.crops import CROP_LIFT, CROP_SCALE
from fclip.faces.lite.network import READER_GRID, READER_SIZE, FaceReader, cell_centres
from fclip.records import LANDMARKS

from .augment import Square, chance, degrade, occlude, relight, uniform
from .faces import FaceSource, cut_truth
from .real import SIGNALS

BATCH = 32
CLASS_WEIGHTS = (0.7, 0.7, 1.6, 1.6, 1.6, 1.6, 1.0, 1.6, 1.6, 1.6, 0.8)  # small parts count more


@dataclass
class ReaderBatch:
    """crops (N, 3, 96, 96) in [-1, 1]; points (N, 68, 2); labels (N, 96, 96), -1 unknown; signals (N, 55); presence
    of a face and whether its signals are known, (N,) bool.
    """

    crops: Tensor
    points: Tensor
    labels: Tensor
    signals: Tensor
    presence: Tensor
    known: Tensor


def set_usual_places(reader: FaceReader, points: Tensor) -> None:
    """Start the landmarks' maps from bumps around their mean places in a batch of crops (N, 68, 2)."""
    centres, mean = cell_centres(READER_GRID), points.mean(0)
    across, down = ((centres - mean[:, axis, None]) ** 2 for axis in (0, 1))  # (68, G)
    reader.usual_places.data = -(across[:, None, :] + down[:, :, None]) / (2 * 0.12**2)


def reader_batch(source: FaceSource, plain: Tensor, random: torch.Generator) -> ReaderBatch:
    """One batch: one crop in six has no face but a plain picture, or a place beside the face."""
    faces = source.draw(BATCH, random)
    jitter = uniform(2 * BATCH, -0.1, 0.1, random).view(-1, 2) - torch.tensor([0.0, CROP_LIFT])
    scale = CROP_SCALE * uniform(BATCH, -0.22, 0.22, random).exp()
    angle, flip = 0.2 * torch.randn(BATCH, generator=random), chance(BATCH, 0.5, random)
    square = Square(faces.centre + jitter * faces.side[:, None], faces.side * scale, angle, flip)
    miss = chance(BATCH, 0.09, random)
    square.centre[miss] += _far(int(miss.sum()), random) * faces.side[miss, None]
    crops = square.cut(faces.images, READER_SIZE)
    points, labels, signals = cut_truth(faces, square, READER_SIZE)
    behind = chance(BATCH, 0.4, random) & faces.real  # tight pictures of faces are shown in front of something else
    outside = square.cut_labels(torch.zeros_like(faces.labels), READER_SIZE) < 0
    other = plain[torch.randint(0, len(plain), (BATCH,), generator=random)]
    crops = torch.where((behind[:, None, None] & outside)[:, None], other, crops)
    empty = chance(BATCH, 0.08, random)
    crops[empty] = plain[torch.randint(0, len(plain), (int(empty.sum()),), generator=random)]
    crops = degrade(relight(occlude(crops, plain, random), random), random)
    presence = ~(miss | empty)
    labels[~presence] = -1
    return ReaderBatch(crops * 2 - 1, points, labels, signals, presence, presence & faces.real)


def _far(count: int, random: torch.Generator) -> Tensor:
    """Shifts (N, 2) by 1 to 1.6 face sides in any direction."""
    angle = uniform(count, -math.pi, math.pi, random)
    return torch.stack([angle.cos(), angle.sin()], 1) * uniform(count, 1.0, 1.6, random)[:, None]


class SignalHead(nn.Module):
    """A task beside the others, thrown away after training: guesses the 55 signals of real faces from the reader's
    features, standardised by `usual`, their mean and deviation.
    """

    def __init__(self, usual: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.usual = usual
        self.local = nn.Conv2d(64, 12, 1)
        self.guess = nn.Sequential(nn.Linear(12 * 144 + 96 + 2 * LANDMARKS, 96), nn.ReLU(), nn.Linear(96, SIGNALS))

    def forward(self, eighth: Tensor, deep: Tensor, landmarks: Tensor) -> Tensor:
        """Features (N, 64, 12, 12) and (N, 96) of the reader and its landmarks (N, 68, 2) -> (N, 55)."""
        shape = (landmarks - landmarks.mean(1, keepdim=True)).flatten(1) * 4
        return self.guess(torch.cat([self.local(eighth).flatten(1), deep, shape], 1))

    def loss(self, guessed: Tensor, truth: Tensor) -> Tensor:
        """Smooth L1 of guesses and true signals (N, 55)."""
        mean, deviation = self.usual
        return functional.smooth_l1_loss(guessed, (truth - mean) / deviation)


def reader_loss(reader: FaceReader, head: SignalHead, batch: ReaderBatch, random: torch.Generator) -> Tensor:
    """Smooth L1 of the points in pixels + weighted cross-entropy and Dice of the parsing + presence + signals.

    The parsing is compared in one pixel of each 2 x 2, another one in each step: a quarter of the work.
    """
    half, eighth, quarter, deep, present = reader.look(batch.crops.contiguous(memory_format=torch.channels_last))
    landmarks, face = reader.place(quarter), batch.presence
    distance = functional.smooth_l1_loss(landmarks[face] * READER_SIZE, batch.points[face] * READER_SIZE)
    row, column = torch.randint(0, 2, (2,), generator=random).tolist()
    logarithm = reader.parse(half, quarter)[:, :, 2 * row + column].log_softmax(1)  # (N, 11, 48, 48)
    labels = batch.labels[:, row::2, column::2].contiguous()
    entropy = functional.nll_loss(logarithm, labels, torch.tensor(CLASS_WEIGHTS), ignore_index=-1)
    there = functional.binary_cross_entropy_with_logits(present, face.float())
    loss = 0.5 * distance + 3 * entropy + 2 * _dice(logarithm.exp(), labels) + 0.3 * there
    if batch.known.any():
        loss = loss + head.loss(head(eighth, deep, landmarks)[batch.known], batch.signals[batch.known])
    return loss


def _dice(guess: Tensor, labels: Tensor) -> Tensor:
    """One minus the soft Dice overlap of probabilities (N, C, H, W), mean over classes; pixels labelled -1 left out."""
    known = labels >= 0
    true = labels.clamp(min=0)
    right = guess.gather(1, true[:, None])[:, 0][known]
    common = torch.zeros(guess.shape[1]).index_add(0, labels[known], right)
    total = (guess * known[:, None]).sum((0, 2, 3)) + labels[known].bincount(minlength=guess.shape[1])
    return 1 - ((2 * common + 1) / (total + 1)).mean()
