"""The values that face analysis can have: what is no number, or lies far outside, is refused where it enters."""

from __future__ import annotations

import numpy as np

from fclip.errors import FclipError

RANGES = {  # generous: faces reach beyond the frame, coefficients beyond 1
    "landmarks": (-4.0, 5.0),  # of the frame's width and height
    "confidence": (0.0, 1.0),
    "blendshapes": (-1.0, 2.0),
    "pose": (-360.0, 360.0),  # degrees
}


def check_range(where: str, name: str, values: np.ndarray | None) -> None:
    """Raise FclipError, beginning with `where`, for NaN and values outside the range of this table, if it has one."""
    if values is None or name not in RANGES or not values.size:
        return
    low, high = RANGES[name]
    least, most = float(values.min()), float(values.max())  # NaN is the least and the most
    if not (low <= least and most <= high):
        found = "NaN" if np.isnan(least) else f"{least:g} to {most:g}"
        raise FclipError(f"{where}: {name} holds {found}, but can be {low:g} to {high:g}; run fclip face-analyze again")
