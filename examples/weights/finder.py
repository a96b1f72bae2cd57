"""Training of `lite`'s finder: placing faces of any size in frames of 64 x 64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fclip.faces.lite.network import FINDER_GRID, FINDER_SIZE, FaceFinder

from .augment import Square, chance, degrade, occlude, relight, uniform
from .faces import FaceSource

BATCH = 64


def finder_batch(source: FaceSource, plain: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One batch for the finder: frames (N, 3, 64, 64), centres (N, F, 2) and sides (N, F) in [0, 1], side 0 = no face.

    Half of the frames that reach beyond the rendering get another background there; some have the face covered or
    are plain pictures; one in eight is a mosaic of four frames.
    """
    count = BATCH
    faces = source.draw(count, random)
    images, centre, side = faces.images, faces.centre, faces.side
    large, other = uniform(count, 0.6, 1.05, random), uniform(count, 0.13, 0.75, random)
    share = torch.where(chance(count, 0.3, random), large, other)
    reach = (0.5 - 0.4 * share).clamp(min=0.06)  # how far from the middle the face may lie
    shift = uniform(2 * count, -1, 1, random).view(-1, 2) * reach[:, None] * (side / share)[:, None]
    angle = 0.18 * torch.randn(count, generator=random)
    square = Square(centre + shift, side / share, angle, chance(count, 0.5, random))
    frames = square.cut(images, FINDER_SIZE)
    outside = square.cut_labels(torch.zeros(images[:, 0].shape, dtype=torch.uint8), FINDER_SIZE) < 0
    behind = plain[torch.randint(0, len(plain), (count,), generator=random)]
    behind = functional.interpolate(behind, (FINDER_SIZE, FINDER_SIZE), mode="bilinear", antialias=True)
    replace = outside & chance(count, 0.6, random)[:, None, None]
    frames = torch.where(replace[:, None], behind, frames)
    where = square.points(centre[:, None])  # (N, 1, 2)
    size = share[:, None].clone()
    _cover(frames, where[:, 0], size[:, 0], plain, chance(count, 0.06, random))
    empty = chance(count, 0.12, random)
    frames[empty], size[empty] = behind[empty], 0.0
    frames, where, size = _mosaic(frames, where, size)
    return degrade(relight(occlude(frames, plain, random, 0.1), random), random) * 2 - 1, where, size


def _cover(frames: Tensor, where: Tensor, size: Tensor, plain: Tensor, chosen: Tensor) -> None:
    """Hide the faces of the chosen frames under plain pictures, in place: their body alone is no face."""
    for index in chosen.nonzero()[:, 0].tolist():
        half = float(size[index]) * 0.62
        (x0, y0), (x1, y1) = (
            [int(min(max(value, 0.0), 1.0) * FINDER_SIZE) for value in (where[index] + sign * half).tolist()]
            for sign in (-1, 1)
        )
        frames[index, :, y0:y1, x0:x1] = plain[index % len(plain), :, y0:y1, x0:x1]
        size[index] = 0.0


def _mosaic(frames: Tensor, where: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Make the first eighth of the frames mosaics of four others; points (N, 1, 2) become (N, 4, 2), sides (N, 4)."""
    count = len(frames) // 8
    small = functional.avg_pool2d(frames[-4 * count :], 2).view(count, 4, 3, FINDER_SIZE // 2, FINDER_SIZE // 2)
    rows = [torch.cat([small[:, 2 * row], small[:, 2 * row + 1]], 3) for row in range(2)]
    frames = torch.cat([torch.cat(rows, 2), frames[count:]])
    corner = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [0.5, 0.5]])
    many_where = where.expand(-1, 4, -1).clone()
    many_size = functional.pad(size, (0, 3))
    many_where[:count] = where[-4 * count :].view(count, 4, 2) / 2 + corner
    many_size[:count] = size[-4 * count :].view(count, 4) / 2
    return frames, many_where, many_size


def finder_loss(finder: FaceFinder, frames: Tensor, where: Tensor, size: Tensor) -> Tensor:
    """CenterNet's penalty-reduced focal loss on centres + L1 of offset and logarithm of the side at true centres."""
    maps = finder(frames.contiguous(memory_format=torch.channels_last))
    grid = FINDER_GRID
    place = where * grid  # (N, F, 2) in cells
    image, face = (size > 0).nonzero(as_tuple=True)
    column, row = (place[image, face].floor().long().clamp(0, grid - 1)).unbind(1)
    target = _bumps(place, size * grid, grid)
    target[image, row, column] = 1.0
    score = maps[:, 0].sigmoid().clamp(1e-4, 1 - 1e-4)
    hit = -((1 - score) ** 2) * score.log() * (target == 1)
    miss = -((1 - target) ** 4) * score**2 * (1 - score).log() * (target < 1)
    focal = (hit.sum() + miss.sum()) / max(len(image), 1)
    middle = torch.stack([column, row], 1) + 0.5
    wanted = torch.cat([place[image, face] - middle, (size[image, face] * grid).log()[:, None]], 1)  # (F', 3)
    return focal + 1.5 * functional.l1_loss(maps[image, 1:, row, column], wanted)


def _bumps(place: Tensor, side: Tensor, grid: int) -> Tensor:
    """Gaussian bumps around face centres, a seventh of the face wide: (N, F, 2), (N, F) in cells -> (N, G, G)."""
    steps = torch.arange(grid) + 0.5
    across = (steps - place[..., :1]) ** 2  # (N, F, G)
    down = (steps - place[..., 1:]) ** 2
    width = (side / 7).clamp(min=0.5)[..., None, None]
    bumps = (-(across[:, :, None, :] + down[:, :, :, None]) / (2 * width**2)).exp()
    return (bumps * (side > 0)[..., None, None] * 0.99).amax(1)
