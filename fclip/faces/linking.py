"""Detections of single frames joined to tracks, one for each face and shot; scene cuts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fclip.faces.boxes import centres_and_sides, distinct, intersection_over_union

HISTOGRAM_CHANGE, BRIGHTNESS_CHANGE = 0.3, 13.0  # both are exceeded at a cut; a moving person or lamp passes one
MIN_AFFINITY = 0.05


@dataclass
class Track:
    """One face over the frames in which it was found: frame indices, boxes (x0, y0, x1, y1), scores, and which one of
    the frame's detections it is.

    `number` counts the faces of a Linker from 1.
    """

    shot: int
    indices: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    number: int = 0

    @property
    def weight(self) -> float:
        """Size times persistence: the sum over frames of side times score. The main face has the largest."""
        sides = centres_and_sides(np.stack(self.boxes))[1]
        return float((sides * np.array(self.scores)).sum())


Summary = tuple[np.ndarray, np.ndarray]  # colour histogram (512,) adding up to 1, grey thumbnail (16, 16)


def scene_cuts(frames: np.ndarray, before: Summary | None = None) -> np.ndarray:
    """True (T,) where a new shot begins: frames uint8 (T, H, W, 3); `before`: of the frame ahead, if there is one.

    A cut changes both the colours (histogram of 8 x 8 x 8 colours) and the picture (mean difference of 16 x 16
    thumbnails, 0 to 255) at once.
    """
    cuts = np.zeros(len(frames), bool)
    for index, frame in enumerate(frames):
        histogram, thumbnail = summary = summarise(frame)
        if before is not None:
            colours = np.abs(histogram - before[0]).sum() / 2
            picture = np.abs(thumbnail - before[1]).mean()
            cuts[index] = colours > HISTOGRAM_CHANGE and picture > BRIGHTNESS_CHANGE
        before = summary
    return cuts


def summarise(frame: np.ndarray) -> Summary:
    """What scene_cuts compares of a frame."""
    from PIL import Image

    small = Image.fromarray(frame).resize((64, 64), Image.Resampling.BOX)
    red, green, blue = (np.asarray(small).astype(np.int16) >> 5).reshape(-1, 3).T  # (4096,) each
    histogram = np.bincount(red << 6 | green << 3 | blue, minlength=512) / 4096
    thumbnail = np.asarray(small.convert("L").resize((16, 16), Image.Resampling.BOX), dtype=np.float64)
    return histogram, thumbnail


class Linker:
    """Joins detections of single frames, given one after another, to `tracks`, one for each face and shot.

    A face joins the track of its shot whose last box is the most alike. No gap is too long within a shot: a face that
    comes back where it left is the same face. The only face of a frame also continues the only face of the frame
    before, wherever it went. Boxes that overlap a better one of the same frame are taken for the same face.
    """

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.shot = 0
        self._count = 0

    def add(self, index: int, boxes: np.ndarray, cut: bool) -> None:
        """Take the detections (n, 5), box and score, of the frame `index`; `cut`: a new shot begins with it."""
        self.shot += bool(cut)
        boxes = np.asarray(boxes, np.float64).reshape(-1, 5)
        kept = distinct(boxes)
        boxes = boxes[kept]
        alive = [track for track in self.tracks if track.shot == self.shot]
        for row, track in _assign(alive, boxes):
            if track is None:
                self._count += 1
                track = Track(self.shot, number=self._count)
                self.tracks.append(track)
            track.indices.append(index)
            track.boxes.append(boxes[row, :4])
            track.scores.append(float(boxes[row, 4]))
            track.places.append(kept[row])

    def forget(self, before: int) -> None:
        """Let go of what was found before the frame `before`, but for each face's last place in this shot."""
        for track in self.tracks:
            old = min(sum(index < before for index in track.indices), len(track.indices) - 1)
            del track.indices[:old], track.boxes[:old], track.scores[:old], track.places[:old]
        self.tracks = [t for t in self.tracks if t.shot == self.shot or t.indices[-1] >= before]


def link(detections: list[np.ndarray], cuts: np.ndarray) -> list[Track]:
    """Join a clip's detections, one (n, 5) array a frame, by a Linker; the main face's track comes first."""
    linker = Linker()
    for index, boxes in enumerate(detections):
        linker.add(index, boxes, bool(cuts[index]))
    return sorted(linker.tracks, key=lambda track: -track.weight)


def _assign(tracks: list[Track], boxes: np.ndarray) -> list[tuple[int, Track | None]]:
    """For each box its track, best pairs first; None for a box that begins a new track."""
    pairs: list[tuple[int, Track | None]] = []
    free = set(range(len(boxes)))
    if tracks and len(boxes):
        affinity = _affinity(np.stack([track.boxes[-1] for track in tracks]), boxes)  # (tracks, n)
        while affinity.size and affinity.max() >= MIN_AFFINITY:
            which, row = np.unravel_index(affinity.argmax(), affinity.shape)
            pairs.append((int(row), tracks[which]))
            free.discard(int(row))
            affinity[which, :] = affinity[:, row] = -1
    if len(boxes) == 1 and free:
        last = max((track.indices[-1] for track in tracks), default=-1)
        latest = [track for track in tracks if track.indices[-1] == last]
        if len(latest) == 1:
            return [(0, latest[0])]
    return pairs + [(row, None) for row in sorted(free)]


def _affinity(last: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How likely boxes (n, 5) continue tracks whose last boxes are (m, 4): (m, n) in [0, 1].

    IoU where the boxes overlap well; otherwise up to 0.3 for a box of like size less than one side away, as sampled
    frames may lie far apart in time.
    """
    overlap = intersection_over_union(last, boxes)
    (old, old_side), (new, new_side) = centres_and_sides(last), centres_and_sides(boxes)
    side = np.minimum(old_side[:, None], new_side[None])
    distance = np.linalg.norm(old[:, None] - new[None], axis=-1) / np.maximum(side, 1e-6)
    like_size = side > 0.5 * np.maximum(old_side[:, None], new_side[None])
    return np.maximum(overlap, 0.3 * np.clip(1 - distance, 0, 1) * like_size)
