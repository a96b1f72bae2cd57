"""Read and crop: sample frames of a source, find the faces, read each face's own stretch of time, cut it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fclip.data.media.images import Size, bounded_size, source_pixels
from fclip.data.media.video import DecodedClip, Segment, open_source, read_part
from fclip.errors import ClipFailure
from fclip.faces.base import FaceDetector, SeeingBackend
from fclip.faces.crop import crop_faces
from fclip.faces.seen import in_the_middle, rows_in_crops
from fclip.faces.tracker import FaceBoxes, FaceTracker
from fclip.seeing.preparation import Cropping

MIN_SEEN = 8  # a face other than the main one counts if it is seen in one of so many frames


@dataclass
class FaceClip:
    """One face of a source: crops uint8 (T, S, S, 3), shown at times (T,) seconds; `end`: when the clip ends.

    boxes (T, 4) in pixels of the source's frames and confidence (T,), as in FaceBoxes; `track`: which face it is
    (`number` of `of`, the main one first), and from when to when it was seen, in seconds; `seen` (T, N): what the
    detector knows of it in the crops (see fclip.faces.seen). Without a detector the crop is the whole frame and there
    are no boxes.
    """

    crops: np.ndarray
    times: np.ndarray
    end: float
    fps: float
    truncated: bool
    boxes: np.ndarray | None = None
    confidence: np.ndarray | None = None
    seen: np.ndarray | None = None
    track: dict[str, Any] | None = None

    def facts(self) -> dict[str, Any]:
        """What a sample's json says about it."""
        return {
            "fps": round(float(self.fps), 3),
            "times": rounded(self.times).tolist(),
            "end": round(float(self.end), 4),
            "crop_boxes": None if self.boxes is None else [[round(float(v), 2) for v in box] for box in self.boxes],
            "crop_confidence": None if self.confidence is None else [round(float(c), 3) for c in self.confidence],
            "truncated": bool(self.truncated),
        }


def rounded(times: np.ndarray) -> np.ndarray:
    """Seconds as samples keep them: four digits."""
    return np.array([round(float(time), 4) for time in times])


def face_clips(
    source: Path | Segment, cropping: Cropping, detector: FaceDetector | None, every_face: bool = False
) -> Iterator[FaceClip]:
    """Yield the main face of a source, or every face with `every_face`; raises ClipFailure if there is none.

    The main face's clip covers its shot, another face's the time in which it is seen. Where that is not the whole
    source, frames are sampled anew from that time, and boxes are interpolated between those of the first sampling.
    """
    video = open_source(source)
    try:
        size: Size = (cropping.size, cropping.size)
        if detector:
            size = bounded_size(video.extent, len(cropping.plan.indices(video.timeline)))
        whole = read_part(video, source, cropping.plan, size=size)
        if detector is None:
            yield FaceClip(whole.frames, whole.times, whole.end, whole.fps, whole.truncated)
            return
        times, places = np.unique(whole.times, return_index=True)  # a short clip repeats its last frame
        tracker = FaceTracker(detector, cropping.margin, inside=cropping.inside)
        tracker.add(whole.frames if len(times) == len(whole.times) else whole.frames[places], times)
        faces = chosen_faces(tracker.boxes(0, len(times)), len(times), every_face)
        for number, (face, stretch) in enumerate(faces, start=1):
            seen = [round(float(time), 4) for time in times[face.span]]
            track = {"number": number, "of": len(faces), "from": seen[0], "to": seen[-1]}
            clip = whole
            if stretch != slice(0, len(times)):
                again = partial(read_part, video, source, cropping.plan, size=size)
                clip = read_stretch(again, times[stretch])
            found = cut_out(clip, face, times, stretch, cropping.size, track, detector)
            if size is not None and found.boxes is not None:
                found.boxes = found.boxes * source_pixels(video.extent, clip.frames.shape[1:])
            yield found
    finally:
        video.close()


def chosen_faces(faces: Sequence[FaceBoxes], count: int, every_face: bool) -> list[tuple[FaceBoxes, slice]]:
    """The faces of `count` frames to take, the main one first, each with its stretch of the frames.

    The main face alone is taken over its shot, of several faces each from when to when it is seen; ClipFailure if
    there is none.
    """
    if not faces:
        raise ClipFailure(f"no face found in any of {count} frames")
    least = max(1, count // MIN_SEEN)
    faces = [face for face in faces if face is faces[0] or (face.confidence > 0).sum() >= least]
    if len(faces) == 1 or not every_face:
        return [(faces[0], faces[0].shot)]
    return [(face, face.span) for face in faces]


def read_stretch(read: Callable[[float, float], DecodedClip], times: np.ndarray) -> DecodedClip:
    """A clip of its own from the first to the last of some frames' times."""
    return read(float(times[0]), float(times[-1]) + 1e-3)


def cut_out(
    clip: DecodedClip,
    face: FaceBoxes,
    times: np.ndarray,
    stretch: slice,
    size: int,
    track: dict[str, Any],
    detector: FaceDetector,
) -> FaceClip:
    """Crop one face out of a clip of its stretch; `times` are those of the frames that the face's boxes belong to."""
    own, boxes, confidence = times[stretch], face.boxes[stretch], face.confidence[stretch]
    faces = dict(zip(own.tolist(), face.seen[stretch], strict=True)) if face.seen else {}
    if len(clip.times) != len(own) or (clip.times != own).any():
        boxes = np.stack([np.interp(clip.times, own, side) for side in boxes.T], axis=1)  # (T, 4)
        confidence = np.interp(clip.times, own, confidence)
    crops = crop_faces(clip.frames, boxes, size)
    if isinstance(detector, SeeingBackend) and not faces.keys() >= set(clip.times.tolist()):  # sampled anew
        shown, rows = np.unique(clip.times, return_index=True)
        looks = zip(detector.see(clip.frames[rows], shown), boxes[rows], strict=True)
        faces = dict(zip(shown.tolist(), (in_the_middle(look, box) for look, box in looks), strict=True))
    seen = rows_in_crops([faces.get(time) for time in clip.times.tolist()], boxes, size)
    return FaceClip(crops, clip.times, clip.end, clip.fps, clip.truncated, boxes, confidence, seen, track)
