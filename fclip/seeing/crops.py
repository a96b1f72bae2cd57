"""From a source to face crops: sample frames, find the faces, read each face's own stretch of time, crop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from fclip.data.media.sampling import SamplingPlan
    from fclip.data.media.video import DecodedClip
    from fclip.faces.base import FaceDetector
    from fclip.faces.crop import FaceBoxes

MIN_SEEN = 8  # a face other than the main one counts if it is seen in one of so many frames


@dataclass
class FaceClip:
    """One face of a source: crops uint8 (T, S, S, 3) of the frames of `clip`, whose whole pictures are let go.

    boxes (T, 4) in pixels of the source's frames and confidence (T,), as in FaceBoxes; `track`: which face it is
    (`number` of `of`, the main one first), and from when to when it was seen, in seconds.
    """

    clip: DecodedClip
    crops: np.ndarray
    boxes: np.ndarray
    confidence: np.ndarray
    track: dict[str, Any]


def face_clips(
    source: Path, plan: SamplingPlan, detector: FaceDetector, margin: float, size: int, every_face: bool = False
) -> Iterator[FaceClip]:
    """Yield the main face of a source, or every face with `every_face`; raises ClipFailure if there is none.

    The main face's clip covers its shot, another face's the time in which it is seen. Where that is not the whole
    source, frames are sampled anew from that time, and boxes are interpolated between those of the first sampling.
    """
    from fclip.data.media.video import read_clip
    from fclip.faces.crop import find_face_tracks

    whole = read_clip(source, plan)
    least = max(1, len(whole.frames) // MIN_SEEN)
    tracks = find_face_tracks(whole.frames, whole.times, detector, margin)
    tracks = [track for track in tracks if track is tracks[0] or (track.confidence > 0).sum() >= least]
    alone = len(tracks) == 1 or not every_face
    for number, track in enumerate(tracks[:1] if alone else tracks, start=1):
        seen = {"from": round(float(whole.times[track.span][0]), 4), "to": round(float(whole.times[track.span][-1]), 4)}
        row = {"number": number, "of": len(tracks), **seen}
        yield _cut_out(source, plan, whole, track, track.shot if alone else track.span, size, row)


def _cut_out(
    source: Path,
    plan: SamplingPlan,
    whole: DecodedClip,
    track: FaceBoxes,
    stretch: slice,
    size: int,
    row: dict[str, Any],
) -> FaceClip:
    """Crop one face out of the frames of a stretch of the first sampling."""
    import numpy as np

    from fclip.data.media.video import read_clip
    from fclip.faces.crop import crop_faces

    if stretch == slice(0, len(whole.frames)):
        clip, boxes, confidence = whole, track.boxes, track.confidence
    else:
        times = whole.times[stretch]
        clip = read_clip(source, plan, float(times[0]), float(times[-1]) + 1e-3)
        boxes = np.stack([np.interp(clip.times, times, side) for side in track.boxes[stretch].T], axis=1)  # (T, 4)
        confidence = np.interp(clip.times, times, track.confidence[stretch])
    return FaceClip(clip, crop_faces(clip.frames, boxes, size), boxes, confidence, row)
