"""What a face back end and a face detector are: two small protocols, and the helper that runs clips through one.

A back end of one's own is a class with `name`, `fingerprint` and `analyze`, named in the entry-point group
`fclip.face_backends`; see registry.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from fclip.errors import ClipFailure
from fclip.records import FaceTrack


@runtime_checkable
class FaceDetector(Protocol):
    """Finds faces. A face's box is the extent of its 68 landmarks: brows to chin, jaw to jaw, no margin."""

    name: str
    fingerprint: dict[str, str]

    def detect(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[np.ndarray]:
        """Find all faces of a clip.

        frames uint8 (T, H, W, 3) RGB; times seconds (T,), rising, or None for 25 frames a second. Returns for each
        frame (n, 5) float32: x0, y0, x1, y1 in pixels and a score in [0, 1]; n may be 0 and order means nothing.
        The result depends on this clip alone, never on what the detector has seen before.
        """
        ...


@runtime_checkable
class FaceBackend(Protocol):
    """Parses a face and finds its landmarks.

    `name` is the registry's; `fingerprint` (weights' sha256, versions, settings) is written into every cache, so
    that a cache made with other weights is noticed.
    """

    name: str
    fingerprint: dict[str, str]

    def analyze(self, frames: np.ndarray, times: np.ndarray | None = None) -> FaceTrack:
        """Analyse the main face of a clip: frames uint8 (T, H, W, 3) RGB, times seconds (T,) or None for 25 a second.

        A frame without a face has confidence 0, parsing 0 and landmarks 0. Raises ClipFailure when no frame has one.
        The result depends on this clip alone, never on what the back end has seen before.
        """
        ...


@runtime_checkable
class BatchFaceBackend(FaceBackend, Protocol):
    """A back end that gains by seeing several clips at once (a network on a GPU)."""

    def analyze_many(
        self, clips: Sequence[np.ndarray], times: Sequence[np.ndarray | None]
    ) -> list[FaceTrack | ClipFailure]:
        """Analyse several clips (T may differ); a clip that fails yields its ClipFailure in its place."""
        ...


def analyze_clips(
    backend: FaceBackend, clips: Sequence[np.ndarray], times: Sequence[np.ndarray | None] | None = None
) -> list[FaceTrack | ClipFailure]:
    """Analyse several clips, together where the back end can; a clip that fails yields its ClipFailure in its place."""
    times = list(times) if times is not None else [None] * len(clips)
    if isinstance(backend, BatchFaceBackend):
        return backend.analyze_many(clips, times)
    results: list[FaceTrack | ClipFailure] = []
    for frames, seconds in zip(clips, times, strict=True):
        try:
            results.append(backend.analyze(frames, seconds))
        except ClipFailure as failure:
            results.append(failure)
    return results


def check_frames(frames: np.ndarray) -> np.ndarray:
    """Return `frames` if they are uint8 (T, H, W, 3) with T, H, W > 0; else raise ClipFailure saying what they are."""
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        shape, dtype = getattr(frames, "shape", None), getattr(frames, "dtype", type(frames).__name__)
        raise ClipFailure(f"frames must be uint8 of shape (T, H, W, 3), not {dtype} {shape}")
    if 0 in frames.shape:
        raise ClipFailure(f"clip has no pixels: frames have shape {frames.shape}")
    return frames


def milliseconds(times: np.ndarray | None, count: int) -> list[int]:
    """Timestamps in whole milliseconds, strictly rising, from seconds (T,) or, when None, at 25 frames a second.

    Video files repeat or reverse timestamps now and then; such a frame is put 1 ms after the one before it.
    """
    if times is None:
        return [40 * index for index in range(count)]
    stamps: list[int] = []
    for second in np.nan_to_num(np.asarray(times, dtype=np.float64)[:count]):
        stamp = round(1000 * float(np.clip(second, 0, 1e9)))
        stamps.append(max(stamp, stamps[-1] + 1) if stamps else stamp)
    return stamps
