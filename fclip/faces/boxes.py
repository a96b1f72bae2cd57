"""Arithmetic on boxes (n, 4): x0, y0, x1, y1 in pixels."""

from __future__ import annotations

import numpy as np

MARGIN = 1.5  # side of a crop / larger extent of the face's landmarks: shows forehead, chin and ears


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of all pairs of boxes (n, 4) and (m, 4), as (n, m); 0 where both are empty."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:4], second[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(-1)  # (n, m)
    union = _area(first)[:, None] + _area(second)[None, :] - shared
    return shared / np.maximum(union, 1e-9)


def centres_and_sides(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 2) of boxes and their larger extents (n,)."""
    return (boxes[:, :2] + boxes[:, 2:4]) / 2, (boxes[:, 2:4] - boxes[:, :2]).max(axis=1)


def squares(centres: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Square boxes (n, 4) of centres (n, 2) and sides (n,)."""
    half = sides[:, None] / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def within(boxes: np.ndarray, least: np.ndarray, width: int, height: int) -> np.ndarray:
    """Square boxes (n, 4) made to show the picture alone, as far as they can.

    A square is no larger than the picture's shorter side, but no smaller than `least` (n,), the face, and it is moved
    inwards; where it is still larger than the picture, it stays in its middle.
    """
    centres, sides = centres_and_sides(boxes)
    sides = np.minimum(sides, np.maximum(least, min(width, height)))  # (n,)
    size = np.array([width, height], np.float64)
    reach = np.minimum(sides[:, None], size) / 2  # (n, 2)
    return squares(np.clip(centres, reach, size - reach), sides)


def without_doubles(boxes: np.ndarray, limit: float = 0.4) -> np.ndarray:
    """Boxes (n, 5) with a score, best first, less those that overlap a better one with an IoU above `limit`."""
    return boxes[distinct(boxes, limit)]


def distinct(boxes: np.ndarray, limit: float = 0.4) -> list[int]:
    """Which boxes `without_doubles` keeps, by index."""
    kept: list[int] = []
    boxes = np.asarray(boxes, np.float64)
    overlap = intersection_over_union(boxes, boxes)
    for index in np.argsort(-boxes[:, 4], kind="stable"):
        if all(overlap[index, other] <= limit for other in kept):
            kept.append(int(index))
    return kept


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None).prod(-1)
