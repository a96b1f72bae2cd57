"""The bundled face back end `lite`: finds faces, 68 landmarks and the 11-class parsing with two small networks.

It needs no extra package and no download. Where frames follow each other closely, the finder looks at some of them
only and the faces are followed in between; resources/weights.json says how far it can be trusted on real faces. What is
seen in whole frames is handed on (`analyze_seen`), so that the crops are read for the parsing alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fclip.errors import ClipFailure
from fclip.faces.base import WeightsOptions, check_frames
from fclip.faces.boxes import centres_and_sides, distinct, intersection_over_union
from fclip.faces.landmarks import landmark_box
from fclip.faces.linking import Track, link, scene_cuts
from fclip.faces.lite.crops import Area, as_input, crop, letterbox, paste_parsing, peaks, reader_area, to_frame
from fclip.faces.lite.network import FINDER_GRID, FINDER_SIZE, load_lite
from fclip.faces.seen import boxes_of, split_rows
from fclip.files import sha256_file
from fclip.records import LANDMARKS, FaceTrack
from fclip.registry import register

WEIGHTS = Path(__file__).parent.parent.parent / "resources" / "lite.safetensors"
FOUND = 0.9  # least presence that counts as a face; under it lie pictures without one, over it the faces of training
CHUNK = 32  # frames or crops that go through a network at once
FOLLOWED = 0.25  # seconds between two looks of the finder; a face moves little in them
SAME_FACE, IN_PLACE = 0.3, 0.6  # least IoU of a face's boxes in two looks, and of where it was expected and is


@dataclass
class Reading:
    """What the reader says about one square: landmarks (68, 2) in pixels, presence and parsing logits."""

    area: Area
    landmarks: np.ndarray
    presence: float
    logits: Tensor

    @property
    def box(self) -> np.ndarray:
        """Extent of the landmarks."""
        return landmark_box(self.landmarks)


@dataclass
class LocatedFace:
    """A face of a frame: landmarks (68, 2) in pixels and the reader's probability that it is one."""

    landmarks: np.ndarray
    score: float

    @property
    def box(self) -> np.ndarray:
        """Extent of the landmarks."""
        return landmark_box(self.landmarks)

    @property
    def points(self) -> np.ndarray:
        """The landmarks."""
        return self.landmarks

    @property
    def numbers(self) -> np.ndarray:
        """The score."""
        return np.array([self.score])


@register(WeightsOptions)
class LiteBackend:
    """FaceBackend and FaceDetector in plain torch. `weights` replaces the bundled file (same format)."""

    name = "lite"

    def __init__(self, options: WeightsOptions = WeightsOptions(), device: str = "cpu") -> None:
        path = options.weights or WEIGHTS
        self.device = torch.device(device)
        self.networks = load_lite(path).to(self.device).to(memory_format=torch.channels_last)
        self.fingerprint = {"backend": self.name, "weights": sha256_file(path), "version": "3"}

    def detect(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[np.ndarray]:
        """Boxes of all faces, as FaceDetector says; a box may reach beyond the frame.

        The score is the reader's probability that the place shows a face; those under FOUND are left out. A face
        that is there for less than FOLLOWED seconds may be missed.
        """
        return [boxes_of(faces) for faces in self.see(frames, times)]

    @torch.inference_mode()
    def see(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[list[LocatedFace]]:
        """All faces of each frame with their landmarks; see `detect`."""
        looks = looked_at(check_frames(frames), times)
        found = dict(zip(looks, self._search_well(frames, looks), strict=True))
        expected: dict[int, np.ndarray] = {}
        lost: list[int] = []
        for first, last in pairwise(looks):
            ends = boxes_of(found[first]), boxes_of(found[last])
            for index in range(first + 1, last):
                boxes = between(*ends, (index - first) / (last - first))
                if boxes is None:
                    lost.append(index)
                else:
                    expected[index] = boxes
        wanted = [(index, box) for index, boxes in expected.items() for box in boxes]
        for (index, box), face in zip(wanted, self._locate(frames, wanted), strict=True):
            found.setdefault(index, []).append(face)
            if face.score < FOUND or not in_place(box, face.box):
                lost.append(index)
        lost = sorted(set(lost))
        found |= dict(zip(lost, self._search_well(frames, lost), strict=True))
        return [found.get(index, []) for index in range(len(frames))]

    @torch.inference_mode()
    def analyze_seen(
        self, frames: np.ndarray, times: np.ndarray | None, seen: np.ndarray, parsing: bool = True
    ) -> FaceTrack:
        """Landmarks as they were seen in the frames that the crops `frames` were cut out of, as SeeingBackend says.

        The reader looks at the crops for the parsing alone, the finder at frames without the face.
        """
        rows = split_rows(seen, len(check_frames(frames)), (LANDMARKS, 2), 1)
        faces = [None if row is None else LocatedFace(row[0], float(row[1][0])) for row in rows]
        missing = [index for index, face in enumerate(faces) if face is None]
        for index, found in zip(missing, self._search_well(frames, missing), strict=True):
            faces[index] = max(found, key=lambda face: float(np.ptp(face.landmarks, axis=0).max()), default=None)
        known = {index: face for index, face in enumerate(faces) if face is not None}
        if not known:
            raise ClipFailure(f"no face found in any of {len(frames)} frames")
        readings = self._read(frames, {index: face.box for index, face in known.items()}) if parsing else {}
        track = self._track(frames.shape[:3], readings)
        for index, face in known.items():
            track.confidence[index] = face.score
            track.landmarks[index] = face.landmarks / frames.shape[2:0:-1]
        return track

    @torch.inference_mode()
    def analyze(self, frames: np.ndarray, times: np.ndarray | None = None) -> FaceTrack:
        """Parsing and landmarks of the clip's main face, as FaceBackend says.

        The main face is, in each shot, the one largest for longest.
        """
        cuts = scene_cuts(check_frames(frames))
        looks = looked_at(frames, times, cuts)
        boxes = [np.empty((0, 5))] * len(frames)
        for index, found in zip(looks, self._search(frames, looks), strict=True):
            boxes[index] = boxes_of(found)
        main: dict[int, Track] = {}
        for candidate in link(boxes, cuts):
            main.setdefault(candidate.shot, candidate)
        if not main:
            raise ClipFailure(f"no face found in any of {len(frames)} frames")
        shots = np.cumsum(cuts)
        expected = {i: box for track in main.values() for i, box in follow(track, looks, shots).items()}
        return self._track(frames.shape[:3], self._read_all(frames, expected))

    def _track(self, shape: tuple[int, ...], readings: dict[int, Reading]) -> FaceTrack:
        """The readings of a clip of `shape` (T, H, W) as its track."""
        count, height, width = shape
        track = FaceTrack(
            np.zeros((count, height, width), np.uint8),
            np.zeros((count, LANDMARKS, 2), np.float32),
            np.zeros(count, np.float32),
        )
        for index, reading in readings.items():
            track.confidence[index] = reading.presence
            track.landmarks[index] = reading.landmarks / (width, height)
            paste_parsing(track.parsing[index], reading.logits, reading.area)
        return track

    def _read_all(self, frames: np.ndarray, expected: dict[int, np.ndarray]) -> dict[int, Reading]:
        """Readings of the faces expected in boxes (4,), by frame; where one is elsewhere, it is read again there, and
        where it is lost, the finder looks for it.
        """
        readings = self._read(frames, expected)
        lost = [index for index, reading in readings.items() if reading.presence < FOUND]
        again = {
            index: reading.box
            for index, reading in readings.items()
            if reading.presence >= FOUND and not in_place(expected[index], reading.box)
        }
        for index, found in zip(lost, self._search(frames, lost), strict=True):
            boxes = boxes_of(found)
            if len(boxes):
                distance = np.linalg.norm(
                    centres_and_sides(boxes)[0] - centres_and_sides(expected[index][None])[0], axis=1
                )
                again[index] = boxes[distance.argmin(), :4]
        readings |= self._read(frames, again)
        return {index: reading for index, reading in readings.items() if reading.presence >= FOUND}

    def _read(self, frames: np.ndarray, expected: dict[int, np.ndarray]) -> dict[int, Reading]:
        """The reader's full answer for a box (4,) of each frame."""
        readings: dict[int, Reading] = {}
        for chunk, images in self._crops(frames, list(expected.items())):
            landmarks, logits, presence = (part.cpu() for part in self.networks.reader(images))
            for row, (index, area) in enumerate(chunk):
                points = to_frame(landmarks[row], area)
                score = float(presence[row].sigmoid())
                readings[index] = Reading(area, points, score, logits[row])
        return readings

    def _locate(self, frames: np.ndarray, wanted: list[tuple[int, np.ndarray]]) -> list[LocatedFace]:
        """The face in each place, given as frame index and box (4,)."""
        located = []
        for chunk, images in self._crops(frames, wanted):
            landmarks, presence = (part.cpu() for part in self.networks.reader.locate(images))
            for (_, area), points, score in zip(chunk, landmarks, presence.sigmoid().tolist(), strict=True):
                located.append(LocatedFace(to_frame(points, area), score))
        return located

    def _search(self, frames: np.ndarray, looks: list[int]) -> list[list[LocatedFace]]:
        """All faces in the frames at `looks`, found without knowing where they were.

        A frame in which nothing is found is searched again at twice the size, for faces half as large.
        """
        found: dict[int, list[LocatedFace]] = {index: [] for index in looks}
        for size in (FINDER_SIZE, 2 * FINDER_SIZE):
            places = self._places(frames, [index for index in looks if not found[index]], size)
            for (index, _), face in zip(places, self._locate(frames, places), strict=True):
                if face.score >= FOUND:
                    found[index].append(face)
        return [[found[index][row] for row in distinct(boxes_of(found[index]))] for index in looks]

    def _search_well(self, frames: np.ndarray, looks: list[int]) -> list[list[LocatedFace]]:
        """As `_search`, the reader looking twice: the finder's place is rough, and it sees best in the middle."""
        found = self._search(frames, looks)
        once = [(index, face.box) for index, faces in zip(looks, found, strict=True) for face in faces]
        again = iter(self._locate(frames, once))
        return [[better(face, next(again)) for face in faces] for faces in found]

    def _places(self, frames: np.ndarray, looks: list[int], size: int) -> list[tuple[int, np.ndarray]]:
        """Where faces may be, by the finder at `size` pixels: frame index and box (4,)."""
        places = []
        pixels_per_cell = max(frames.shape[1:3]) / size * (FINDER_SIZE // FINDER_GRID)
        for start in range(0, len(looks), CHUNK):
            chunk = looks[start : start + CHUNK]
            maps = self.networks.finder(letterbox(frames[chunk], size, self.device)).cpu()
            for index, one in zip(chunk, maps, strict=True):
                for centre, side in zip(*peaks(one), strict=True):
                    middle, half = centre * pixels_per_cell, side * pixels_per_cell / 2
                    places.append((index, np.concatenate([middle - half, middle + half])))
        return places

    def _crops(
        self, frames: np.ndarray, wanted: list[tuple[int, np.ndarray]]
    ) -> Iterator[tuple[list[tuple[int, Area]], Tensor]]:
        """The reader's input (N, 3, 96, 96) for boxes, given as (frame index, box), with its squares."""
        for start in range(0, len(wanted), CHUNK):
            chunk = []
            for index, box in wanted[start : start + CHUNK]:
                centres, sides = centres_and_sides(box[None])
                chunk.append((index, reader_area(centres[0], float(sides[0]))))
            yield chunk, as_input(torch.stack([crop(frames[index], area) for index, area in chunk]), self.device)


def looked_at(frames: np.ndarray, times: np.ndarray | None, cuts: np.ndarray | None = None) -> list[int]:
    """The frames that the finder looks at: one every FOLLOWED seconds, the last, and the first and last of a shot."""
    count = len(frames)
    step = 0.04 if times is None or count < 2 else float(np.median(np.diff(times)))
    stride = int(np.clip(FOLLOWED / step, 1, count)) if np.isfinite(step) and step > 0 else 1
    edges = np.flatnonzero(cuts) if cuts is not None else np.empty(0, int)
    return sorted({*range(0, count, stride), count - 1, *edges.tolist(), *(edges - 1).tolist()})


def between(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray | None:
    """Boxes (n, 4) of the faces of two looks (n, 5) in a frame between them; None if they are not the same faces."""
    if len(first) != len(last):
        return None
    if not len(first):
        return np.empty((0, 4))
    overlap = intersection_over_union(first, last)
    partner = overlap.argmax(1)
    if len(set(partner.tolist())) < len(first) or overlap.max(1).min() < SAME_FACE:
        return None
    return (1 - share) * first[:, :4] + share * last[partner, :4]


def follow(track: Track, looks: list[int], shots: np.ndarray) -> dict[int, np.ndarray]:
    """Where a face found in some of the looks may be in the frames of its shot: frame index -> box (4,).

    Between two looks its box moves evenly; from the first and the last that found it the box is kept up to the next
    look that did not.
    """
    missed = set(looks) - set(track.indices)
    low = max((look for look in missed if look < track.indices[0]), default=-1) + 1
    high = min((look for look in missed if look > track.indices[-1]), default=len(shots))
    frames = [index for index in range(low, high) if shots[index] == track.shot and index not in missed]
    boxes = np.stack(track.boxes)
    moved = [np.interp(frames, track.indices, boxes[:, corner]) for corner in range(4)]
    return dict(zip(frames, np.stack(moved, axis=1), strict=True))


def in_place(expected: np.ndarray, seen: np.ndarray) -> bool:
    """Whether a face lies so near to where it was looked for that the reader saw it well: boxes (4,)."""
    return bool(intersection_over_union(expected[None], seen[None])[0, 0] >= IN_PLACE)


def better(first: LocatedFace, second: LocatedFace) -> LocatedFace:
    """The second look at a face, unless it has lost it."""
    return second if second.score >= FOUND and in_place(first.box, second.box) else first
