"""What a face back end and a face detector are: two small protocols, and the helper that runs clips through one.

A back end of one's own is a class with `name`, `fingerprint` and `analyze`, marked with `fclip.registry.register` and
named in the entry-point group `fclip.face_backends`; one that also has `detect` can crop, and one that has `see` and
`analyze_seen` looks at each frame once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from fclip.config import option
from fclip.errors import ClipFailure, UsageError
from fclip.faces.seen import SeenFace
from fclip.faces.signals import with_signals
from fclip.records import FaceTrack
from fclip.registry import FACE_BACKENDS


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


@runtime_checkable
class SeeingBackend(FaceDetector, FaceBackend, Protocol):
    """A back end whose look at whole frames tells all that it knows of a face: it need not look at the crops again."""

    def see(self, frames: np.ndarray, times: np.ndarray | None = None) -> Sequence[Sequence[SeenFace]]:
        """All faces of each frame of a clip; as `detect`, whose boxes are theirs."""
        ...

    def analyze_seen(
        self, frames: np.ndarray, times: np.ndarray | None, seen: np.ndarray, parsing: bool = True
    ) -> FaceTrack:
        """Analyse the face of crops uint8 (T, S, S, 3) that was seen in the frames they were cut out of.

        `seen` (T, N) float32 are its rows (see fclip.faces.seen). A face that was seen is in the track; frames whose
        row is 0, and those whose row the back end finds too rough, are looked at. Without `parsing` it is left 0 where
        it costs something. Raises ClipFailure when no frame has a face, FclipError for rows of another back end.
        """
        ...


@dataclass(frozen=True)
class WeightsOptions:
    """Options of a back end whose weights may be replaced; their sha256 is in its fingerprint, not their place."""

    weights: Path | None = option(
        None, "weights file of the back end (facexformer: .safetensors made by fclip convert)"
    )


def create_backend(name: str, device: str = "cpu", **options: Any) -> FaceBackend:
    """Make the back end `name` with its own options.

    Raises UsageError for an unknown name or option, MissingExtra when its package is not installed and FclipError
    when its weights are missing or damaged.
    """
    thing = FACE_BACKENDS.find(name)
    return cast(FaceBackend, thing(FACE_BACKENDS.make_options(name, options), device))


def check_detector(name: str) -> None:
    """Raise UsageError unless the back end `name` can find faces in whole pictures; errors as create_backend."""
    if not hasattr(FACE_BACKENDS.find(name), "detect"):
        raise UsageError(f"face back end {name!r} cannot find faces in whole pictures; use lite or mediapipe")


def create_detector(name: str, device: str = "cpu", **options: Any) -> FaceDetector:
    """Make the face detector `name`, a back end that has `detect`. Errors as create_backend."""
    check_detector(name)
    return cast(FaceDetector, create_backend(name, device, **options))


def analyze_clips(
    backend: FaceBackend,
    clips: Sequence[np.ndarray],
    times: Sequence[np.ndarray | None] | None = None,
    seen: Sequence[np.ndarray | None] | None = None,
    parsing: bool = True,
) -> list[FaceTrack | ClipFailure]:
    """Analyse several clips, together where the back end can, and add their signals.

    `seen`: of each clip the rows that this back end handed on, or None; `parsing`: whether it is wanted. A clip that
    fails yields its ClipFailure in its place.
    """
    times = list(times) if times is not None else [None] * len(clips)
    handed = list(seen) if seen is not None and isinstance(backend, SeeingBackend) else [None] * len(clips)
    new = [place for place, rows in enumerate(handed) if rows is None]
    found = _analyze_each(backend, [clips[place] for place in new], [times[place] for place in new])
    by_place = dict(zip(new, found, strict=True))
    for place, rows in enumerate(handed):
        if rows is not None:
            by_place[place] = _recall(cast(SeeingBackend, backend), clips[place], times[place], rows, parsing)
    tracks = [by_place[place] for place in range(len(clips))]
    return [
        track if isinstance(track, ClipFailure) else with_signals(track, frames)
        for track, frames in zip(tracks, clips, strict=True)
    ]


def _recall(
    backend: SeeingBackend, frames: np.ndarray, times: np.ndarray | None, rows: np.ndarray, parsing: bool
) -> FaceTrack | ClipFailure:
    try:
        return backend.analyze_seen(frames, times, rows, parsing)
    except ClipFailure as failure:
        return failure


def _analyze_each(
    backend: FaceBackend, clips: Sequence[np.ndarray], times: Sequence[np.ndarray | None]
) -> list[FaceTrack | ClipFailure]:
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
