"""Squares of frames as the networks of `lite` see them, and what they say put back into the frame."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fclip.faces.lite.network import READER_SIZE

CROP_SCALE, CROP_LIFT = 1.75, 0.2  # side of the reader's crop and how far it is moved up for the hair, in face sides
CANDIDATE = 0.2  # least score of the finder for a second look
MOST_FACES = 8  # candidates looked at in one frame
PASTED = 192  # pixels up to which a parsing is scaled smoothly; beyond, by repeating pixels

Area = tuple[int, int, int]  # a square of a frame: left, top, side in pixels


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, 3, H, W) -> float in [-1, 1] on the device, channels last."""
    return (images.to(device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def letterbox(frames: np.ndarray, size: int, device: torch.device) -> Tensor:
    """Scale frames (N, H, W, 3) so that the longer side is `size`; grey below or on the right -> (N, 3, size, size)."""
    longer = max(frames.shape[1:3])
    height, width = (max(1, round(side * size / longer)) for side in frames.shape[1:3])
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # (N, 3, H, W)
    images = functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
    return functional.pad(as_input(images, device), (0, size - width, 0, size - height))


def peaks(maps: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Local maxima of one frame's maps (4, G, G): centres (n, 2) and sides (n,) of faces in cells, best first."""
    score = maps[0].sigmoid()
    is_peak = functional.max_pool2d(score[None], 3, 1, 1)[0] == score
    rows, columns = torch.nonzero(is_peak & (score >= CANDIDATE), as_tuple=True)
    order = score[rows, columns].argsort(descending=True, stable=True)[:MOST_FACES]
    rows, columns = rows[order], columns[order]
    dx, dy, log_side = maps[1:, rows, columns].double()
    side = log_side.clamp(max=math.log(1.5 * maps.shape[-1])).exp()
    return torch.stack([columns + 0.5 + dx, rows + 0.5 + dy], 1).numpy(), side.numpy()


def reader_area(centre: np.ndarray, side: float) -> Area:
    """The square of whole pixels (left, top, side) that the reader sees of a face of this centre and side."""
    length = max(8, round(CROP_SCALE * float(side)))
    return round(float(centre[0]) - length / 2), round(float(centre[1] - CROP_LIFT * side) - length / 2), length


def crop(frame: np.ndarray, area: Area) -> Tensor:
    """Cut a square out of a frame (H, W, 3), border pixels repeated outside, and scale it: uint8 (3, 96, 96)."""
    left, top, side = area
    height, width = frame.shape[:2]
    if left < 0 or top < 0 or left + side > width or top + side > height:
        rows, columns = np.arange(top, top + side), np.arange(left, left + side)
        inside = frame[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
    else:
        inside = np.ascontiguousarray(frame[top : top + side, left : left + side])
    patch = torch.from_numpy(inside).permute(2, 0, 1)  # (3, side, side)
    return functional.interpolate(patch[None], (READER_SIZE, READER_SIZE), mode="bilinear", antialias=True)[0]


def to_frame(points: Tensor, area: Area) -> np.ndarray:
    """Points (68, 2) in [0, 1] of a square -> pixels of the frame."""
    return points.numpy() * area[2] + area[:2]


def paste_parsing(parsing: np.ndarray, logits: Tensor, area: Area) -> None:
    """Write the class ids of a square's logits (11, 96, 96) into a frame's parsing (H, W)."""
    left, top, side = area
    size = min(side, PASTED)
    scaled = functional.interpolate(logits[None], (size, size), mode="bilinear", align_corners=False)
    ids = most_likely(scaled[0].numpy())
    height, width = parsing.shape
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    rows, columns = ((np.arange(a, b) - c) * size // side for a, b, c in ((y0, y1, top), (x0, x1, left)))
    parsing[y0:y1, x0:x1] = ids[rows[:, None], columns]


def most_likely(logits: np.ndarray) -> np.ndarray:
    """Class of the largest logit: (C, H, W) -> (H, W) uint8; as `argmax(0)`, which is many times slower."""
    best, ids = logits[0].copy(), np.zeros(logits.shape[1:], np.uint8)
    for label, plane in enumerate(logits[1:], 1):
        ids[plane > best] = label
        np.maximum(best, plane, out=best)
    return ids
