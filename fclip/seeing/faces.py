"""Analyse: parsing and landmarks of clips, short gaps filled, jitter smoothed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fclip.errors import ClipFailure
from fclip.faces.base import FaceBackend, analyze_clips
from fclip.faces.tracks import fill_gaps, smooth_track
from fclip.records import FaceTrack
from fclip.seeing.preparation import Analysis


def analyse_clips(
    backend: FaceBackend,
    clips: Sequence[np.ndarray],
    times: Sequence[np.ndarray],
    seen: Sequence[np.ndarray | None] | None = None,
    parsing: bool = True,
) -> list[FaceTrack | ClipFailure]:
    """What a back end finds in clips uint8 (T, H, W, 3); a ClipFailure in the place of one without any face.

    `seen`: of each clip what this back end saw in the frames that it was cut out of, or None; `parsing`: is it wanted?
    """
    found = analyze_clips(backend, clips, times, seen, parsing)
    return [
        track
        if isinstance(track, ClipFailure) or (track.confidence > 0).any()
        else ClipFailure(f"no face found in any of its {len(frames)} frames")
        for track, frames in zip(found, clips, strict=True)
    ]


def finish_track(track: FaceTrack, times: np.ndarray, analysis: Analysis) -> FaceTrack:
    """A found track as it is stored: gaps filled, then smoothed, over frames shown at times (T,) seconds."""
    return smooth_track(fill_gaps(track, analysis.max_gap), times, analysis.smooth)
