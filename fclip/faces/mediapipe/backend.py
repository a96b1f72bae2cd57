"""The face back end `mediapipe`: MediaPipe's Face Landmarker on the CPU. Needs `pip install 'fclip[mediapipe]'`.

Each clip has a landmarker of its own in VIDEO mode, so that tracking follows the clip's own timestamps and nothing
is carried from one clip to the next. Frames too far apart for tracking are taken one by one, in IMAGE mode: on real
clips tracking over such steps moves points by up to a fifth of the inter-ocular distance. Frames in which it finds no
face are searched again, see `_search_again`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fclip.errors import ClipFailure, FclipError
from fclip.faces.base import WeightsOptions, check_frames, milliseconds
from fclip.faces.boxes import centres_and_sides, without_doubles
from fclip.faces.landmarks import landmark_box
from fclip.faces.mediapipe.mesh import MESH_POINTS, matrix_to_pose, mesh_to_landmarks, mesh_to_parsing
from fclip.faces.weights import MEDIAPIPE_FILE, find_or_download
from fclip.files import sha256_file
from fclip.records import BLENDSHAPES, LANDMARKS, FaceTrack
from fclip.registry import register

MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL_URL = (
    f"https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/{MEDIAPIPE_FILE}"
)
MOST_FACES = 5
TRACKING_STEP = 0.25  # seconds; above it a face has moved too far to look for it where it was
BORDER = 0.5  # of the longer side, added on each side around a crop that is too tight for the detector
NEARBY = 3.0  # side of the square searched around a face seen in another frame, in face sizes
TILE = 0.75  # side of a tile / shorter side of the frame, for small faces

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeshFace:
    """One face: mesh (478, 2) in pixels of the frame; blendshapes (52,) and pose (3,) where they were asked for."""

    mesh: np.ndarray
    blendshapes: np.ndarray | None
    pose: np.ndarray | None

    @property
    def box(self) -> np.ndarray:
        """Extent of the 68 landmarks, (4,) in pixels."""
        return landmark_box(mesh_to_landmarks(self.mesh))


@register(WeightsOptions)
class MediaPipeBackend:
    """FaceBackend and FaceDetector. Runs on the CPU whatever `device` says; `weights` replaces the model file."""

    name = "mediapipe"

    def __init__(self, options: WeightsOptions = WeightsOptions(), device: str = "cpu") -> None:
        library = _library()
        if options.weights is not None and not options.weights.is_file():
            raise FclipError(f"{options.weights}: no such model file for the back end mediapipe")
        self.model = options.weights or find_or_download(MEDIAPIPE_FILE, MODEL_URL, MODEL_SHA256)
        self.fingerprint = {
            "backend": self.name,
            "weights": sha256_file(self.model),
            "library": library.__version__,
            "version": "1",
        }

    def detect(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[np.ndarray]:
        """Boxes of all faces, five at most, as FaceDetector says. MediaPipe gives no score, so each has 1."""
        found = self._find(check_frames(frames), times, MOST_FACES, details=False)
        return [np.array([[*face.box, 1.0] for face in faces], np.float32).reshape(-1, 5) for faces in found]

    def analyze(self, frames: np.ndarray, times: np.ndarray | None = None) -> FaceTrack:
        """Parsing without hair, landmarks, blendshapes and pose of one face, as FaceBackend says.

        Confidence is 1 where the face was found, as MediaPipe gives no score; landmarks may lie outside of [0, 1]
        where the frame cuts the face.
        """
        count, height, width = check_frames(frames).shape[:3]
        found = self._find(frames, times, 1, details=True)
        blendshapes, pose = np.zeros((count, BLENDSHAPES), np.float32), np.zeros((count, 3), np.float32)
        track = FaceTrack(
            np.zeros((count, height, width), np.uint8),
            np.zeros((count, LANDMARKS, 2), np.float32),
            np.zeros(count, np.float32),
            blendshapes,
            pose,
        )
        for index, faces in enumerate(found):
            if faces:
                track.parsing[index] = mesh_to_parsing(faces[0].mesh, height, width)
                track.landmarks[index] = mesh_to_landmarks(faces[0].mesh) / (width, height)
                track.confidence[index] = 1
                blendshapes[index], pose[index] = faces[0].blendshapes, faces[0].pose
        if not track.confidence.any():
            raise ClipFailure(f"no face found in any of {count} frames")
        return track

    def _find(self, frames: np.ndarray, times: np.ndarray | None, most: int, details: bool) -> list[list[MeshFace]]:
        """Faces of each frame: one pass over the clip, then another look at the frames that seem to have none."""
        frames = np.ascontiguousarray(frames)
        stamps = milliseconds(times, len(frames))
        if len(frames) > 1 and np.median(np.diff(stamps)) > 1000 * TRACKING_STEP:
            with _landmarker(self.model, "IMAGE", most, details) as landmarker:
                found = [_look(landmarker, frame, (0, 0)) for frame in frames]
        else:
            with _landmarker(self.model, "VIDEO", most, details) as landmarker:
                found = [
                    _faces(landmarker.detect_for_video(_image(frame), stamp), frame.shape, (0, 0))
                    for frame, stamp in zip(frames, stamps, strict=True)
                ]
        if not all(found):
            with _landmarker(self.model, "IMAGE", most, details) as landmarker:
                _search_again(landmarker, frames, found)
        return found


def _search_again(landmarker: Any, frames: np.ndarray, found: list[list[MeshFace]]) -> None:
    """Look again, in place, at frames without a face, where the detector's own weaknesses make it worth while.

    Its input is 128 x 128: a face that fills the picture needs a border, a face of a few per cent of it a closer look.
    First each such frame alone, whole and with a border (which finds 99 % of faces cropped to 70 % of their size,
    of which 50 % are found without); if the clip still has none, in tiles; then around the face of the nearest frame.
    """
    for index in _missing(found):
        found[index] = _look(landmarker, frames[index], (0, 0)) or _look_with_border(landmarker, frames[index])
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
    return _faces(landmarker.detect(_image(image)), image.shape, corner)


def _look_with_border(landmarker: Any, frame: np.ndarray) -> list[MeshFace]:
    """Faces of a frame with a border in its mean colour."""
    height, width = frame.shape[:2]
    margin = round(BORDER * max(height, width))
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
    for index, points in enumerate(result.face_landmarks):
        mesh = np.array([(point.x, point.y) for point in points[:MESH_POINTS]]) * (shape[1], shape[0]) + corner
        shapes = result.face_blendshapes[index] if result.face_blendshapes else None
        matrix = result.facial_transformation_matrixes[index] if result.facial_transformation_matrixes else None
        faces.append(
            MeshFace(
                mesh,
                None if shapes is None else np.array([category.score for category in shapes], np.float32),
                None if matrix is None else matrix_to_pose(matrix),
            )
        )
    return faces


@cache
def _library() -> Any:
    """The mediapipe package, tasks loaded; a system library that it lacks is said in one line."""
    try:
        import mediapipe
        from mediapipe.tasks.python import vision  # noqa: F401
    except (ImportError, OSError) as error:
        raise FclipError(f"mediapipe cannot be loaded ({error}); it needs the libraries libGL and libEGL") from error
    return mediapipe


def _image(picture: np.ndarray) -> Any:
    library = _library()
    return library.Image(image_format=library.ImageFormat.SRGB, data=np.ascontiguousarray(picture))


@contextmanager
def _landmarker(model: Path, mode: str, most: int, details: bool) -> Iterator[Any]:
    """A fresh landmarker, closed at the end (left to the interpreter's exit, its destructor fails)."""
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)),
        running_mode=vision.RunningMode[mode],
        num_faces=most,
        output_face_blendshapes=details,
        output_facial_transformation_matrixes=details,
    )
    with ExitStack() as stack:
        try:
            with _quiet():
                landmarker = stack.enter_context(vision.FaceLandmarker.create_from_options(options))
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise FclipError(f"{model}: not a usable face landmarker model ({reason})") from error
        yield landmarker


@contextmanager
def _quiet() -> Iterator[None]:
    """Send what the library's C++ code writes to file descriptor 2 to the log, at level DEBUG."""
    _flush_stderr()
    try:
        keep = os.dup(2)
    except OSError:  # no stderr
        yield
        return
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            _flush_stderr()
            os.dup2(keep, 2)
            os.close(keep)
            sink.seek(0)
            if text := sink.read().decode(errors="replace").strip():
                log.debug("mediapipe: %s", text)


def _flush_stderr() -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):  # none, broken or closed
        sys.stderr.flush()
