"""Values over time: short gaps, and smoothing that removes jitter and lets fast movement pass without lag.

The filter is bilateral: neighbours count by how near they are in time and in value. It looks both ways, so it has
no lag, and a step larger than the jitter is left where it is.
"""

from __future__ import annotations

import numpy as np

MAX_REACH = 50  # frames to each side that are looked at, at most


def bilateral(
    values: np.ndarray,
    seconds: np.ndarray,
    sigma_time: float,
    sigma_value: float | np.ndarray,
    valid: np.ndarray | None = None,
) -> np.ndarray:
    """Smooth `values` (T, ..., D) over time; a value is a vector of the last axis.

    seconds (T,) rising; sigma_time in seconds; sigma_value in the values' unit, a number or one for each frame (T,);
    only frames where `valid` (T,) count or change.
    """
    count = len(values)
    values = np.asarray(values, dtype=np.float64)
    valid = np.ones(count, bool) if valid is None else valid
    sigma = np.broadcast_to(np.asarray(sigma_value, np.float64), (count,)).reshape(-1, *[1] * (values.ndim - 2))
    total, weight = values.copy(), np.ones(values.shape[:-1])
    for step in range(1, min(MAX_REACH, count - 1) + 1):
        gap = seconds[step:] - seconds[:-step]  # (T - step,)
        near = np.exp(-0.5 * (gap / sigma_time) ** 2) * (valid[step:] & valid[:-step])
        if near.max(initial=0) < 1e-3 and gap.min() > 3 * sigma_time:
            break
        near = near.reshape(-1, *[1] * (values.ndim - 2))  # (T - step, 1...)
        early, late = slice(None, -step), slice(step, None)
        squared = ((values[late] - values[early]) ** 2).sum(-1)  # (T - step, ...)
        for mine, other in ((early, late), (late, early)):
            share = near * np.exp(-0.5 * squared / sigma[mine] ** 2)
            total[mine] += share[..., None] * values[other]
            weight[mine] += share
    return total / weight[..., None]


def median_of_three(values: np.ndarray, seconds: np.ndarray, within: float) -> np.ndarray:
    """Median of each value (T, ...) and its two neighbours in time: single outliers vanish; the ends stay.

    Where the neighbours are more than `within` seconds apart the value stays, as the face may well have moved.
    """
    if len(values) < 3:
        return values
    middle = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    near = (seconds[2:] - seconds[:-2] <= within).reshape(-1, *[1] * (values.ndim - 1))
    return np.concatenate([values[:1], np.where(near, middle, values[1:-1]), values[-1:]])


def seconds_or_default(times: np.ndarray | None, count: int) -> np.ndarray:
    """Times in seconds (T,), rising (equal or reversed ones are taken 1 ms apart); 25 frames a second for None."""
    if times is None:
        return np.arange(count) / 25
    steps = np.maximum(np.diff(np.nan_to_num(np.asarray(times, np.float64))[:count]), 1e-3)
    return np.concatenate([[0.0], np.cumsum(steps)])


def short_gaps(found: np.ndarray, max_gap: int) -> list[tuple[int, int]]:
    """Runs [start, stop) of at most `max_gap` frames that are not `found` (T,) between frames that are."""
    seen = np.flatnonzero(found)
    return [(int(a) + 1, int(b)) for a, b in zip(seen, seen[1:], strict=False) if 1 < b - a <= max_gap + 1]
