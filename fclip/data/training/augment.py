"""Augmentation of whole clips: one crop, flip, rotation and colour change for all frames, maps and points.

What is drawn depends on (seed, epoch, key) alone, so neither workers nor resuming nor ranks change it.
Test-time preprocessing is the same code with a change that is not random (`whole_frame`).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import affine_grid, grid_sample, interpolate

from fclip.files import resource_json

_TOGETHER = 4  # frames changed at once: scratch memory of a few MB is reused, larger is given back and faulted in anew


@dataclass(frozen=True)
class Augmentation:
    """What training may change, and how far.

    crop_area, crop_ratio: bounds of the crop's share of the frame's area and of its width / height; flip: probability
    of mirroring; rotation: largest angle in degrees; brightness, contrast: x for factors from [1 - x, 1 + x]; colour:
    the same for each of red, green and blue on its own (a colour cast).
    """

    crop_area: tuple[float, float] = (0.8, 1.0)
    crop_ratio: tuple[float, float] = (0.9, 1.1)
    flip: float = 0.5
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0


AUGMENTATIONS = {
    "none": Augmentation((1.0, 1.0), (1.0, 1.0), flip=0.0),
    "crop-flip": Augmentation(),
    # DFER-CLIP's: random resized crop as usual for pictures, flip, rotation, jitter of the brightness
    "full": Augmentation((0.08, 1.0), (3 / 4, 4 / 3), flip=0.5, rotation=4.0, brightness=0.5),
}


@dataclass(frozen=True)
class Change:
    """What happens to one clip: turn, cut, resize, mirror, recolour.

    angle: degrees counter-clockwise about the centre; box: left, top, width, height in pixels; contrast: factor about
    the clip's mean; gains: of red, green and blue; resized: the (height, width) that the frame is brought to before the
    box is cut, bicubic, as CLIP's own preprocessing does: then the box is not of whole pixels, and nothing is turned.
    """

    box: tuple[float, float, float, float]
    angle: float = 0.0
    flip: bool = False
    contrast: float = 1.0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resized: tuple[int, int] | None = None


@dataclass(frozen=True)
class Mirror:
    """What changes place in a mirrored face: indices of the 68 landmarks, ids of the parsing classes."""

    landmarks: np.ndarray
    parsing: np.ndarray


@cache
def mirror() -> Mirror:
    """Read resources/mirror.json."""
    table = resource_json("mirror.json")
    return Mirror(np.array(table["landmarks"]), np.array(table["parsing"], np.uint8))


def clip_rng(seed: int, epoch: int, key: str, use: str) -> np.random.Generator:
    """A random generator that depends on these four alone."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{key}/{use}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def draw_change(options: Augmentation, height: int, width: int, rng: np.random.Generator) -> Change:
    """Draw the change of one clip with frames of `height` x `width`.

    Every option takes its random numbers, on or off, so that switching one leaves the others as drawn.
    """
    area, ratio, across, down, flip, angle, bright, contrast, *cast = rng.random(11).tolist()
    crop = height * width * _between(area, *options.crop_area)
    shape = math.exp(_between(ratio, *(math.log(bound) for bound in options.crop_ratio)))
    box_width = min(width, max(1, round(math.sqrt(crop * shape))))
    box_height = min(height, max(1, round(math.sqrt(crop / shape))))
    left, top = int(across * (width - box_width + 1)), int(down * (height - box_height + 1))
    brightness = _factor(bright, options.brightness)
    red, green, blue = (brightness * _factor(value, options.colour) for value in cast)
    return Change(
        box=(left, top, box_width, box_height),
        angle=_between(angle, -options.rotation, options.rotation),
        flip=flip < options.flip,
        contrast=_factor(contrast, options.contrast),
        gains=(red, green, blue),
    )


def whole_frame(height: int, width: int, size: int, resize: str = "squash") -> Change:
    """The change of test time: the whole frame squashed to a square of `size`, or, with `resize="crop"`, CLIP's own
    preprocessing: the short side bicubic to `size`, then the centre square; with torchvision's rounding."""
    if resize == "squash":
        return Change((0, 0, width, height))
    short = min(height, width)
    new_height, new_width = int(size * height / short), int(size * width / short)
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    across, down = width / new_width, height / new_height  # source pixels for one of the resized frame
    return Change((left * across, top * down, size * across, size * down), resized=(new_height, new_width))


def change_frames(frames: np.ndarray, change: Change, size: int) -> torch.Tensor:
    """Apply a change to frames uint8 (T, H, W, 3); returns uint8 (T, size, size, 3).

    Bilinear; antialiased where the frame is not rotated. What a rotation brings in from outside repeats the border.
    With `resized`, exactly PIL's bicubic.
    """
    if change.resized:
        return torch.from_numpy(np.stack([_resize_and_cut(frame, change, size) for frame in frames]))
    source = torch.from_numpy(frames).permute(0, 3, 1, 2)  # (T, 3, H, W)
    result = torch.empty((len(frames), size, size, 3), dtype=torch.uint8)
    mean = float(frames[:, ::4, ::4].mean()) if change.contrast != 1 else 0.0  # a sixteenth of the pixels will do
    for start in range(0, len(frames), _TOGETHER):
        images = _cut(source[start : start + _TOGETHER], change, size, "bilinear")
        images = images.permute(0, 2, 3, 1).contiguous()  # (N, size, size, 3)
        result[start : start + _TOGETHER] = _recolour(images, change, mean)
    return result


def change_parsing(parsing: np.ndarray, change: Change, size: int) -> torch.Tensor:
    """Apply a change to parsing ids uint8 (T, H, W); returns uint8 (T, size, size), nearest source pixel."""
    ids = _cut(torch.from_numpy(parsing)[:, None], change, size, "nearest")[:, 0].to(torch.uint8)  # (T, size, size)
    if not change.flip:
        return ids
    swapped = ids.numpy().tobytes().translate(_mirror_bytes())
    return torch.frombuffer(bytearray(swapped), dtype=torch.uint8).view(ids.shape)


def change_landmarks(landmarks: np.ndarray, change: Change, height: int, width: int) -> torch.Tensor:
    """Apply a change to landmarks float32 (T, 68, 2) in [0, 1] of `height` x `width` frames; same form back.

    Points outside the cut are outside [0, 1] afterwards.
    """
    left, top, box_width, box_height = change.box
    points = landmarks * (width, height) - (width / 2, height / 2)  # (T, 68, 2) pixels from the centre
    cos, sin = math.cos(math.radians(change.angle)), math.sin(math.radians(change.angle))
    points = points @ np.array([[cos, -sin], [sin, cos]])  # row vectors; y points down
    points = (points + (width / 2 - left, height / 2 - top)) / (box_width, box_height)
    if change.flip:
        points = (points * (-1, 1) + (1, 0))[:, mirror().landmarks]
    return torch.from_numpy(points.astype(np.float32))


def _between(share: float, low: float, high: float) -> float:
    return low + share * (high - low)


def _factor(share: float, spread: float) -> float:
    return _between(share, 1 - spread, 1 + spread)


def _affine(change: Change, height: int, width: int) -> np.ndarray:
    """(2, 3) map from a place (x, y, 1) in the result, in [0, 1], to source pixels from the frame's centre."""
    left, top, box_width, box_height = change.box
    cut = np.array([[box_width, 0, left - width / 2], [0, box_height, top - height / 2]])
    if change.flip:
        cut = cut @ np.array([[-1, 0, 1], [0, 1, 0], [0, 0, 1]])
    cos, sin = math.cos(math.radians(change.angle)), math.sin(math.radians(change.angle))
    return np.array([[cos, -sin], [sin, cos]]) @ cut


def _resize_and_cut(frame: np.ndarray, change: Change, size: int) -> np.ndarray:
    """One frame uint8 (H, W, 3), resized bicubic and cut: (size, size, 3)."""
    assert change.resized
    height, width = change.resized
    picture = Image.fromarray(frame)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = _corner(change, *frame.shape[:2])
    return np.asarray(picture)[top : top + size, left : left + size]


def _corner(change: Change, height: int, width: int) -> tuple[int, int]:
    """Left and top of the box in pixels of the resized frame."""
    assert change.resized
    return round(change.box[0] * change.resized[1] / width), round(change.box[1] * change.resized[0] / height)


def _cut(images: torch.Tensor, change: Change, size: int, mode: str) -> torch.Tensor:
    """Cut, rotate, resize and mirror images uint8 (N, C, H, W) to (N, C, size, size); float if rotated."""
    if change.angle:
        return _rotate(images, change, size, mode)
    if change.resized:
        left, top = _corner(change, *images.shape[-2:])
        images = interpolate(images, change.resized, mode="nearest-exact")
        return images[:, :, top : top + size, left : left + size]
    left, top, width, height = map(int, change.box)
    images = images[:, :, top : top + height, left : left + width]
    if (height, width) != (size, size):
        if mode == "bilinear":
            images = interpolate(images, (size, size), mode="bilinear", antialias=True)
        else:
            images = interpolate(images, (size, size), mode="nearest-exact")
    return images.flip(3) if change.flip else images


def _rotate(images: torch.Tensor, change: Change, size: int, mode: str) -> torch.Tensor:
    """Do all of a change's geometry by one sampling grid; images uint8 (N, C, H, W), result float32.

    All images share the grid: as channels of one image, the sampling positions are computed once per clip.
    """
    count, channels, height, width = images.shape
    to_source = np.array([[2 / width], [2 / height]])  # from pixels to grid_sample's [-1, 1] ...
    to_unit = np.array([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]])  # ... and from it to [0, 1]
    matrix = torch.from_numpy(to_source * (_affine(change, height, width) @ to_unit)).float()
    grid = affine_grid(matrix[None], [1, 1, size, size], align_corners=False)
    pixels = images.reshape(1, count * channels, height, width).float()  # (1, N*C, H, W)
    pixels = grid_sample(pixels, grid, mode=mode, padding_mode="border", align_corners=False)
    return pixels.view(count, channels, size, size)


def _recolour(images: torch.Tensor, change: Change, mean: float) -> torch.Tensor:
    """Change contrast about `mean`, then each channel's gain; (N, S, S, 3) uint8 or float in, rounded uint8 out."""
    if images.dtype == torch.uint8 and change.contrast == 1 and change.gains == (1, 1, 1):
        return images
    count, size, _, _ = images.shape
    pixels = images.view(count, size, size * 3).float()  # (N, S, S*3): long rows, which torch handles fast
    gains = torch.tensor(change.gains, dtype=torch.float32).repeat(size)
    pixels.mul_(gains * change.contrast).add_(gains * (1 - change.contrast) * mean + 0.5).clamp_(0, 255)
    changed = pixels.numpy().astype(np.uint8)  # seven times as fast as torch's conversion
    return torch.from_numpy(changed).view(count, size, size, 3)


@cache
def _mirror_bytes() -> bytes:
    table = np.arange(256, dtype=np.uint8)
    table[: len(mirror().parsing)] = mirror().parsing
    return table.tobytes()
