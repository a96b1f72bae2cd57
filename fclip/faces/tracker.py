"""Where the faces of a video are over time: detections linked to tracks, short gaps filled, boxes steadied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fclip.errors import ClipFailure
from fclip.faces.base import FaceDetector, SeeingBackend, check_frames
from fclip.faces.boxes import MARGIN, centres_and_sides, squares, within
from fclip.faces.linking import Linker, Summary, Track, scene_cuts, summarise
from fclip.faces.seen import SeenFace, boxes_of
from fclip.faces.smoothing import bilateral, median_of_three, seconds_or_default, short_gaps

MAX_GAP = 3  # frames; longer gaps are not marked as filled and keep confidence 0


@dataclass(frozen=True)
class FaceBoxes:
    """Square crop boxes of one face over a clip.

    boxes (T, 4) float32: x0, y0, x1, y1 in pixels, parts of which may lie outside the frame; confidence (T,) float32:
    the detector's score, half of the lesser neighbour's where `filled`, 0 where the face is not seen (the box is then
    interpolated, or that of the nearest frame); filled (T,) bool: interpolated over a short gap; shot: the frames
    between the scene cuts around the face; face: the same number wherever this tracker sees the face in this shot;
    seen: what the detector knows of the face in each frame, None where it did not see it; empty if it hands on nothing.
    """

    boxes: np.ndarray
    confidence: np.ndarray
    filled: np.ndarray
    shot: slice
    face: int = 0
    seen: tuple[SeenFace | None, ...] = ()

    @property
    def span(self) -> slice:
        """The frames from the first to the last in which the face was found."""
        seen = np.flatnonzero(self.confidence)
        return slice(int(seen[0]), int(seen[-1]) + 1)


class FaceTracker:
    """Follows the faces of a video whose frames come a few at a time; each frame goes to the detector once.

    `count` frames were given so far. What `boxes` says of a frame rests on the frames around it that are known and
    not forgotten, so let some come after it before asking, and keep some before it. `inside` keeps the boxes within the
    picture, as far as the face fits in.
    """

    def __init__(
        self, detector: FaceDetector, margin: float = MARGIN, smooth: bool = True, inside: bool = False
    ) -> None:
        self.count = 0
        self._detector, self._margin, self._steady, self._inside = detector, margin, smooth, inside
        self._size = (0, 0)  # width, height
        self._linker = Linker()
        self._last: Summary | None = None
        self._start = 0  # the first frame that is not forgotten
        self._times: list[float] = []
        self._cuts: list[int] = []
        self._seen: dict[int, Sequence[SeenFace]] = {}

    def add(self, frames: np.ndarray, times: np.ndarray | None = None) -> None:
        """Look for faces in the next frames uint8 (n, H, W, 3), shown at times (n,), 25 a second where None."""
        check_frames(frames)
        first = self.count
        self.count += len(frames)
        self._size = (frames.shape[2], frames.shape[1])
        cuts = scene_cuts(frames, self._last)
        self._last = summarise(frames[-1])
        self._times += (np.arange(first, self.count) / 25 if times is None else np.asarray(times)).tolist()
        self._cuts += [first + int(row) for row in np.flatnonzero(cuts)]
        if isinstance(self._detector, SeeingBackend):
            seen = self._detector.see(frames, times)
            self._seen |= {first + row: faces for row, faces in enumerate(seen)}
            detections = [boxes_of(faces) for faces in seen]
        else:
            detections = self._detector.detect(frames, times)
        for row, boxes in enumerate(detections):
            self._linker.add(first + row, boxes, bool(cuts[row]))

    def forget(self, before: int) -> None:
        """Let go of what is known of the frames ahead of `before`."""
        self._linker.forget(before)
        self._cuts = [cut for cut in self._cuts if cut >= before]
        self._seen = {index: faces for index, faces in self._seen.items() if index >= before}
        del self._times[: max(0, before - self._start)]
        self._start = max(before, self._start)

    def boxes(self, first: int, last: int) -> list[FaceBoxes]:
        """Each face found in the frames from `first` up to `last`, one result for a face and shot, the main one first.

        The main face is the one with the largest size times persistence within these frames.
        """
        rows = slice(first, last)
        found = [(_part(track, rows), track) for track in self._linker.tracks]
        found = sorted([pair for pair in found if pair[0].indices], key=lambda pair: -pair[0].weight)
        edges = [0, *(cut - first for cut in self._cuts if first < cut < last), last - first]
        shots = [slice(*pair) for pair in pairwise(edges)]
        seconds = seconds_or_default(np.array(self._times), len(self._times))
        results = []
        for part, track in found:
            shot = next(shot for shot in shots if shot.start <= part.indices[0] - first < shot.stop)
            whole = self._whole(track, seconds)
            cut = slice(first - self._start, last - self._start)
            boxes, confidence, filled = (values[cut] for values in whole)
            faces = self._faces(track, first, last)
            results.append(FaceBoxes(boxes, confidence, filled, shot, track.number, faces))
        return results

    def _faces(self, track: Track, first: int, last: int) -> tuple[SeenFace | None, ...]:
        """What the detector knows of a track's face in the frames from `first` up to `last`."""
        if not self._seen:
            return ()
        places = dict(zip(track.indices, track.places, strict=True))
        return tuple(
            self._seen[index][places[index]] if index in places and index in self._seen else None
            for index in range(first, last)
        )

    def _whole(self, track: Track, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """boxes, confidence and filled, as in FaceBoxes, of all frames that are not forgotten."""
        known = [place for place, index in enumerate(track.indices) if index >= self._start]
        indices = np.array([track.indices[place] - self._start for place in known])
        centres, sides = centres_and_sides(np.stack([track.boxes[place] for place in known]))
        if self._steady:
            centres, sides = _smooth(centres, sides, seconds[indices])
        every = np.arange(len(seconds))
        centres = np.stack([np.interp(every, indices, centres[:, axis]) for axis in range(2)], axis=1)  # (T, 2)
        sides = np.interp(every, indices, sides)
        confidence = np.zeros(len(seconds), np.float32)
        confidence[indices] = [track.scores[place] for place in known]
        filled = np.zeros(len(seconds), bool)
        for start, stop in short_gaps(confidence > 0, MAX_GAP):
            filled[start:stop] = True
            confidence[start:stop] = min(confidence[start - 1], confidence[stop]) / 2
        boxes = squares(centres, self._margin * sides)
        if self._inside:
            boxes = within(boxes, sides, *self._size)
        return boxes.astype(np.float32), confidence, filled


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
    tracker = FaceTracker(detector, margin, smooth)
    tracker.add(frames, times)
    tracks = tracker.boxes(0, len(frames))
    if not tracks:
        raise ClipFailure(f"no face found in any of {len(frames)} frames")
    return tracks


def _part(track: Track, rows: slice) -> Track:
    """The part of a track in frames `rows`."""
    keep = [place for place, index in enumerate(track.indices) if rows.start <= index < rows.stop]
    return Track(
        track.shot,
        [track.indices[place] for place in keep],
        [track.boxes[place] for place in keep],
        [track.scores[place] for place in keep],
    )


def _smooth(centres: np.ndarray, sides: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres follow within about 0.1 s; sides change slowly, or an opening mouth would make the face zoom."""
    scale = float(np.median(sides))
    sides, centres = (median_of_three(values, seconds, within=0.2) for values in (sides, centres))
    sides = bilateral(sides[:, None], seconds, 0.6, 0.25 * scale)[:, 0]
    return bilateral(centres, seconds, 0.1, 0.08 * scale), sides
