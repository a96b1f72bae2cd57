"""A pool of rendered frames with their truth, rendered once into temporary files, for training the bundled weights.

People are numbered from 1 000 000 for training and from 2 000 000 for the held-out figures: neither occurs in a data
set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fclip.files import resource_json
from fclip.synth.actions import UNITS
from fclip.synth.clips import render_clip, sample_clip
from fclip.synth.script import ClipScript

from .augment import Square

TRAINING, HELD_OUT = 1_000_000, 2_000_000  # first identities
SIZE = 160  # pixels of a rendered frame


@dataclass
class Pool:
    """Frames of many clips, row for row.

    frames (N, S, S, 3) uint8; landmarks (N, 68, 2) float32 in [0, 1] of the frame, x then y; parsing (N, S, S) uint8;
    units (N, 25) float32, how strongly each of actions.UNITS acts; `scripts`, one entry per clip, in order.
    """

    frames: np.ndarray
    landmarks: np.ndarray
    parsing: np.ndarray
    units: np.ndarray
    scripts: list[ClipScript]


def class_names(dataset: str = "demo11") -> Sequence[str]:
    """The expressions of a rendered data set, in its order."""
    names: Sequence[str] = resource_json("classes.json")[dataset]
    return names


def make_pool(
    folder: Path, clips: int, frames: int, first: int, classes: Sequence[str], size: int = SIZE, share: float = 0.0
) -> Pool:
    """Render `clips` clips, one per person from number `first` on and the classes in turn, `frames` frames of each.

    The arrays are files in `folder` (memory-mapped; the caller removes it). `share` > 0 keeps of each frame only a
    square around the face, of which the face fills that share, scaled to `size` again.
    """
    count = clips * frames
    folder.mkdir(parents=True, exist_ok=True)
    pool = Pool(
        np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, (count, size, size, 3)),
        np.empty((count, 68, 2), np.float32),
        np.lib.format.open_memmap(folder / "parsing.npy", "w+", np.uint8, (count, size, size)),
        np.empty((count, len(UNITS)), np.float32),
        [sample_clip(classes[index % len(classes)], first + index, 0, classes) for index in range(clips)],
    )
    for index, script in enumerate(pool.scripts):
        clip = render_clip(script, SIZE if share else size, frames)
        rows = slice(index * frames, (index + 1) * frames)
        pictures, landmarks, parsing = clip.frames, clip.landmarks, clip.parsing
        if share:
            pictures, landmarks, parsing = _around_face(pictures, landmarks, parsing, size, share)
        pool.frames[rows], pool.landmarks[rows], pool.parsing[rows] = pictures, landmarks, parsing
        pool.units[rows] = clip.action_units
    return pool


def _around_face(
    frames: np.ndarray, landmarks: np.ndarray, parsing: np.ndarray, size: int, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut squares around the faces: frames (T, S, S, 3), landmarks and parsing as `make_pool` keeps them."""
    points = torch.from_numpy(landmarks * frames.shape[1])
    low, high = points.amin(1), points.amax(1)
    straight = torch.zeros(len(frames))
    square = Square((low + high) / 2, (high - low).amax(1) / share, straight, straight > 0)
    pictures = square.cut(torch.from_numpy(frames).permute(0, 3, 1, 2).float(), size)  # (T, 3, size, size)
    labels = square.cut_labels(torch.from_numpy(parsing), size).clamp(min=0)
    return (
        pictures.round().to(torch.uint8).permute(0, 2, 3, 1).numpy(),
        square.points(points).float().numpy(),
        labels.to(torch.uint8).numpy(),
    )
