"""The face back end `mediapipe`: MediaPipe's Face Landmarker on the CPU. Needs `pip install 'fclip[mediapipe]'`.

A clip is looked at in VIDEO mode, so that tracking follows its own timestamps; an empty picture after it makes the
landmarker forget its faces, so that nothing is carried from one clip to the next. Frames too far apart for tracking
are taken one by one, in IMAGE mode: on real clips tracking over such steps moves points by up to a fifth of the
inter-ocular distance. A single picture, which has no other frame to average with, is looked at twice. Frames in which
it finds no face are searched again, see `_search_again`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from fclip.catalogue import require
from fclip.errors import ClipFailure, FclipError
from fclip.faces.base import WeightsOptions, check_frames, milliseconds
from fclip.faces.boxes import centres_and_sides, intersection_over_union, without_doubles
from fclip.faces.landmarks import landmark_box
from fclip.faces.linking import link, scene_cuts
from fclip.faces.mediapipe.landmarkers import Landmarkers, library, picture
from fclip.faces.mediapipe.mesh import MESH_POINTS, matrix_to_pose, mesh_to_landmarks, mesh_to_parsing
from fclip.faces.seen import boxes_of, split_rows
from fclip.files import resource_json, sha256_file
from fclip.records import BLENDSHAPES, LANDMARKS, FaceTrack
from fclip.registry import register

TRACKING_STEP = 0.25  # seconds; above it a face has moved too far to look for it where it was
BORDER = 0.5  # of the longer side, added on each side around a crop that is too tight for the detector
STILL_BORDER = 0.15  # the same for the first look at a single picture
SAME_FACE = 0.5  # IoU of a face's boxes in a picture and its mirror image, at least
NEARBY = 3.0  # side of the square searched around a face seen in another frame, in face sizes
VIEW_ANGLE = 63.0  # degrees, of the camera that the library supposes, from the top of a picture to its bottom
TURNED = 0.21  # degrees that a face seems turned for each degree that it lies off the middle; measured on eight clips
SMALL = 0.2  # share of a picture under which a face is looked at again, in its crop: points lie 2 % and more of the
# inter-ocular distance off, where between two looks at crops it is 0.9 %
TILE = 0.75  # side of a tile / shorter side of the frame, for small faces


@dataclass(frozen=True)
class MeshFace:
    """All that is known of one face: mesh (478, 3) in pixels of the frame (x, y, and depth in pixels, away from the
    camera), blendshapes (52,), pose (3,) in degrees; `centred`: the pose as it would be in the middle of the picture it
    was seen in; `share`: its size / longer side of that picture."""

    mesh: np.ndarray
    blendshapes: np.ndarray
    pose: np.ndarray
    centred: np.ndarray
    share: float

    score = 1.0  # MediaPipe gives none

    @property
    def box(self) -> np.ndarray:
        """Extent of the 68 landmarks, (4,) in pixels."""
        return landmark_box(mesh_to_landmarks(self.mesh))

    @property
    def points(self) -> np.ndarray:
        """The mesh."""
        return self.mesh

    @property
    def numbers(self) -> np.ndarray:
        """Blendshapes, pose as in the middle of a crop, and share."""
        return np.concatenate([self.blendshapes, self.centred, [self.share]])


@register(WeightsOptions, cpu_only=True)
class MediaPipeBackend:
    """FaceBackend and FaceDetector. Runs on the CPU whatever `device` says; `weights` replaces the model file."""

    name = "mediapipe"

    def __init__(self, options: WeightsOptions = WeightsOptions(), device: str = "cpu") -> None:
        module = library()
        if options.weights is not None and not options.weights.is_file():
            raise FclipError(f"{options.weights}: no such model file for the back end mediapipe")
        self.model = options.weights or require("mediapipe")
        self.fingerprint = {
            "backend": self.name,
            "weights": sha256_file(self.model),
            "library": module.__version__,
            "version": "4",
        }
        self._landmarkers = Landmarkers(self.model)

    def close(self) -> None:
        """Release the landmarkers; they are made again when they are needed."""
        self._landmarkers.close()

    def detect(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[np.ndarray]:
        """Boxes of all faces, five at most, as FaceDetector says. MediaPipe gives no score, so each has 1."""
        return [boxes_of(faces) for faces in self.see(frames, times)]

    def analyze(self, frames: np.ndarray, times: np.ndarray | None = None) -> FaceTrack:
        """Parsing without hair, landmarks, blendshapes, pose and mesh of the clip's main face, as FaceBackend says.

        The main face is, in each shot, the one largest for longest. Confidence is 1 where it was found, as MediaPipe
        gives no score; landmarks may lie outside of [0, 1] where the frame cuts the face.
        """
        found = self.see(frames, times)
        main: list[MeshFace | None] = [None] * len(frames)
        shots: set[int] = set()
        for track in link([boxes_of(faces) for faces in found], scene_cuts(frames)):
            if track.shot not in shots:
                shots.add(track.shot)
                for index, box in zip(track.indices, track.boxes, strict=True):
                    main[index] = min(found[index], key=lambda face: float(np.abs(face.box - box).sum()))
        return track_of(main, frames)

    def analyze_seen(
        self, frames: np.ndarray, times: np.ndarray | None, seen: np.ndarray, parsing: bool = True
    ) -> FaceTrack:
        """The same from what was seen in the frames that the crops `frames` were cut out of, as SeeingBackend says.

        The mesh is that of the whole frame, moved. The network runs on the frames without one, and on those where the
        face was small (see SMALL): what it finds there takes the place of what was handed on.
        """
        faces = [
            None if row is None else _recalled(*row)
            for row in split_rows(seen, len(check_frames(frames)), (MESH_POINTS, 3), BLENDSHAPES + 4)
        ]
        again = [place for place, face in enumerate(faces) if face is None or face.share < SMALL]
        looks = self.see(frames[again], None if times is None else times[again]) if again else []
        for place, look in zip(again, looks, strict=True):
            faces[place] = _the_same(faces[place], look)
        return track_of(faces, frames, parsing)

    def see(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[list[MeshFace]]:
        """All faces of each frame: one pass over the clip, then another look at the frames that seem to have none."""
        frames = np.ascontiguousarray(check_frames(frames))
        if len(frames) > 1 and (frames[1:] == frames[0]).all():  # a single picture, shown for the length of a clip
            (faces,) = self.see(frames[:1])
            return [list(faces) for _ in frames]
        stamps = milliseconds(times, len(frames))
        landmarker = self._landmarkers.image
        if len(frames) == 1:
            found = [_look_twice(landmarker, frames[0])]
        elif np.median(np.diff(stamps)) > 1000 * TRACKING_STEP:
            found = [_look(landmarker, frame, (0, 0)) for frame in frames]
        else:
            results = self._landmarkers.follow(frames, stamps)
            found = [_faces(result, frames.shape[1:], (0, 0)) for result in results]
        if not all(found):
            _search_again(landmarker, frames, found)
        return found


def track_of(faces: Sequence[MeshFace | None], frames: np.ndarray, parsing: bool = True) -> FaceTrack:
    """The track of one face, None where it was not found, over frames uint8 (T, H, W, 3); ClipFailure without any."""
    count, height, width = frames.shape[:3]
    track = FaceTrack(
        parsing=np.zeros((count, height, width), np.uint8),
        landmarks=np.zeros((count, LANDMARKS, 2), np.float32),
        confidence=np.zeros(count, np.float32),
        blendshapes=(blendshapes := np.zeros((count, BLENDSHAPES), np.float32)),
        pose=(pose := np.zeros((count, 3), np.float32)),
        mesh=(mesh := np.zeros((count, MESH_POINTS, 3), np.float32)),
    )
    for index, face in enumerate(faces):
        if face is not None:
            if parsing:
                track.parsing[index] = mesh_to_parsing(face.mesh, height, width)
            track.landmarks[index] = mesh_to_landmarks(face.mesh) / (width, height)
            track.confidence[index] = 1
            blendshapes[index], pose[index] = face.blendshapes, face.pose
            mesh[index] = face.mesh / (width, height, width)
    if not track.confidence.any():
        raise ClipFailure(f"no face found in any of {count} frames")
    return track


def _look_twice(landmarker: Any, picture: np.ndarray) -> list[MeshFace]:
    """Faces of a single picture: means over it, with a narrow border, and its mirror image.

    Half of what differs between two looks is chance: on labelled real pictures, a classifier of blendshapes and mesh
    goes from 48.5 to 52.6 % UAR. The border is for faces that fill the picture.
    """
    faces = _look_with_border(landmarker, picture, STILL_BORDER)
    others = [
        mirrored_face(face, picture.shape[1]) for face in _look_with_border(landmarker, picture[:, ::-1], STILL_BORDER)
    ]
    if not faces or not others:
        return faces or others
    overlap = intersection_over_union(np.stack([f.box for f in faces]), np.stack([f.box for f in others]))
    return [
        _mean(face, others[row.argmax()]) if row.max() > SAME_FACE else face
        for face, row in zip(faces, overlap, strict=True)
    ]


def mirrored_face(face: MeshFace, width: int) -> MeshFace:
    """A face of the mirrored picture, or of the picture seen in a mirror, `width` pixels wide."""
    mesh = face.mesh[resource_json("mediapipe68.json")["mirror"]] * (-1, 1, 1) + (width, 0, 0)
    flip = np.array([1, -1, -1], np.float32)
    return MeshFace(mesh, face.blendshapes[_mirrored_shapes()], face.pose * flip, face.centred * flip, face.share)


@cache
def _mirrored_shapes() -> np.ndarray:
    """Index of each blendshape's counterpart on the other side of the face."""
    names = resource_json("captions/blendshapes.json")
    other = {"Left": "Right", "Right": "Left"}
    return np.array([names.index(re.sub("Left$|Right$", lambda side: other[side[0]], name)) for name in names])


def _mean(one: MeshFace, two: MeshFace) -> MeshFace:
    return MeshFace(
        (one.mesh + two.mesh) / 2,
        ((one.blendshapes + two.blendshapes) / 2).astype(np.float32),
        ((one.pose + two.pose) / 2).astype(np.float32),
        ((one.centred + two.centred) / 2).astype(np.float32),
        min(one.share, two.share),
    )


def _recalled(mesh: np.ndarray, numbers: np.ndarray) -> MeshFace:
    """A face that was handed on, in its crop."""
    pose = numbers[BLENDSHAPES:-1]
    return MeshFace(mesh, numbers[:BLENDSHAPES], pose, pose, float(numbers[-1]))


def _the_same(face: MeshFace | None, look: Sequence[MeshFace]) -> MeshFace | None:
    """What a look at a crop says of a face that was seen before: it, or the largest where it is not known which."""
    if not look:
        return face
    boxes = np.stack([each.box for each in look])
    if face is None:
        return look[int(centres_and_sides(boxes)[1].argmax())]
    overlap = intersection_over_union(boxes, face.box[None])[:, 0]
    return look[int(overlap.argmax())] if overlap.max() > SAME_FACE else face


def _search_again(landmarker: Any, frames: np.ndarray, found: list[list[MeshFace]]) -> None:
    """Look again, in place, at frames without a face, where the detector's own weaknesses make it worth while.

    Its input is 128 x 128: a face that fills the picture needs a border, a face of a few per cent of it a closer look.
    First each such frame alone, whole and with a border (which finds 99 % of faces cropped to 70 % of their size,
    of which 50 % are found without); if the clip still has none, in tiles; then around the face of the nearest frame.
    """
    for index in _missing(found):
        found[index] = _look(landmarker, frames[index], (0, 0)) or _look_with_border(landmarker, frames[index], BORDER)
    if not any(found):
        for index in _missing(found):
            found[index] = _look_in_tiles(landmarker, frames[index])
    seen = np.array([index for index, faces in enumerate(found) if faces])
    for index in _missing(found) if len(seen) else []:
        near = found[seen[np.abs(seen - index).argmin()]]
        found[index] = _look_near(landmarker, frames[index], np.stack([face.box for face in near]))


def _missing(found: list[list[MeshFace]]) -> list[int]:
    return [index for index, faces in enumerate(found) if not faces]


def _look(landmarker: Any, image: np.ndarray, corner: tuple[int, int]) -> list[MeshFace]:
    """Faces of a picture whose upper left corner is at pixel `corner` (x, y) of the frame."""
    return _faces(landmarker.detect(picture(image)), image.shape, corner)


def _look_with_border(landmarker: Any, frame: np.ndarray, border: float) -> list[MeshFace]:
    """Faces of a frame with a border in its mean colour, a share of the longer side wide."""
    height, width = frame.shape[:2]
    margin = round(border * max(height, width))
    canvas = np.empty((height + 2 * margin, width + 2 * margin, 3), np.uint8)
    canvas[:] = frame.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    canvas[margin : margin + height, margin : margin + width] = frame
    return _look(landmarker, canvas, (-margin, -margin))


def _look_in_tiles(landmarker: Any, frame: np.ndarray) -> list[MeshFace]:
    """Faces of overlapping square tiles."""
    height, width = frame.shape[:2]
    side = max(1, round(TILE * min(height, width)))
    corners = [(x, y) for y in _tile_starts(height, side) for x in _tile_starts(width, side)]
    faces = [face for x, y in corners for face in _look(landmarker, frame[y : y + side, x : x + side], (x, y))]
    if not faces:
        return []
    boxes = np.array([[*face.box, -index] for index, face in enumerate(faces)])
    return [faces[round(-row[4])] for row in without_doubles(boxes)]


def _tile_starts(length: int, side: int) -> list[int]:
    count = 1 + int(np.ceil((length - side) / (0.6 * side)))
    return [round(start) for start in np.linspace(0, length - side, count)]


def _look_near(landmarker: Any, frame: np.ndarray, boxes: np.ndarray) -> list[MeshFace]:
    """Faces in squares around `boxes` (n, 4) of another frame."""
    faces: list[MeshFace] = []
    for centre, extent in zip(*centres_and_sides(boxes), strict=True):
        low = np.clip(centre - NEARBY * extent / 2, 0, None).astype(int)
        high = np.ceil(centre + NEARBY * extent / 2).astype(int)
        view = frame[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
        if view.size:
            faces += _look(landmarker, view, (int(low[0]), int(low[1])))
    return faces[:1] if len(boxes) == 1 else faces


def _faces(result: Any, shape: tuple[int, ...], corner: tuple[int, int]) -> list[MeshFace]:
    """The library's result for a picture of `shape`, as faces in pixels of the frame."""
    faces = []
    scale, offset = (shape[1], shape[0], shape[1]), (*corner, 0)
    for points, shapes, matrix in zip(
        result.face_landmarks, result.face_blendshapes, result.facial_transformation_matrixes, strict=True
    ):
        mesh = np.array([(point.x, point.y, point.z) for point in points[:MESH_POINTS]]) * scale + offset
        scores = np.array([category.score for category in shapes], np.float32)
        box, pose = landmark_box(mesh_to_landmarks(mesh)), matrix_to_pose(matrix)
        (centre,), (side,) = centres_and_sides(box[None])
        centred = pose + _turn_of_place(centre - corner, shape[0], shape[1])
        faces.append(MeshFace(mesh, scores, pose, centred, float(side) / max(shape[:2])))
    return faces


def _turn_of_place(centre: np.ndarray, height: int, width: int) -> np.ndarray:
    """What the pose (3,) in degrees of a face at `centre` (x, y) in pixels lacks of that in the middle of a picture."""
    distance = height / 2 / np.tan(np.radians(VIEW_ANGLE / 2))
    x, y = np.degrees(np.arctan((centre - (width / 2, height / 2)) / distance))
    return TURNED * np.array([y, x, 0.0], np.float32)
