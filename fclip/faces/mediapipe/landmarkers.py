"""MediaPipe's library: its landmarkers for pictures and videos, kept open, and quiet on stderr."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  see Landmarkers
import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np

from fclip.errors import FclipError

MOST_FACES = 5

log = logging.getLogger(__name__)


@cache
def library() -> Any:
    """The mediapipe package, tasks loaded; a system library that it lacks is said in one line."""
    try:
        import mediapipe
        from mediapipe.tasks.python import vision  # noqa: F401
    except (ImportError, OSError) as error:
        raise FclipError(f"mediapipe cannot be loaded ({error}); it needs the libraries libGL and libEGL") from error
    return mediapipe


def picture(pixels: np.ndarray) -> Any:
    """Pixels uint8 (H, W, 3) as the library takes them."""
    module = library()
    return module.Image(image_format=module.ImageFormat.SRGB, data=np.ascontiguousarray(pixels))


class Landmarkers:
    """The library's landmarkers for pictures and for videos, made when first needed and kept: making one takes as long
    as looking at two frames."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self._made: dict[str, Any] = {}
        self._clock = 0  # milliseconds: the library wants rising times over all clips
        finalize(self, _close, self._made)
        # the library closes through a thread pool, which is gone before atexit's turn: a destructor would fail then;
        # what is registered here later than the pool's own end (at its import) is called before it
        threading._register_atexit(_close, self._made)  # type: ignore[attr-defined]

    @property
    def image(self) -> Any:
        """The landmarker for single pictures."""
        return self._get("IMAGE")

    def follow(self, frames: np.ndarray, stamps: Sequence[int]) -> list[Any]:
        """The library's results for the frames of a clip, shown at `stamps` milliseconds."""
        video = self._get("VIDEO")
        try:
            start = self._clock - stamps[0]
            times = (start + stamp for stamp in stamps)
            found = [video.detect_for_video(picture(f), time) for f, time in zip(frames, times, strict=True)]
            empty = picture(np.zeros((16, 16, 3), np.uint8))
            for step in (1, 2):  # at the first it still looks where the faces were
                video.detect_for_video(empty, start + stamps[-1] + step)
        except BaseException:
            self.close()  # it would go on from the middle of this clip
            raise
        self._clock = start + stamps[-1] + 3
        return found

    def close(self) -> None:
        """Close them."""
        _close(self._made)

    def _get(self, mode: str) -> Any:
        if mode not in self._made:
            self._made[mode] = _make(self.model, mode)
        return self._made[mode]


def _close(landmarkers: dict[str, Any]) -> None:
    while landmarkers:
        landmarkers.popitem()[1].close()


def _make(model: Path, mode: str) -> Any:
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)),
        running_mode=vision.RunningMode[mode],
        num_faces=MOST_FACES,  # of one face alone it smooths the points over time, and remembers that over clips
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    try:
        with _quiet():
            return vision.FaceLandmarker.create_from_options(options)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FclipError(f"{model}: not a usable face landmarker model ({reason})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Send what the library's C++ code writes to file descriptor 2 to the log, at level DEBUG."""
    _flush_stderr()
    try:
        keep = os.dup(2)
    except OSError:  # no stderr
        yield
        return
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            _flush_stderr()
            os.dup2(keep, 2)
            os.close(keep)
            sink.seek(0)
            if text := sink.read().decode(errors="replace").strip():
                log.debug("mediapipe: %s", text)


def _flush_stderr() -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):  # none, broken or closed
        sys.stderr.flush()
