"""Windows over a video of any length: when each begins and ends, and which frames it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fclip.data.media.sampling import SamplingPlan, Timeline
from fclip.errors import FclipError


@dataclass(frozen=True)
class Window:
    """Seconds from `start` to `end` of a video; `rows` (N,): which of the frames taken from the video it shows."""

    start: float
    end: float
    rows: np.ndarray


def window_bounds(duration: float, window: float, stride: float) -> list[tuple[float, float]]:
    """Windows of `window` seconds every `stride` seconds; the last one ends with the video, so that all is covered.

    A video shorter than a window is one window.
    """
    if not (window > 0 and stride > 0):
        raise FclipError(f"window {window:g} s, stride {stride:g} s: both must be above 0")
    if duration <= window:
        return [(0.0, duration)]
    count = int((duration - window) / stride + 1e-9) + 1
    bounds = [(index * stride, index * stride + window) for index in range(count)]
    if duration - bounds[-1][1] > 1e-6 * duration:
        bounds.append((duration - window, duration))
    return bounds


def plan_windows(
    timeline: Timeline, plan: SamplingPlan, window: float, stride: float
) -> tuple[np.ndarray, list[Window]]:
    """Indices (R,), rising, of the frames to take from a video, and its windows, whose rows count in these.

    A window takes of its stretch what `plan` takes of a clip, N frames. Where that is not every frame, the windows of
    a longer video share one grid of times, window / N seconds apart, so that windows that overlap show the same frames;
    a window that begins between two of its times moves by at most half a step.
    """
    bounds = window_bounds(timeline.end, window, stride)
    taken = [_taken(timeline, plan, start, end, alone=len(bounds) == 1) for start, end in bounds]
    indices = np.unique(np.concatenate(taken))
    windows = [Window(*pair, np.searchsorted(indices, of)) for pair, of in zip(bounds, taken, strict=True)]
    return indices, windows


def _taken(timeline: Timeline, plan: SamplingPlan, start: float, end: float, alone: bool) -> np.ndarray:
    """Frame indices (N,) that one window takes, repeats where it has fewer frames than the plan asks for."""
    first, last = timeline.between(None if alone else start, None if alone else end)
    indices = first + plan.indices(timeline.cut(first, last))
    count = len(indices)
    if alone or last - first <= count:
        return indices
    step = (end - start) / count
    moments = (round(start / step) + np.arange(count) + 0.5) * step
    return np.clip(np.searchsorted(timeline.times, moments + 1e-6, side="right") - 1, 0, len(timeline) - 1)
