"""A video of any length as samples: windows, the faces in them, each frame read, searched and analysed once.

The video is decoded once, front to back, and its faces are followed through it; a window's sample is read from that.
Held are the frames of the open window and of half a window ahead, on which the faces' boxes rest too. A video no longer
than a window gives the very sample that the stages make of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fclip.captions.base import CaptionInput
from fclip.data.media.images import Size, bounded_size, source_pixels
from fclip.data.media.video import DecodedClip, FrameSource, open_source, read_part
from fclip.data.media.windows import Window, plan_windows
from fclip.data.storage.packed import PackedSample, shrink_parsing
from fclip.data.storage.strips import decode_strip, encode_strip
from fclip.errors import ClipFailure
from fclip.faces.base import FaceBackend, FaceDetector
from fclip.faces.crop import crop_faces
from fclip.faces.seen import rows_in_crops
from fclip.faces.tracker import FaceBoxes, FaceTracker
from fclip.records import FaceTrack
from fclip.seeing.captions import Describer
from fclip.seeing.crops import chosen_faces, cut_out, read_stretch, rounded
from fclip.seeing.faces import analyse_clips, finish_track
from fclip.seeing.preparation import Analysis, Cropping

PIECE = 4  # large frames read at once
BEHIND = 24  # frames before a window that the boxes in it still rest on


@dataclass
class FaceWindow:
    """One face over one window: seconds, its `sample`, and where it was: boxes (n, 4) in pixels at times (n,).

    `face` is the tracker's number, 1 without a detector (the whole frame, no boxes); 0, and `error` says why, where
    there is no sample.
    """

    start: float
    end: float
    face: int = 0
    sample: PackedSample | None = None
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    error: str = ""


@dataclass
class _Look:
    """What is known of a face in some frames, by `rows` of the video: stored frames, analysis, boxes."""

    rows: np.ndarray
    frames: np.ndarray
    small: np.ndarray
    track: FaceTrack | None
    boxes: np.ndarray

    def take(self, places: np.ndarray) -> _Look:
        """Some of the frames, by place or mask."""
        track = self.track.take(places) if self.track is not None else None
        frames = self.frames[places]
        small = frames if self.small is self.frames else self.small[places]
        return _Look(self.rows[places], frames, small, track, self.boxes[places])

    def joined(self, other: _Look) -> _Look:
        """These frames, then those of `other`."""
        track = self.track.joined(other.track, len(other.rows)) if self.track is not None else None
        frames = np.concatenate([self.frames, other.frames])
        small = frames if self.small is self.frames else np.concatenate([self.small, other.small])
        rows, boxes = np.concatenate([self.rows, other.rows]), np.concatenate([self.boxes, other.boxes])
        return _Look(rows, frames, small, track, boxes)


class SampleMaker:
    """Makes samples of sources, as the stages do: crops, film strip, face analysis, caption.

    detector None: the frames are face crops as they are. faces: back end for parsing and landmarks, None to leave them
    out. describer: for captions. size: side that a model wants, as in parse_packed. parsing: whether it is wanted.
    """

    def __init__(
        self,
        cropping: Cropping,
        detector: FaceDetector | None = None,
        faces: FaceBackend | None = None,
        analysis: Analysis | None = None,
        describer: Describer | None = None,
        size: int | None = None,
        parsing: bool = True,
    ) -> None:
        self.parsing = parsing
        self.cropping, self.detector, self.faces, self.describer, self.size = cropping, detector, faces, describer, size
        self.analysis = analysis or Analysis(faces.name if faces else "")

    def windows(self, source: Path, window: float, stride: float, every_face: bool = False) -> Iterator[FaceWindow]:
        """Yield the windows of a source in order, in each its main face or, with `every_face`, all of them.

        Raises ClipFailure for what cannot be read at all.
        """
        with closing(_Frames(source, self.cropping, window, stride, self.detector)) as frames:
            looks: dict[int, _Look] = {}
            for stretch in frames.windows():
                try:
                    found = list(self._faces(frames, stretch, looks, every_face))
                except ClipFailure as failure:
                    yield FaceWindow(stretch.start, stretch.end, error=str(failure))
                    continue
                yield from found
                last = stretch.rows[-1]
                looks = {face: look for face, look in looks.items() if look.rows[-1] >= last - len(stretch.rows)}

    def _faces(
        self, frames: _Frames, window: Window, looks: dict[int, _Look], every_face: bool
    ) -> Iterator[FaceWindow]:
        """The faces of one window; `looks` keeps what was seen of each in the windows before."""
        first, last = int(window.rows[0]), int(window.rows[-1]) + 1
        if frames.tracker is None:
            yield self._window(window, 1, self._look_on(frames, window.rows, None, looks, 1), frames, window.end)
            return
        chosen = chosen_faces(frames.tracker.boxes(first, last), last - first, every_face)
        for face, stretch in chosen:
            if stretch == slice(0, last - first):
                look = self._look_on(frames, window.rows, face, looks, face.face)
                yield self._window(window, face.face, look, frames, window.end)
            else:  # seen for a part of the window: that part is read anew, in as many frames
                times = frames.times[first:last]
                clip = read_stretch(frames.part, times[stretch])
                assert self.detector is not None
                part = cut_out(clip, face, times, stretch, self.cropping.size, {}, self.detector)
                look = self._look(part.crops, part.times, np.arange(len(part.times)), part.boxes, part.seen)
                yield self._window(window, face.face, look, frames, part.end, part.times)

    def _look_on(
        self, frames: _Frames, rows: np.ndarray, face: FaceBoxes | None, looks: dict[int, _Look], number: int
    ) -> _Look:
        """A face in the frames `rows`: what is known from the window before, and a look at the others."""
        old = looks.get(number)
        distinct, places, again = np.unique(rows, return_index=True, return_inverse=True)
        known = np.isin(distinct, old.rows) if old is not None else np.zeros(len(distinct), bool)
        if old is None or not known.any():
            look = self._look_at(frames, rows, face, int(rows[0]))  # repeats too, as in the stages' film strip
            looks[number] = look.take(places)
            return look
        look = old.take(np.isin(old.rows, distinct))
        if not known.all():
            look = look.joined(self._look_at(frames, distinct[~known], face, int(rows[0])))
        looks[number] = look
        return look.take(again)

    def _look_at(self, frames: _Frames, rows: np.ndarray, face: FaceBoxes | None, first: int) -> _Look:
        pictures = [frames.held[row] for row in rows.tolist()]
        times = frames.times[rows]
        if face is None:
            return self._look(np.stack(pictures), times, rows)
        boxes, size = face.boxes[rows - first], self.cropping.size
        seen = rows_in_crops([face.seen[row - first] for row in rows], boxes, size) if face.seen else None
        return self._look(crop_faces(pictures, boxes, size), times, rows, boxes, seen)

    def _look(
        self,
        crops: np.ndarray,
        times: np.ndarray,
        rows: np.ndarray,
        boxes: np.ndarray | None = None,
        seen: np.ndarray | None = None,
    ) -> _Look:
        """Store crops (n, S, S, 3) as a film strip, read it, and analyse the face, from what the detector saw of it
        where that is the same back end."""
        count, height, width, _ = crops.shape
        strip = encode_strip(crops, self.cropping.quality)
        frames = decode_strip(strip, count, height, width)
        shrinks = self.size is not None and min(height, width) >= 2 * self.size
        small = decode_strip(strip, count, height, width, self.size) if shrinks else frames
        track = None
        if self.faces is not None:
            same = self.detector is not None and self.detector.fingerprint == self.faces.fingerprint
            found = analyse_clips(self.faces, [frames], [rounded(times)], [seen if same else None], self.parsing)[0]
            track = None if isinstance(found, ClipFailure) else found
        return _Look(rows, frames, small, track, np.zeros((count, 0)) if boxes is None else boxes)

    def _window(
        self, window: Window, face: int, look: _Look, frames: _Frames, end: float, times: np.ndarray | None = None
    ) -> FaceWindow:
        """Finish the sample of a face in a window; a window without a face in its crops says so."""
        times = frames.times[look.rows] if times is None else times
        result = FaceWindow(window.start, window.end, face, None, times, frames.in_source(look.boxes))
        info = {"label": "", "times": rounded(times).tolist(), "end": round(float(end), 4)}
        sample = PackedSample("window", look.small, info)
        if self.faces is not None:
            if look.track is None:
                error = f"no face found in any of its {len(times)} frames by {self.faces.name}"
                return FaceWindow(window.start, window.end, error=error)
            track = finish_track(look.track, rounded(times), self.analysis)
            sample.parsing = shrink_parsing(track.parsing, look.small.shape[1]) if self.parsing else None
            sample.landmarks, sample.signals = track.landmarks, track.signals
            info["confidence"] = [round(float(value), 4) for value in track.confidence]
            info["signal_names"] = list(track.signal_names)
            if self.describer is not None:
                clip = CaptionInput("window", look.frames, rounded(times), track, info)
                sample.caption = self.describer.describe(clip)
        result.sample = sample
        return result


def _held_at_once(windows: Sequence[Window]) -> int:
    """The most frames that are in memory: those of a window and, where more follow, of half a one ahead."""
    spans = [int(window.rows[-1] - window.rows[0]) + 1 for window in windows]
    return len(windows[0].rows) if len(windows) == 1 else max(spans) * 3 // 2 + PIECE


class _Frames:
    """The frames of a video that its windows show, read in order: `held` {row: frame}, `times` (rows,) seconds."""

    def __init__(
        self, source: Path, cropping: Cropping, window: float, stride: float, detector: FaceDetector | None
    ) -> None:
        self._source, self._cropping = source, cropping
        self._video = open_source(source)
        self._again: FrameSource | None = None
        self._indices, self._windows = plan_windows(self._video.timeline, cropping.plan, window, stride)
        self._size: Size = (cropping.size, cropping.size)
        if detector:
            self._size = bounded_size(self._video.extent, _held_at_once(self._windows))
        self._piece = PIECE if isinstance(self._size, int) else len(self._indices)
        self._shape: tuple[int, ...] = ()
        self._stream = self._video.frames(self._indices.tolist(), self._size)
        self.tracker = FaceTracker(detector, cropping.margin, inside=cropping.inside) if detector else None
        self.held: dict[int, np.ndarray] = {}
        self.times = np.zeros(0)

    def close(self) -> None:
        """Close the video."""
        self._video.close()
        if self._again is not None:
            self._again.close()

    def windows(self) -> Iterator[Window]:
        """Yield the windows with their frames held; a damaged end repeats the last frame that can be decoded."""
        for number, window in enumerate(self._windows):
            first, last = int(window.rows[0]), int(window.rows[-1]) + 1
            ahead = (last - first) // 2 if number + 1 < len(self._windows) and self.tracker else 0
            self.held = {row: frame for row, frame in self.held.items() if row >= first}
            self._read(min(last + ahead, len(self._indices)))
            if first >= len(self.times):
                if number == 0:
                    raise ClipFailure(f"{self._source}: no frame could be decoded")
                return
            if self.tracker is not None:
                self.tracker.forget(first - BEHIND)
            yield Window(window.start, window.end, np.minimum(window.rows, len(self.times) - 1))

    def part(self, start: float, end: float) -> DecodedClip:
        """The frames that the plan takes of a part of the video, read anew."""
        if self._again is None:
            self._again = open_source(self._source)
        return read_part(self._again, self._source, self._cropping.plan, start, end, self._size)

    def in_source(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes in the frames held, in pixels of the source."""
        return boxes * source_pixels(self._video.extent, self._shape) if isinstance(self._size, int) else boxes

    def _read(self, last: int) -> None:
        """Read the frames up to row `last` and show them to the tracker, large ones a few at a time."""
        for stop in range(min(len(self.times) + self._piece, last), last + self._piece, self._piece):
            self._read_piece(min(stop, last))

    def _read_piece(self, last: int) -> None:
        first = len(self.times)
        times = []
        frames: np.ndarray | None = None
        for place, (_, seconds, picture) in zip(range(last - first), self._stream, strict=False):
            if frames is None:
                frames = np.empty((last - first, *picture.shape), np.uint8)
            frames[place] = picture
            times.append(seconds)
        if frames is None:
            return
        frames = frames[: len(times)]
        self._shape = frames.shape[1:]
        self.times = np.concatenate([self.times, times])
        self.held |= {first + place: frame for place, frame in enumerate(frames)}
        if self.tracker is not None:
            self.tracker.add(frames, np.array(times))
