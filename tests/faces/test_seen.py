"""What preprocess has seen of a face is handed on: face-analyze with the same back end does not look again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from fclip.data.storage.parts import FacesPart
from fclip.data.storage.shards import frame_sample_fields, parse_frame_sample, read_shard
from fclip.errors import FclipError
from fclip.faces.base import create_backend
from fclip.faces.crop import crop_faces
from fclip.faces.landmarks import inter_ocular
from fclip.faces.seen import boxes_of, in_the_middle, rows_in_crops, split_rows
from fclip.files import sha256_bytes
from fclip.records import FrameSample
from fclip.stages import face_analyze, preprocess

LARGE, SMALL = "single_face.mp4", "bird.mkv"  # faces of a quarter and of a tenth of the picture


@dataclass
class Face:
    """A face as a back end may have seen it."""

    points: np.ndarray
    numbers: np.ndarray = field(default_factory=lambda: np.array([7.0, 8.0]))
    score: float = 0.9

    @property
    def box(self) -> np.ndarray:
        return np.concatenate([self.points.min(0)[:2], self.points.max(0)[:2]])


def face(x: float, y: float, side: float) -> Face:
    return Face(np.array([[x, y, 1.0], [x + side, y + side, -1.0], [x + side / 2, y + side / 2, 0.0]]))


def test_points_move_with_the_crop_and_numbers_stay():
    boxes = np.array([[10, 20, 60, 70], [0, 0, 10, 10]], np.float32)
    rows = rows_in_crops([face(20, 30, 20), None], boxes, 100)
    assert rows is not None and rows.dtype == np.float32
    (points, numbers), missing = split_rows(rows, 2, (3, 3), 2)
    assert missing is None and numbers.tolist() == [7, 8]
    assert points.tolist() == [[20, 20, 2], [60, 60, -2], [40, 40, 0]]
    assert rows_in_crops([None, None], boxes, 100) is None
    with pytest.raises(FclipError, match="preprocess again"):
        split_rows(rows, 2, (3, 2), 2)


def test_the_face_of_a_crop_is_the_one_in_its_middle():
    crop = np.array([0.0, 0.0, 100.0, 100.0])
    mine, small, beside = face(25, 25, 50), face(45, 45, 10), face(80, 25, 50)
    assert in_the_middle([beside, small, mine], crop) is mine
    assert in_the_middle([beside], crop) is None and in_the_middle([], crop) is None
    assert np.allclose(boxes_of([mine]), [[25, 25, 75, 75, 0.9]])


def test_what_was_seen_in_other_frames_is_left_out():
    frames, seen = np.zeros((2, 16, 16, 3), np.uint8), np.array([[1, 2], [0, 0]], np.float32)
    fields = frame_sample_fields(FrameSample("a", frames, {"label": "x"}, seen, {"version": "1"}))
    again = parse_frame_sample("a", fields)
    assert again.seen_by == {"version": "1"} and np.array_equal(again.seen, seen)
    other = frame_sample_fields(FrameSample("a", frames + 9, {"label": "x"}))
    swapped = parse_frame_sample("a", fields | {"frames.jpg": other["frames.jpg"]})
    assert swapped.seen is None and swapped.seen_by is None
    with pytest.raises(FclipError, match=r"a\.seen\.npy"):
        parse_frame_sample("a", fields | {"seen.npy": fields["seen.npy"][:-1]})
    bare = frame_sample_fields(FrameSample("a", frames, {"label": "x"}))
    assert set(bare) == {"frames.jpg", "json"} and b"seen" not in bare["json"]


def make_frames(root: Path, samples: Path, names: tuple[str, ...], **options: object) -> Path:
    """The frames folder of some sample clips."""
    listed = root / "clips.csv"
    listed.write_text("path,label\n" + "".join(f"{samples / 'clips' / name},a\n" for name in names))
    config = {"root": root, "dataset": "csv", "source": listed, "name": "mine", "workers": 1, **options}
    preprocess.run(preprocess.Config(**config))
    return root / "mine" / "frames"


def analysed(
    root: Path, backend: str, out: Path, limit: int | None = None
) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """The tally of a face analysis of the frames, and each clip's confidence."""
    config = {"root": root, "dataset": "mine", "out": out, "workers": 1}
    report = face_analyze.run(face_analyze.Config(backend=backend, limit=limit, **config))
    found = {}
    for path in sorted(out.glob("*.h5")):
        strips = dict(read_shard(root / "mine" / "frames" / f"{path.stem}.tar"))
        with FacesPart(path) as part:
            for key in part.keys:
                found[key] = part.read(key, sha256_bytes(strips[key]["frames.jpg"])).confidence
    return report.values["tally"], found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> Callable[[], int]:
    """How many pictures MediaPipe's own network was shown since the last call."""
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("FCLIP_MODELS", str(models_dir))
    from fclip.faces.mediapipe import backend, landmarkers

    count, show = [0], landmarkers.picture

    def counted(pixels: np.ndarray) -> object:
        count[0] += pixels.size > 1000  # the empty picture at a clip's end is 16 x 16
        return show(pixels)

    for module in (backend, landmarkers):
        monkeypatch.setattr(module, "picture", counted)

    def taken() -> int:
        shown, count[0] = count[0], 0
        return shown

    return taken


def test_mediapipe_looks_at_each_frame_once_and_no_face_is_lost(looks, samples, tmp_path):
    frames = make_frames(tmp_path, samples, (LARGE, SMALL), crop="mediapipe", frames="6", size=160)
    assert looks() >= 12
    seen = {key: parse_frame_sample(key, fields) for path in frames.glob("*.tar") for key, fields in read_shard(path)}
    tally, confidence = analysed(tmp_path, "mediapipe", tmp_path / "faces")
    assert tally["as_seen"] == 2
    assert 0 < looks() <= 6, "the frames of the small face alone: its points are rough in the whole frame"
    for key, sample in seen.items():
        assert sample.seen is not None and (confidence[key][sample.seen.any(1)] == 1).all(), key
    other, _ = analysed(tmp_path, "lite", tmp_path / "lite", limit=1)
    assert "as_seen" not in other, "another back end looks for itself"
    assert looks() == 0


def test_what_is_handed_on_is_what_the_network_sees_in_the_crop(looks, samples):
    from fclip.data.media.video import read_clip
    from fclip.seeing.preparation import Cropping

    backend = create_backend("mediapipe")
    clip = read_clip(samples / "clips" / LARGE, Cropping("6").plan)
    faces = [found[0] for found in backend.see(clip.frames, clip.times)]
    boxes = np.array(
        [[*(f.box[:2] - 0.3 * np.ptp(f.box[::2])), *(f.box[:2] + 1.3 * np.ptp(f.box[1::2]))] for f in faces]
    )
    boxes[:, 2:] = boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    crops, rows = crop_faces(clip.frames, boxes, 224), rows_in_crops(faces, boxes, 224)
    looks()
    recalled = backend.analyze_seen(crops, clip.times, rows)
    assert looks() == 0
    anew = backend.analyze(crops, clip.times)
    distance = np.linalg.norm(recalled.landmarks - anew.landmarks, axis=2).mean(1) / inter_ocular(anew.landmarks)
    assert distance.mean() < 0.02
    assert np.abs(recalled.blendshapes - anew.blendshapes).mean() < 0.03
    assert np.abs(recalled.pose - anew.pose).mean(0).max() < 2.0, "degrees; 5 if the place in the frame were left in"
    rows[2:4] = 0
    looks()
    assert (backend.analyze_seen(crops, clip.times, rows).confidence == 1).all()
    assert looks() == 2, "frames without a row are looked at"


def test_a_tight_picture_gets_no_smeared_border(looks, samples, tmp_path):
    """A picture cut at the face: with --no-inside its edge is stretched into the crop, by default it is not."""
    from PIL import Image

    from fclip.seeing.crops import face_clips
    from fclip.seeing.preparation import Cropping, Preparation

    backend = create_backend("mediapipe")
    picture = Image.open(samples / "images" / "nasa_astronaut.png").convert("RGB")
    (box,) = backend.detect(np.asarray(picture)[None])[0][:, :4]
    tight = picture.crop(tuple(int(v) for v in (*(box[:2] - 8), *(box[2:] + 8))))
    path = tmp_path / "tight.png"
    tight.save(path)
    (usual,), (inside,) = (face_clips(path, Cropping("1", 96, "mediapipe", inside=on), backend) for on in (False, True))
    side = [float((clip.boxes[:, 2] - clip.boxes[:, 0])[0]) for clip in (usual, inside)]
    assert side[0] > min(tight.size) and side[1] < side[0]
    rows = [(np.abs(np.diff(clip.crops[0].astype(int), axis=0)).sum((1, 2)) == 0).sum() for clip in (usual, inside)]
    assert rows[0] > rows[1] == 0, "rows that repeat the one above"
    assert preprocess.cropping(preprocess.Config(dataset="demo7")).inside
    record = Preparation(Cropping("1", 96, "mediapipe")).as_dict()
    assert Preparation.from_dict(record, "here").cropping.inside
    del record["cropping"]["inside"]  # as versions wrote it whose crops went beyond the picture
    assert not Preparation.from_dict(record, "here").cropping.inside
