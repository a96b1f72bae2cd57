"""Finishing a face track: short gaps filled and marked, jitter smoothed without lag."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fclip.faces.landmarks import inter_ocular
from fclip.faces.smoothing import bilateral, seconds_or_default, short_gaps
from fclip.records import FaceTrack

JITTER = 0.02  # of the inter-ocular distance: movement below it is taken for jitter
SMOOTH_SECONDS = 0.08


def fill_gaps(track: FaceTrack, max_gap: int = 3) -> FaceTrack:
    """A copy in which runs of up to `max_gap` frames without a face, between frames with one, are filled.

    Landmarks, blendshapes, pose and signals are interpolated linearly, parsing is that of the nearer frame, confidence
    half of the lesser of both sides; `filled` marks these frames. All other frames without a face keep confidence 0.
    """
    filled = np.zeros(len(track.confidence), bool) if track.filled is None else track.filled.copy()
    result = replace(
        track,
        parsing=track.parsing.copy(),
        landmarks=track.landmarks.copy(),
        confidence=track.confidence.copy(),
        blendshapes=None if track.blendshapes is None else track.blendshapes.copy(),
        pose=None if track.pose is None else track.pose.copy(),
        signals=None if track.signals is None else track.signals.copy(),
        filled=filled,
    )
    for start, stop in short_gaps(track.confidence > 0, max_gap):
        before, after = start - 1, stop
        for index in range(start, stop):
            share = (index - before) / (after - before)
            for values in (result.landmarks, result.blendshapes, result.pose, result.signals):
                if values is not None:
                    values[index] = (1 - share) * values[before] + share * values[after]
            result.parsing[index] = track.parsing[before if share <= 0.5 else after]
        result.confidence[start:stop] = min(track.confidence[before], track.confidence[after]) / 2
        filled[start:stop] = True
    return result


def smooth_track(track: FaceTrack, times: np.ndarray | None = None, strength: float = 1.0) -> FaceTrack:
    """A copy with steadier landmarks, blendshapes and pose; fast movement stays where it is, without lag.

    Signals stay as they are.

    times: seconds (T,) or None for 25 frames a second. `strength` scales both the time looked at (0.08 s) and the
    movement taken for jitter (2 % of the inter-ocular distance, 0.05 of a blendshape, 2 degrees).
    """
    valid = track.confidence > 0
    if strength <= 0 or valid.sum() < 3:
        return track
    seconds = seconds_or_default(times, len(valid))
    scale = float(np.median(inter_ocular(track.landmarks[valid])))

    def steady(values: np.ndarray, jitter: float) -> np.ndarray:
        smooth = bilateral(values, seconds, strength * SMOOTH_SECONDS, max(strength * jitter, 1e-9), valid)
        return np.where(valid.reshape(-1, *[1] * (values.ndim - 1)), smooth, values).astype(np.float32)

    return replace(
        track,
        landmarks=steady(track.landmarks, JITTER * scale),
        blendshapes=None if track.blendshapes is None else steady(track.blendshapes[..., None], 0.05)[..., 0],
        pose=None if track.pose is None else steady(track.pose[..., None], 2.0)[..., 0],
    )
