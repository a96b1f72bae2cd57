"""Which frames of a clip are used: pure functions from a frame count or a timeline to frame indices.

Test time takes the centres of T equal segments (Wang et al., TSN, as in DFER-CLIP's loader), training one random
frame per segment. Videos are sampled by time, so that variable frame rates are not distorted; for a constant frame
rate that is the same as sampling by index.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fclip.errors import UsageError

DEFAULT_FRAMES = 16
DEFAULT_CAP = 512
_JITTER_SECONDS = 0.002  # containers round time stamps to milliseconds


def segment_centres(total: int, frames: int) -> np.ndarray:
    """Indices (frames,) of the frames at the centres of `frames` equal segments of `total` frames.

    A clip with at most `frames` frames gives all of them, then repeats the last one (edge padding).
    """
    _check(total, frames)
    if total <= frames:
        return np.minimum(np.arange(frames), total - 1)
    tick = total / frames
    return (tick / 2 + tick * np.arange(frames)).astype(np.int64)


def random_per_segment(total: int, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (frames,), rising: one random frame of each of `frames` equal segments of `total` frames (training).

    The segments tile the whole clip (DFER-CLIP's loader never draws the last `total % frames` frames).
    A clip with at most `frames` frames is edge padded as in `segment_centres`.
    """
    _check(total, frames)
    if total <= frames:
        return segment_centres(total, frames)
    edges = np.arange(frames + 1) * total // frames
    return rng.integers(edges[:-1], edges[1:])


@dataclass(frozen=True)
class Timeline:
    """When each frame of a clip is shown: `times` (N,) rising seconds, the first 0; `end` when the last one ends."""

    times: np.ndarray
    end: float

    def __len__(self) -> int:
        return len(self.times)

    @property
    def fps(self) -> float:
        """Mean frame rate."""
        return len(self) / self.end

    @property
    def constant_rate(self) -> bool:
        """Whether all frames last equally long, up to the rounding of time stamps in containers."""
        if len(self) < 3:
            return True
        step = (self.times[-1] - self.times[0]) / (len(self) - 1)
        even = self.times[0] + step * np.arange(len(self))
        return float(np.abs(self.times - even).max()) <= min(_JITTER_SECONDS, step / 10)

    def between(self, start: float | None, end: float | None) -> tuple[int, int]:
        """Range [first, last) of the frames that begin in [start, end) seconds; if none does, the one shown then."""
        first = 0 if start is None else int(np.searchsorted(self.times, start - 1e-6))
        last = len(self) if end is None else int(np.searchsorted(self.times, end - 1e-6))
        if first < last:
            return first, last
        shown = int(np.searchsorted(self.times, start or 0.0, side="right")) - 1
        return shown, shown + 1

    def cut(self, first: int, last: int) -> Timeline:
        """The part of the timeline with frames [first, last), starting at 0 again."""
        end = self.end if last == len(self) else float(self.times[last])
        return Timeline(self.times[first:last] - self.times[first], end - float(self.times[first]))


def centres_in_time(timeline: Timeline, frames: int) -> np.ndarray:
    """Indices (frames,) of the frames shown at the centres of `frames` equal parts of the timeline's duration.

    Constant frame rate and clips with at most `frames` frames: exactly `segment_centres`.
    """
    total = len(timeline)
    if total <= frames or timeline.constant_rate:
        return segment_centres(total, frames)
    centres = (np.arange(frames) + 0.5) * (timeline.end / frames)
    shown = np.searchsorted(timeline.times, centres + 1e-6, side="right") - 1
    return np.clip(shown, 0, total - 1)


def random_in_time(timeline: Timeline, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (frames,), rising: the frame shown at a random time in each of `frames` equal parts of the duration.

    Constant frame rate and clips with at most `frames` frames: exactly `random_per_segment`.
    """
    total = len(timeline)
    if total <= frames or timeline.constant_rate:
        return random_per_segment(total, frames, rng)
    moments = (np.arange(frames) + rng.random(frames)) * (timeline.end / frames)
    return np.clip(np.searchsorted(timeline.times, moments, side="right") - 1, 0, total - 1)


@dataclass(frozen=True)
class SamplingPlan:
    """How many frames of a clip are kept: `frames` segment centres, or every frame (None) up to `cap`.

    With `frames=None` a clip of more than `cap` frames gives `cap` segment centres and a shorter one is not padded.
    """

    frames: int | None = DEFAULT_FRAMES
    cap: int = DEFAULT_CAP

    def __post_init__(self) -> None:
        if self.cap < 1 or (self.frames is not None and not 1 <= self.frames <= self.cap):
            raise UsageError(f"--frames {self.frames}: give a number from 1 to {self.cap}, or all")

    @classmethod
    def parse(cls, text: str | int, cap: int = DEFAULT_CAP) -> SamplingPlan:
        """Read the value of `--frames`: a number or "all"."""
        if str(text).strip().lower() == "all":
            return cls(None, cap)
        try:
            return cls(int(text), cap)
        except ValueError:
            raise UsageError(f"--frames {text}: give a number from 1 to {cap}, or all") from None

    def indices(self, timeline: Timeline) -> np.ndarray:
        """Frame indices (T,), rising, that this plan takes from a clip; repeats mean padding."""
        frames = min(len(timeline), self.cap) if self.frames is None else self.frames
        return centres_in_time(timeline, frames)


def _check(total: int, frames: int) -> None:
    if total < 1 or frames < 1:
        raise ValueError(f"cannot sample {frames} frames of {total}")
