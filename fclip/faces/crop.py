"""From whole frames to face crops: the boxes of a face over a clip, and the square crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fclip.errors import ClipFailure
from fclip.faces.base import FaceDetector, check_frames
from fclip.faces.boxes import MARGIN, centres_and_sides, squares
from fclip.faces.linking import Track, link, scene_cuts
from fclip.faces.smoothing import bilateral, median_of_three, seconds_or_default, short_gaps

MAX_GAP = 3  # frames; longer gaps are not marked as filled and keep confidence 0
MAX_PIXELS = 1 << 26  # of one crop before it is scaled down


@dataclass(frozen=True)
class FaceBoxes:
    """Square crop boxes of one face over a clip.

    boxes (T, 4) float32: x0, y0, x1, y1 in pixels, parts of which may lie outside the frame; confidence (T,) float32:
    the detector's score, half of the lesser neighbour's where `filled`, 0 where the face is not seen (the box is then
    interpolated, or that of the nearest frame); filled (T,) bool: interpolated over a short gap; shot: the frames
    between the scene cuts around the face.
    """

    boxes: np.ndarray
    confidence: np.ndarray
    filled: np.ndarray
    shot: slice

    @property
    def span(self) -> slice:
        """The frames from the first to the last in which the face was found."""
        seen = np.flatnonzero(self.confidence)
        return slice(int(seen[0]), int(seen[-1]) + 1)


def find_face_track(
    frames: np.ndarray, times: np.ndarray | None, detector: FaceDetector, margin: float = MARGIN, smooth: bool = True
) -> FaceBoxes:
    """Boxes of the clip's main face, that is the one with the largest size times persistence.

    frames uint8 (T, H, W, 3); times seconds (T,) or None. The square's side is `margin` times the larger extent of
    the face's landmarks. Raises ClipFailure when no frame has a face.
    """
    return find_face_tracks(frames, times, detector, margin, smooth)[0]


def find_face_tracks(
    frames: np.ndarray, times: np.ndarray | None, detector: FaceDetector, margin: float = MARGIN, smooth: bool = True
) -> list[FaceBoxes]:
    """Boxes of every face of a clip, one result for each face and shot, the main face first; as `find_face_track`."""
    check_frames(frames)
    cuts = scene_cuts(frames)
    tracks = link(detector.detect(frames, times), cuts)
    if not tracks:
        raise ClipFailure(f"no face found in any of {len(frames)} frames")
    seconds = seconds_or_default(times, len(frames))
    edges = [0, *np.flatnonzero(cuts).tolist(), len(frames)]
    shots = [slice(*pair) for pair in pairwise(edges)]
    return [_face_boxes(track, shots[track.shot], seconds, margin, smooth) for track in tracks]


def _face_boxes(track: Track, shot: slice, seconds: np.ndarray, margin: float, smooth: bool) -> FaceBoxes:
    count = len(seconds)
    indices = np.array(track.indices)
    centres, sides = centres_and_sides(np.stack(track.boxes))
    if smooth:
        centres, sides = _smooth(centres, sides, seconds[indices])
    every = np.arange(count)
    centres = np.stack([np.interp(every, indices, centres[:, axis]) for axis in range(2)], axis=1)  # (T, 2)
    sides = np.interp(every, indices, sides)
    confidence = np.zeros(count, np.float32)
    confidence[indices] = track.scores
    filled = np.zeros(count, bool)
    for start, stop in short_gaps(confidence > 0, MAX_GAP):
        filled[start:stop] = True
        confidence[start:stop] = min(confidence[start - 1], confidence[stop]) / 2
    return FaceBoxes(squares(centres, margin * sides).astype(np.float32), confidence, filled, shot)


def _smooth(centres: np.ndarray, sides: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres follow within about 0.1 s; sides change slowly, or an opening mouth would make the face zoom."""
    scale = float(np.median(sides))
    sides, centres = (median_of_three(values, seconds, within=0.2) for values in (sides, centres))
    sides = bilateral(sides[:, None], seconds, 0.6, 0.25 * scale)[:, 0]
    return bilateral(centres, seconds, 0.1, 0.08 * scale), sides


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
