"""The bundled back end with its landmarks replaced by their running median: steadier, and slower to follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import median_filter

from fclip.config import option
from fclip.faces.base import create_backend
from fclip.records import FaceTrack
from fclip.registry import register


@dataclass(frozen=True)
class MedianOptions:
    """Options of median."""

    span: int = option(3, "frames of the running median", output=True)


@register(MedianOptions)
class MedianBackend:
    """FaceBackend and, as it has `detect`, FaceDetector."""

    name = "median"

    def __init__(self, options: MedianOptions, device: str) -> None:
        self.span, self.inner = options.span, create_backend("lite", device)
        self.fingerprint = {**self.inner.fingerprint, "backend": self.name, "span": str(self.span)}

    def detect(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[np.ndarray]:
        """Boxes of all faces, as FaceDetector says."""
        detector: Any = self.inner
        return detector.detect(frames, times)

    def analyze(self, frames: np.ndarray, times: np.ndarray | None = None) -> FaceTrack:
        """The track of the main face, as FaceBackend says."""
        track = self.inner.analyze(frames, times)
        return replace(track, landmarks=median_filter(track.landmarks, size=(self.span, 1, 1)))  # (T, 68, 2)
