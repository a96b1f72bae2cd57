"""What a back end knows of a face after one look at a whole frame, handed on so that nobody has to look again.

In memory it is a SeenFace of each frame. To whoever has only the crops it is handed on as one row of numbers a frame,
its points in pixels of the crop: an array (T, N) float32, in which a row of zeros is a frame without the face. What the
numbers mean, the back end that saw the face knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from fclip.errors import FclipError
from fclip.faces.boxes import centres_and_sides, intersection_over_union

OFF_CENTRE = 0.25  # how far from the middle of its crop a face may be, in sides of the crop


class SeenFace(Protocol):
    """One face of a frame. points (P, 2 or 3) in pixels: x right, y down, and depth; numbers (K,): all else."""

    @property
    def box(self) -> np.ndarray:
        """Extent of the 68 landmarks, (4,) in pixels."""
        ...

    @property
    def score(self) -> float:
        """How surely it is a face, 0 to 1."""
        ...

    @property
    def points(self) -> np.ndarray: ...

    @property
    def numbers(self) -> np.ndarray: ...


def boxes_of(faces: Sequence[SeenFace]) -> np.ndarray:
    """The faces of a frame as FaceDetector says: (n, 5) float32, box and score."""
    return np.array([[*face.box, face.score] for face in faces], np.float32).reshape(-1, 5)


def rows_in_crops(faces: Sequence[SeenFace | None], boxes: np.ndarray, size: int) -> np.ndarray | None:
    """The rows (T, N) of a face in crops of `size` pixels a side, cut out of boxes (T, 4); None if no frame has it."""
    rows: list[np.ndarray | None] = []
    for face, box in zip(faces, np.asarray(boxes, np.float64), strict=True):
        if face is None:
            rows.append(None)
            continue
        scale = size / (box[2:] - box[:2])
        moved = face.points.astype(np.float64)
        moved[:, :2] = (moved[:, :2] - box[:2]) * scale
        moved[:, 2:] *= scale[0]
        rows.append(np.concatenate([moved.ravel(), face.numbers]).astype(np.float32))
    known = next((row for row in rows if row is not None), None)
    return None if known is None else np.stack([np.zeros_like(known) if row is None else row for row in rows])


def split_rows(
    seen: np.ndarray, frames: int, shape: tuple[int, int], numbers: int
) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Points (P, D) float64 and numbers (K,) of each row of `seen`, None for a frame without the face.

    `shape` is (P, D). Raises FclipError where the rows are not `frames` of this kind.
    """
    points = shape[0] * shape[1]
    if seen.shape != (frames, points + numbers):
        raise FclipError(f"a face was handed on as {seen.shape}, not {(frames, points + numbers)}; preprocess again")
    return [(row[:points].astype(np.float64).reshape(shape), row[points:]) if row.any() else None for row in seen]


def in_the_middle(faces: Sequence[SeenFace], box: np.ndarray) -> SeenFace | None:
    """The face that a crop out of `box` (4,) is of: the one most like it of those near its middle, if there is one."""
    if not len(faces):
        return None
    boxes = boxes_of(faces).astype(np.float64)
    (centre,), (side,) = centres_and_sides(box[None])
    near = np.abs(centres_and_sides(boxes)[0] - centre).max(axis=1) <= OFF_CENTRE * side
    overlap = np.where(near, intersection_over_union(boxes, box[None])[:, 0], 0)
    return faces[int(overlap.argmax())] if overlap.max() > 0 else None
