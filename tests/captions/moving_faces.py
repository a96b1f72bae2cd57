"""Face tracks made to move as a test says: an average face (face68.json) whose points are displaced over time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fclip.records import FaceTrack

FACE = np.array(json.loads(Path(__file__).with_name("face68.json").read_text()))  # (68, 2) in [0, 1]
IOD = float(np.linalg.norm(FACE[36] - FACE[45]))
SIZE = (100, 100)
RIGHT_CORNER, LEFT_CORNER = (48, 60), (54, 64)
LOWER_LIP, LOWER_INNER, JAW = (55, 56, 57, 58, 59), (65, 66, 67), (6, 7, 8, 9, 10)
RIGHT_BROW, LEFT_BROW = (17, 18, 19, 20, 21), (22, 23, 24, 25, 26)


def still(frames: int = 16) -> np.ndarray:
    """Landmarks (T, 68, 2) of a face that does not move."""
    return np.repeat(FACE[None], frames, axis=0)


def displace(points: np.ndarray, which: tuple[int, ...], course: np.ndarray, x: float = 0.0, y: float = 0.0) -> None:
    """Move points by (x, y) IOD times the course (T,); y grows downwards. In place."""
    points[:, list(which)] += IOD * course[:, None, None] * np.array([x, y])


def ramp(frames: int, start: float, end: float) -> np.ndarray:
    """0 up to the share `start` of the clip, 1 from `end` on, linear in between: (T,)."""
    return np.clip((np.arange(frames) / (frames - 1) - start) / (end - start), 0, 1)


def pulse(frames: int, start: float, end: float) -> np.ndarray:
    """1 between two shares of the clip, 0 elsewhere: (T,)."""
    share = np.arange(frames) / (frames - 1)
    return ((share >= start) & (share <= end)).astype(float)


def raise_corners(points: np.ndarray, course: np.ndarray, size: float = 0.13, sides: str = "both") -> None:
    """Mouth corners up and outwards."""
    if sides in ("both", "right"):
        displace(points, RIGHT_CORNER, course, x=-0.6 * size, y=-size)
    if sides in ("both", "left"):
        displace(points, LEFT_CORNER, course, x=0.6 * size, y=-size)


def open_mouth(points: np.ndarray, course: np.ndarray, size: float = 0.25) -> None:
    """Lower lip and chin down; the corners of the mouth go half of the way."""
    for which in (LOWER_LIP, LOWER_INNER, JAW):
        displace(points, which, course, y=size)
    displace(points, (*RIGHT_CORNER, *LEFT_CORNER), course, y=0.45 * size)


def raise_brows(points: np.ndarray, course: np.ndarray, size: float = 0.12, sides: str = "both") -> None:
    """Whole brows up (or down, with a negative size)."""
    if sides in ("both", "right"):
        displace(points, RIGHT_BROW, course, y=-size)
    if sides in ("both", "left"):
        displace(points, LEFT_BROW, course, y=-size)


def close_eyes(points: np.ndarray, course: np.ndarray) -> None:
    """Upper lids down onto the lower ones."""
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        points[:, upper] += course[:, None] * (points[:, lower] - points[:, upper])


def track(points: np.ndarray, blendshapes: np.ndarray | None = None, pose: np.ndarray | None = None) -> FaceTrack:
    """A face track with a face in every frame."""
    frames = len(points)
    return FaceTrack(
        np.zeros((frames, 4, 4), np.uint8), points.astype(np.float32), np.ones(frames, np.float32), blendshapes, pose
    )


def times(frames: int, seconds: float = 2.0) -> np.ndarray:
    """Seconds (T,) of evenly spaced frames."""
    return np.arange(frames) * seconds / frames
