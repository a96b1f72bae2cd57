"""Training of the bundled face networks (`lite`) from scratch on rendered frames, and their held-out figures.

The reader learns landmarks, parsing and presence on 96 x 96 crops whose square errs as the finder's does; the finder
learns to place faces of any size in 64 x 64 frames. Neither sees anything but renderings, procedural pictures and
pieces of two photographs without people.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fclip.errors import ClipFailure
from fclip.faces.landmarks import inter_ocular
from fclip.faces.lite.backend import CROP_LIFT, CROP_SCALE, LiteBackend
from fclip.faces.lite.network import (
    FINDER_GRID,
    FINDER_SIZE,
    READER_GRID,
    READER_SIZE,
    FaceFinder,
    FaceReader,
    LiteNetworks,
    cell_centres,
)
from fclip.files import resource_json
from fclip.records import PARSING_CLASSES
from fclip.synth.augment import Square, chance, degrade, occlude, pictures_without_face, relight, uniform
from fclip.synth.fitting import fit
from fclip.synth.pool import HELD_OUT, Pool

READER_STEPS, FINDER_STEPS, BATCH = 2300, 1300, 32
PLAIN_PICTURES = 1000  # pictures without a face, made once
CLASS_WEIGHTS = (0.7, 0.7, 1.6, 1.6, 1.6, 1.6, 1.0, 1.6, 1.6, 1.6, 0.8)  # small parts count more


def train_lite(
    pool: Pool,
    seed: int = 0,
    reader_steps: int = READER_STEPS,
    finder_steps: int = FINDER_STEPS,
    pictures: int = PLAIN_PICTURES,
) -> LiteNetworks:
    """Train both networks on a pool of rendered frames; returns them in evaluation mode, float32."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    networks = LiteNetworks().to(memory_format=torch.channels_last)
    plain = pictures_without_face(pictures, READER_SIZE, random)
    _set_usual_places(networks.reader, reader_batch(pool, plain, random)[1])
    networks.train()

    def read(_: float) -> Tensor:
        return reader_loss(networks.reader, reader_batch(pool, plain, random), random)

    def find(_: float) -> Tensor:
        return finder_loss(networks.finder, *finder_batch(pool, plain, random))

    fit("lite, reader", networks.reader.parameters(), reader_steps, read, 2e-3, 1e-3)
    fit("lite, finder", networks.finder.parameters(), finder_steps, find, 2e-3, 1e-3)
    return networks.eval()


def _set_usual_places(reader: FaceReader, points: Tensor) -> None:
    """Start the landmarks' maps from bumps around their mean places in a batch of crops (N, 68, 2)."""
    centres, mean = cell_centres(READER_GRID), points.mean(0)
    across, down = ((centres - mean[:, axis, None]) ** 2 for axis in (0, 1))  # (68, G)
    reader.usual_places.data = -(across[:, None, :] + down[:, :, None]) / (2 * 0.12**2)


def _faces(pool: Pool, count: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Random frames: images (N, 3, S, S), labels (N, S, S), points (N, 68, 2) in pixels, centre (N, 2), side (N,)."""
    index = torch.randint(0, len(pool.frames), (count,), generator=random).numpy()
    images = torch.from_numpy(pool.frames[index]).permute(0, 3, 1, 2).float() / 255
    points = torch.from_numpy(pool.landmarks[index]) * images.shape[-1]
    low, high = points.amin(1), points.amax(1)
    return images, torch.from_numpy(pool.parsing[index]), points, (low + high) / 2, (high - low).amax(1)


def reader_batch(pool: Pool, plain: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One batch for the reader: crops (N, 3, 96, 96), points (N, 68, 2), labels (N, 96, 96), presence (N,).

    One crop in six has no face: a plain picture, or a place beside the face or far too large or small for it.
    """
    images, labels, points, centre, side = _faces(pool, BATCH, random)
    jitter = uniform(2 * BATCH, -0.1, 0.1, random).view(-1, 2) - torch.tensor([0.0, CROP_LIFT])
    flip = chance(BATCH, 0.5, random)
    scale = CROP_SCALE * uniform(BATCH, -0.22, 0.22, random).exp()
    square = Square(centre + jitter * side[:, None], side * scale, 0.2 * torch.randn(BATCH, generator=random), flip)
    miss = chance(BATCH, 0.09, random)
    square.centre[miss] += _far(int(miss.sum()), random) * side[miss, None]
    crops, points = square.cut(images, READER_SIZE), square.points(points)
    labels = square.cut_labels(labels, READER_SIZE)
    mirrored = torch.tensor([*resource_json("mirror.json")["parsing"], -1])[labels]  # -1, outside, stays -1
    labels = torch.where(flip[:, None, None], mirrored, labels)
    points = torch.where(flip[:, None, None], points[:, resource_json("mirror.json")["landmarks"]], points)
    empty = chance(BATCH, 0.08, random)
    crops[empty] = plain[torch.randint(0, len(plain), (int(empty.sum()),), generator=random)]
    crops = degrade(relight(occlude(crops, plain, random), random), random)
    presence = ~(miss | empty)
    labels[~presence] = -1
    return crops * 2 - 1, points, labels, presence.float()


def _far(count: int, random: torch.Generator) -> Tensor:
    """Shifts (N, 2) by 1 to 1.6 face sides in any direction."""
    angle = uniform(count, -math.pi, math.pi, random)
    return torch.stack([angle.cos(), angle.sin()], 1) * uniform(count, 1.0, 1.6, random)[:, None]


def reader_loss(reader: FaceReader, batch: tuple[Tensor, Tensor, Tensor, Tensor], random: torch.Generator) -> Tensor:
    """Smooth L1 of the points in pixels + weighted cross-entropy and Dice of the parsing + presence.

    The parsing is compared in one pixel of each 2 x 2, another one in each step: a quarter of the work.
    """
    crops, points, labels, presence = batch
    guessed, quarters, present = reader.read(crops.contiguous(memory_format=torch.channels_last))
    face = presence > 0.5
    distance = functional.smooth_l1_loss(guessed[face] * READER_SIZE, points[face] * READER_SIZE)
    row, column = torch.randint(0, 2, (2,), generator=random).tolist()
    logarithm = quarters[:, :, 2 * row + column].log_softmax(1)  # (N, 11, 48, 48)
    labels = labels[:, row::2, column::2].contiguous()
    entropy = functional.nll_loss(logarithm, labels, torch.tensor(CLASS_WEIGHTS), ignore_index=-1)
    there = functional.binary_cross_entropy_with_logits(present, presence)
    return 0.5 * distance + 3 * entropy + 2 * _dice(logarithm.exp(), labels) + 0.3 * there


def _dice(guess: Tensor, labels: Tensor) -> Tensor:
    """One minus the soft Dice overlap of probabilities (N, C, H, W), mean over classes; pixels labelled -1 left out."""
    known = labels >= 0
    true = labels.clamp(min=0)
    right = guess.gather(1, true[:, None])[:, 0][known]
    common = torch.zeros(guess.shape[1]).index_add(0, labels[known], right)
    total = (guess * known[:, None]).sum((0, 2, 3)) + labels[known].bincount(minlength=guess.shape[1])
    return 1 - ((2 * common + 1) / (total + 1)).mean()


def finder_batch(pool: Pool, plain: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One batch for the finder: frames (N, 3, 64, 64), centres (N, F, 2) and sides (N, F) in [0, 1], side 0 = no face.

    Half of the frames that reach beyond the rendering get another background there; some have the face covered or
    are plain pictures; one in eight is a mosaic of four frames.
    """
    count = BATCH * 2
    images, _, _, centre, side = _faces(pool, count, random)
    large, other = uniform(count, 0.6, 1.0, random), uniform(count, 0.13, 0.75, random)
    share = torch.where(chance(count, 0.25, random), large, other)
    reach = (0.5 - 0.4 * share).clamp(min=0.03)  # how far from the middle the face may lie
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


def lite_figures(backend: LiteBackend, pool: Pool, plain: int = 400) -> dict[str, float]:
    """Figures on rendered frames: landmark error (share of the distance between the outer eye corners), parsing IoU,
    share of frames in which a face is found, share of `plain` pictures without a face in which one is found.
    """
    errors = []
    common, either = np.zeros(len(PARSING_CLASSES)), np.zeros(len(PARSING_CLASSES))
    for frame, landmarks, parsing in zip(pool.frames, pool.landmarks, pool.parsing, strict=True):
        try:
            track = backend.analyze(frame[None])
        except ClipFailure:
            continue
        errors.append(np.linalg.norm(track.landmarks[0] - landmarks, axis=1).mean() / inter_ocular(landmarks))
        for label in range(len(PARSING_CLASSES)):
            guess, truth = track.parsing[0] == label, parsing == label
            common[label] += (guess & truth).sum()
            either[label] += (guess | truth).sum()
    pictures = pictures_without_face(plain, pool.frames.shape[1], torch.Generator().manual_seed(HELD_OUT))
    without = (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # (N, S, S, 3)
    return {
        "frames": len(pool.frames),
        "landmark_error": float(np.mean(errors)) if errors else 1.0,
        "parsing_iou": float((common / np.maximum(either, 1)).mean()),
        "faces_found": len(errors) / len(pool.frames),
        "false_faces": sum(len(boxes) > 0 for boxes in backend.detect(without)) / len(without),
    }
