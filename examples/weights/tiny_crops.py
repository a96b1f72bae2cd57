"""Face crops as `preprocess` makes them, 80 x 80, with what is known about each: what `tiny` is trained on."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from fclip.faces.boxes import MARGIN
from fclip.models.backbone.clip import CLIP_MEAN, CLIP_STD
from fclip.records import LANDMARKS
from fclip.synth.actions import UNITS

from .augment import Square, degrade, lower, relight, uniform
from .faces import Faces, cut_truth
from .pool import Pool
from .real import SIGNALS, RealFaces
from .tiny_texts import mirrored

MARGINS = 1.0, 1.65  # least and largest margin of a training crop
SHIFT = 0.2  # most that the face lies off its middle, in sides: crops are kept within their pictures


@dataclass
class Crops:
    """images (N, 3, 80, 80) normalised; points (N, 68, 2) in [0, 1]; labels (N, 20, 20) int64, -1 unknown; action units
    (N, 25) and signals (N, 55), NaN where not known.
    """

    images: Tensor
    points: Tensor
    labels: Tensor
    units: Tensor
    signals: Tensor

    @property
    def shape(self) -> Tensor:
        """The landmarks moved to the origin and scaled to unit size, (N, 136): the face without its place."""
        points = self.points - self.points.mean(1, keepdim=True)
        return (points / points.norm(dim=(1, 2), keepdim=True) * LANDMARKS**0.5).flatten(1)


def joined(*parts: Crops) -> Crops:
    """One batch after another."""
    return Crops(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Crops)))


def rendered_crops(pool: Pool, index: Tensor, flip: Tensor, random: torch.Generator | None) -> Crops:
    """Cut the rendered frames at `index` (N,) around the face, mirrored where `flip`.

    With `random`, place, size, light and sharpness vary; without, the square lies exactly around the landmarks.
    """
    units = torch.from_numpy(pool.units[index.numpy()])
    units = torch.where(flip[:, None], units[:, [UNITS.index(mirrored(name)) for name in UNITS]], units)
    signals = np.full((len(index), SIGNALS), np.nan, np.float32)
    return _cut(pool, index, signals, units, flip, random)


def real_crops(real: RealFaces, index: Tensor, flip: Tensor, random: torch.Generator | None) -> Crops:
    """As `rendered_crops`, of real faces; many get darker, smaller or lose their colour: film stills are."""
    units = torch.full((len(index), len(UNITS)), torch.nan)
    return _cut(real, index, real.signals[index.numpy()], units, flip, random)


def _cut(
    source: Pool | RealFaces,
    index: Tensor,
    signals: np.ndarray,
    units: Tensor,
    flip: Tensor,
    random: torch.Generator | None,
) -> Crops:
    rows, count = index.numpy(), len(index)
    images = torch.from_numpy(source.frames[rows]).permute(0, 3, 1, 2).float() / 255
    points = torch.from_numpy(source.landmarks[rows]) * images.shape[-1]
    labels = torch.from_numpy(source.parsing[rows])
    faces = Faces(images, labels, points, torch.from_numpy(signals), torch.ones(count) > 0)
    centre, side, angle = faces.centre, MARGIN * faces.side, torch.zeros(count)
    if random is not None:
        centre = centre + uniform(2 * count, -SHIFT, SHIFT, random).view(-1, 2) * side[:, None]
        side = faces.side * uniform(count, *np.log(MARGINS), random).exp()
        angle = 0.08 * torch.randn(count, generator=random)
    square = Square(centre, side, angle, flip)
    images = square.cut(images, 80)
    points, labels, known = cut_truth(faces, square, 20)
    if random is not None:
        images = degrade(lower(relight(images, random), random), random)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return Crops((images - mean) / std, points, labels, units, known)
