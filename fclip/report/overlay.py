"""Drawing a prediction into a video frame: face box, 68 landmarks, bars of the class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_PANEL = 150  # width of the bar panel in pixels at the smallest


def draw_prediction(
    frame: np.ndarray,
    classes: Sequence[str],
    probabilities: np.ndarray,
    landmarks: np.ndarray | None = None,
    box: np.ndarray | None = None,
) -> np.ndarray:
    """Return the frame with a panel of bars to its right.

    frame (H, W, 3) uint8; probabilities (C,); landmarks (68, 2) in pixels; box (4,) x0 y0 x1 y1 in pixels.
    """
    from PIL import Image, ImageDraw

    height, width = frame.shape[:2]
    panel = max(_PANEL, width // 3)
    picture = Image.new("RGB", (width + panel, max(height, 14 * len(classes) + 8)), (24, 24, 28))
    picture.paste(Image.fromarray(frame), (0, 0))
    draw = ImageDraw.Draw(picture)
    if box is not None:
        draw.rectangle([float(v) for v in box], outline=(80, 220, 120), width=max(1, width // 320))
    if landmarks is not None:
        radius = max(0.8, width / 500)
        for x, y in landmarks:
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(255, 210, 70))
    row = picture.height / (len(classes) + 0.5)
    best = int(np.argmax(probabilities))
    for index, (name, value) in enumerate(zip(classes, probabilities, strict=True)):
        top = 4 + index * row
        colour = (80, 200, 120) if index == best else (95, 110, 150)
        draw.rectangle([width + 6, top, width + 6 + float(value) * (panel - 12), top + row - 4], fill=colour)
        draw.text((width + 9, top + row / 2 - 8), f"{name} {100 * float(value):.0f}%", fill=(245, 245, 245))
    return np.asarray(picture)
