"""Decoding for the tests of this folder: PyAV and Pillow, nothing of fclip."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image


def decode(path: Path, every: int = 1, start: int = 0, stop: int = 10**9) -> tuple[np.ndarray, np.ndarray]:
    """Frames start, start + every ... of a video: uint8 (T, H, W, 3) and their times in seconds (T,)."""
    frames, times = [], []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= stop:
                break
            if index >= start and (index - start) % every == 0:
                frames.append(frame.to_ndarray(format="rgb24"))
                times.append(float(frame.time))
    return np.stack(frames), np.array(times)


def picture(path: Path) -> np.ndarray:
    """An image file as a clip of one frame, uint8 (1, H, W, 3)."""
    return np.asarray(Image.open(path).convert("RGB"))[None]
