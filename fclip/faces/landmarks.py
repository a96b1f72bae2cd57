"""The 68 landmarks (iBUG / 300-W order): their parts, extent, and mirror image; and the parsing's mirror image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fclip.files import resource_json

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


@dataclass(frozen=True)
class LandmarkPart:
    """Points [start, stop) of one face part; `closed` contours return to their first point; RGB colour 0-255."""

    name: str
    start: int
    stop: int
    closed: bool
    colour: tuple[int, int, int]


@cache
def landmark_parts() -> tuple[LandmarkPart, ...]:
    """The nine parts that the 68 landmarks consist of, in order."""
    return tuple(
        LandmarkPart(row["name"], row["points"][0], row["points"][1], row["closed"], tuple(row["colour"]))
        for row in resource_json("landmark_parts.json")["parts"]
    )


def landmark_box(points: np.ndarray) -> np.ndarray:
    """Extent of points (..., 68, 2) as (..., 4): x0, y0, x1, y1; this is what a face detector's box means."""
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)


def inter_ocular(points: np.ndarray) -> np.ndarray:
    """Distance between the outer eye corners (points 36 and 45) of (..., 68, 2), as (...), in the points' unit."""
    return np.linalg.norm(points[..., 45, :] - points[..., 36, :], axis=-1)


def flip_landmarks(landmarks: Array) -> Array:
    """Landmarks (..., 68, 2) in [0, 1] of the mirrored frame, points renumbered; numpy or torch.

    A frame without a face (all its landmarks 0) stays so.
    """
    mirrored = landmarks[..., resource_json("mirror.json")["landmarks"], :]  # (..., 68, 2)
    present = (landmarks != 0).any(-1).any(-1)[..., None]  # (..., 1)
    mirrored[..., 0] = (1 - mirrored[..., 0]) * present
    return mirrored


def flip_parsing(parsing: Array) -> Array:
    """Parsing (..., H, W) uint8 of the mirrored frame: left and right brow and eye change places; numpy or torch."""
    lookup = np.arange(256, dtype=np.uint8)
    swapped = resource_json("mirror.json")["parsing"]
    lookup[: len(swapped)] = swapped
    if isinstance(parsing, np.ndarray):
        return lookup[parsing[..., ::-1]]
    import torch

    return torch.from_numpy(lookup).to(parsing.device)[parsing.flip(-1).int()]
