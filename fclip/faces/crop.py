"""Square crops of faces out of whole frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fclip.errors import ClipFailure

MAX_PIXELS = 1 << 26  # of one crop before it is scaled down


def crop_faces(frames: np.ndarray | Sequence[np.ndarray], boxes: np.ndarray, size: int) -> np.ndarray:
    """Cut boxes (T, 4) out of frames uint8 (T, H, W, 3), or T frames of any sizes, as uint8 (T, size, size, 3).

    Bicubic with antialiasing. Outside the frame its border pixels are repeated. Raises ClipFailure for boxes without
    extent, or so large or far away that they cannot be meant.
    """
    crops = [_crop(frame, box, size) for frame, box in zip(frames, np.asarray(boxes, np.float64), strict=True)]
    return np.stack(crops)


def _crop(frame: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    height, width = frame.shape[:2]
    if not np.isfinite(box).all() or (box[2:] <= box[:2]).any() or (box[2:] - box[:2]).prod() > MAX_PIXELS:
        raise ClipFailure(f"face box {[round(float(v), 1) for v in box]} is not one of a {width} x {height} frame")
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        columns, rows = np.arange(x0, x1).clip(0, width - 1), np.arange(y0, y1).clip(0, height - 1)
        frame = frame[rows[:, None], columns]
        box = box - (x0, y0, x0, y0)
    image = Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC, box=tuple(box))
    return np.asarray(image)
