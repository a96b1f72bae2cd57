"""Faces drawn from rendered and real pictures alike: what the batches of both bundled networks are cut from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fclip.files import resource_json

from .augment import Square, chance
from .pool import Pool
from .real import DEGREES, SIGNALS, SIGNS, UNKNOWN, RealFaces, mirrored_signals

REAL_SHARE = 0.5  # of the faces of a batch, where there are real ones


@dataclass
class Faces:
    """N faces in square pictures of S pixels.

    images (N, 3, S, S) in [0, 1]; labels (N, S, S) uint8; points (N, 68, 2) in pixels; signals (N, 55); real (N,) bool:
    only there are the signals known.
    """

    images: Tensor
    labels: Tensor
    points: Tensor
    signals: Tensor
    real: Tensor

    @property
    def centre(self) -> Tensor:
        """Middle of the landmarks' extent, (N, 2) in pixels."""
        return (self.points.amin(1) + self.points.amax(1)) / 2

    @property
    def side(self) -> Tensor:
        """Larger extent of the landmarks, (N,) in pixels."""
        return (self.points.amax(1) - self.points.amin(1)).amax(1)


class FaceSource:
    """Rendered faces, and real ones where given; the picture sizes of both must be equal."""

    def __init__(self, pool: Pool, real: RealFaces | None = None) -> None:
        self.pool, self.real = pool, real
        if real is not None:
            self.weights = torch.from_numpy(rarity(real.labels))

    def draw(self, count: int, random: torch.Generator) -> Faces:
        """Random faces; of the real ones, those with a rare label are drawn more often."""
        real = int(chance(count, REAL_SHARE, random).sum()) if self.real is not None else 0
        rows = torch.randint(0, len(self.pool.frames), (count - real,), generator=random).numpy()
        frames, points, labels = self.pool.frames[rows], self.pool.landmarks[rows], self.pool.parsing[rows]
        signals = np.zeros((count, SIGNALS), np.float32)
        if self.real is not None and real:
            rows = torch.multinomial(self.weights, real, replacement=True, generator=random).numpy()
            frames = np.concatenate([frames, self.real.frames[rows]])
            points = np.concatenate([points, self.real.landmarks[rows]])
            labels = np.concatenate([labels, self.real.parsing[rows]])
            signals[count - real :] = self.real.signals[rows]
        order = torch.randperm(count, generator=random)
        images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        return Faces(
            images[order],
            torch.from_numpy(labels)[order],
            torch.from_numpy(points)[order] * images.shape[-1],
            torch.from_numpy(signals)[order],
            (torch.arange(count) >= count - real)[order],
        )


def rarity(labels: np.ndarray, power: float = 0.5, least: int = 1) -> np.ndarray:
    """Weight (N,) of each picture: one over its label's count, `least` or more, to a power; 1 draws all labels equally
    often.
    """
    names, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (1 / np.maximum(counts, least) ** power)[index]


def cut_truth(faces: Faces, square: Square, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """What is true in squares of faces: points (N, 68, 2) in [0, 1], labels (N, size, size) int64, -1 where not known,
    and signals (N, 55); mirrored where the square is.
    """
    flip, mirror = square.flip, resource_json("mirror.json")
    points = square.points(faces.points)
    points = torch.where(flip[:, None, None], points[:, mirror["landmarks"]], points)
    labels = square.cut_labels(faces.labels, size)
    labels = torch.where(labels == UNKNOWN, -1, labels)
    labels = torch.where(flip[:, None, None], torch.tensor([*mirror["parsing"], -1])[labels], labels)
    signals = faces.signals.clone()
    signals[:, -1] -= square.angle.rad2deg() / DEGREES  # the head's roll, seen from the turned square
    signals = torch.where(flip[:, None], signals[:, mirrored_signals()] * torch.from_numpy(SIGNS), signals)
    return points, labels, signals
