"""A face back end of one's own, without a package: python own_back_end.py clip.mp4.

It is `lite` with a box that is a third larger, so that more of the head is in the crop. As a package with an entry
point: examples/plugin, where a captioner and a variant of one's own are, too.
"""

import sys
from dataclasses import dataclass

import numpy as np

import fclip
from fclip.config import option
from fclip.faces.base import create_backend
from fclip.records import FaceTrack
from fclip.registry import FACE_BACKENDS, register


@dataclass(frozen=True)
class WideOptions:
    """Options of wide."""

    more: float = option(1 / 3, "by how much the box grows", output=True)


@register(WideOptions)
class WideBackend:
    """FaceBackend and FaceDetector around lite."""

    name = "wide"

    def __init__(self, options: WideOptions, device: str) -> None:
        self.more, self.inner = options.more, create_backend("lite", device)
        self.fingerprint = {**self.inner.fingerprint, "backend": self.name, "more": str(options.more)}

    def detect(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[np.ndarray]:
        """Boxes (n, 5) of each frame: x0, y0, x1, y1, score."""
        found = []
        for boxes in self.inner.detect(frames, times):
            grow = self.more / 2 * (boxes[:, 2:4] - boxes[:, :2])  # (n, 2)
            found.append(np.concatenate([boxes[:, :2] - grow, boxes[:, 2:4] + grow, boxes[:, 4:]], axis=1))
        return found

    def analyze(self, frames: np.ndarray, times: np.ndarray | None = None) -> FaceTrack:
        """The track of the main face."""
        return self.inner.analyze(frames, times)


FACE_BACKENDS.add("wide", WideBackend)
print(fclip.predict(sys.argv[1], crop="wide"))
