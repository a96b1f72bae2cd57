"""The template captioner says what moves, how and when, and claims no movement where there is none."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_faces import (
    IOD,
    SIZE,
    close_eyes,
    open_mouth,
    pulse,
    raise_brows,
    raise_corners,
    ramp,
    still,
    times,
    track,
)

from fclip.captions.base import CaptionInput, create_captioner
from fclip.captions.refine.refiner import Refiner
from fclip.captions.template.activation import blendshape_names, channel_table
from fclip.captions.template.captioner import describe
from fclip.captions.template.wording import phrase_table
from fclip.errors import ClipFailure
from fclip.records import BLENDSHAPES, CaptionRecord

STILL = "The face keeps still."
LABELS = (
    "happiness",
    "sadness",
    "neutral",
    "anger",
    "surprise",
    "disgust",
    "fear",
    "contempt",
    "anxiety",
    "helplessness",
    "disappointment",
)


def caption(points: np.ndarray, seconds: float = 2.0, **options: np.ndarray) -> str:
    return describe(track(points, **options), times(len(points), seconds), SIZE)[0]


def blendshapes(frames: int, **courses: np.ndarray | float) -> np.ndarray:
    values = np.zeros((frames, BLENDSHAPES), np.float32)
    for name, course in courses.items():
        values[:, blendshape_names().index(name)] = course
    return values


def test_still_face_is_said_to_keep_still() -> None:
    text = caption(still())
    assert text.startswith(STILL)
    assert "the brows, the eyes, the mouth and the head keep still" in text.lower()


@pytest.mark.parametrize("frames", [8, 16, 32])
def test_rising_mouth_corners(frames: int) -> None:
    points = still(frames)
    raise_corners(points, ramp(frames, 0.4, 0.6))
    text = caption(points)
    assert re.search(r"Midway, the mouth corners rise strongly( and quickly)?( and stay up)?\.", text), text
    assert "brows" in text.partition(". ")[2]  # among the parts that keep still


@pytest.mark.parametrize(("size", "words"), [(0.05, "rise slightly"), (0.075, "rise clearly"), (0.16, "rise strongly")])
def test_strength(size: float, words: str) -> None:
    points = still()
    raise_corners(points, ramp(16, 0.3, 0.5), size)
    assert words in caption(points)


@pytest.mark.parametrize(
    ("start", "end", "opener"), [(0.1, 0.2, "At first"), (0.45, 0.55, "Midway"), (0.75, 0.85, "Late in the clip")]
)
def test_moment(start: float, end: float, opener: str) -> None:
    points = still()
    open_mouth(points, ramp(16, start, end))
    assert caption(points).startswith(f"{opener}, the mouth opens wide")


def test_return_is_told() -> None:
    points = still()
    open_mouth(points, pulse(16, 0.3, 0.6))
    assert "the mouth opens wide and closes again" in caption(points).replace(" quickly", "")


def test_order_of_two_movements() -> None:
    points = still()
    raise_brows(points, ramp(16, 0.1, 0.2))
    open_mouth(points, ramp(16, 0.7, 0.8))
    text = caption(points)
    assert text.index("At first, the brows rise") < text.index("Late in the clip, the mouth opens wide")


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_sided_movement_names_the_persons_own_side(side: str) -> None:
    points = still()
    raise_corners(points, ramp(16, 0.3, 0.5), 0.16, side)
    assert f"the {side} mouth corner rises" in caption(points)


def test_brows_down() -> None:
    points = still()
    raise_brows(points, ramp(16, 0.3, 0.5), -0.1)
    assert "the brows draw down strongly" in caption(points)


def test_blink_and_closed_eyes() -> None:
    points = still(24)
    close_eyes(points, pulse(24, 0.5, 0.56))
    assert "the eyes blink" in caption(points)
    points = still(24)
    close_eyes(points, ramp(24, 0.4, 0.5))
    assert "the eyes close" in caption(points)


def test_speech_is_repeated_opening() -> None:
    points = still(24)
    open_mouth(points, (np.sin(np.arange(24) * 1.6) > 0).astype(float))
    assert "the mouth opens and closes repeatedly" in caption(points)


def test_speed_is_told_where_it_can_be_seen() -> None:
    quick, slow = still(40), still(40)
    raise_corners(quick, ramp(40, 0.5, 0.53))
    raise_corners(slow, ramp(40, 0.1, 0.9))
    assert "rise strongly and quickly" in caption(quick)
    assert "rise strongly and slowly" in caption(slow, seconds=4.0)
    coarse = still(8)
    raise_corners(coarse, ramp(8, 0.5, 0.53))
    assert "quickly" not in caption(coarse, seconds=4.0)


def test_held_state_claims_no_movement() -> None:
    points = still()
    raise_corners(points, np.ones(16), 0.16)
    open_mouth(points, np.ones(16))
    text = caption(points)
    assert "keeps still" not in text
    assert "Throughout the clip," in text
    assert "the mouth corners stay strongly upturned" in text
    assert "the mouth stays wide open" in text
    assert not re.search(r"rise|opens|part\b", text)


def test_leaving_a_state_is_a_movement() -> None:
    points = still()
    open_mouth(points, 1 - ramp(16, 0.4, 0.5))
    assert "the open mouth closes" in caption(points)


def test_neutral_phase_at_the_end_serves_as_reference() -> None:
    points = still()
    raise_brows(points, 1 - ramp(16, 0.5, 0.7))
    assert re.search(r"the raised( \w+)? brows come down", caption(points))


@pytest.mark.parametrize("jitter", [0.0, 0.002, 0.005])
def test_jitter_is_no_movement(jitter: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        for frames in (8, 16):
            points = still(frames) + rng.normal(0, jitter * IOD, (frames, 68, 2))
            assert caption(points).startswith(STILL)


@pytest.mark.parametrize("angle", [-20.0, 20.0])
def test_head_tilt_does_not_move_the_face(angle: float) -> None:
    points, turn = still(), np.radians(angle) * ramp(16, 0.3, 0.6)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    x, y = points[..., 0] - 0.5, points[..., 1] - 0.5
    points = np.stack([0.5 + cos * x - sin * y, 0.5 + sin * x + cos * y], axis=-1)
    text = caption(points)
    assert f"the head tilts far to the {'left' if angle > 0 else 'right'}" in text  # clockwise: to the person's left
    assert "The brows, the eyes and the mouth keep still." in text


def test_head_turn_shows_in_the_nose_and_not_in_brows_or_mouth() -> None:
    points = still()
    depth = np.zeros(68)
    depth[[28, 29, 30]] = 0.25, 0.5, 0.7
    depth[:17] = -0.4
    turn = np.radians(25) * ramp(16, 0.3, 0.6)[:, None]
    points[..., 0] = 0.5 + np.cos(turn) * (points[..., 0] - 0.5) + np.sin(turn) * depth * IOD
    text = caption(points)
    assert re.search(r"the head turns (far )?to the left", text)
    assert not re.search(r"(brow|corner)s? (rise|draw|turn)", text)


def test_pose_of_the_back_end_is_used() -> None:
    pose = np.zeros((16, 3), np.float32)
    pose[:, 0] = 12 * ramp(16, 0.3, 0.6)
    assert "the head lowers clearly" in caption(still(), pose=pose)


def test_gaze_comes_from_blendshapes_alone() -> None:
    course = 0.8 * ramp(16, 0.5, 0.55)
    shapes = blendshapes(16, eyeLookOutLeft=course, eyeLookInRight=course)
    assert "the gaze shifts far to the left" in caption(still(), blendshapes=shapes)
    assert "gaze" not in caption(still())


def test_a_persons_own_bias_in_blendshapes_is_rest() -> None:
    shapes = blendshapes(16, mouthPucker=0.3, eyeSquintLeft=0.45, eyeSquintRight=0.45, browInnerUp=0.2)
    assert caption(still(), blendshapes=shapes).startswith(STILL)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.3, 2.0),
    st.floats(-0.4, 0.4),
    st.floats(-3.0, 3.0),
    st.sampled_from([raise_corners, open_mouth, raise_brows]),
)
def test_size_place_and_tilt_of_the_face_do_not_matter(scale: float, shift: float, degrees: float, move) -> None:
    points = still()
    move(points, ramp(16, 0.3, 0.5))
    turn = np.radians(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert caption((points - 0.5) @ matrix.T + 0.5 + shift) == caption(points)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.floats(0, 0.3), st.booleans())
def test_wild_tracks_make_clean_english(seed: int, frames: int, spread: float, with_shapes: bool) -> None:
    rng = np.random.default_rng(seed)
    points = still(frames) + rng.normal(0, spread, (frames, 68, 2))
    shapes = rng.random((frames, BLENDSHAPES)).astype(np.float32) if with_shapes else None
    text = caption(points, blendshapes=shapes, pose=rng.normal(0, 30, (frames, 3)))
    assert 3 <= len(text.split()) <= 45
    assert 1 <= text.count(".") <= 5
    assert re.fullmatch(r"(?:[A-Z][a-z, -]+\. ?)+", text)
    assert REFINER.refine(text).text == text


REFINER = Refiner(LABELS)


def test_every_phrase_is_free_of_emotion_words() -> None:
    spoken = set(phrase_table()["channels"])
    assert {spec.name for spec in channel_table()} <= spoken
    for words in phrase_table()["channels"].values():
        for phrase in re.findall(r"[a-z][a-z ]+", str(list(words.values())).replace("{side}", "left")):
            assert REFINER.refine(f"The lips part and {phrase.strip()}.").removed == []


def test_label_does_not_matter_and_records_say_so() -> None:
    points = still()
    raise_corners(points, ramp(16, 0.3, 0.5))
    frames = np.zeros((16, *SIZE, 3), np.uint8)
    clips = [CaptionInput("k", frames, times(16), track(points), {}, label) for label in (None, "anger", "happiness")]
    records = create_captioner("template").caption(clips)
    assert records[0] == records[1] == records[2]
    record = records[0]
    assert isinstance(record, CaptionRecord)
    assert (record.key, record.model, record.label_shown) == ("k", "template", False)
    assert record.frames == list(range(16))
    assert len(record.prompt_sha256) == 64


def test_frames_without_a_face_are_left_out() -> None:
    points = still()
    raise_corners(points, ramp(16, 0.3, 0.5))
    found = track(points)
    found.confidence[[2, 9]] = 0
    found.landmarks[2] = 0
    found.landmarks[9] = np.nan
    text, frames = describe(found, times(16), SIZE)
    assert "the mouth corners rise strongly" in text
    assert frames == [i for i in range(16) if i not in (2, 9)]


def test_clips_without_a_face_fail_alone() -> None:
    frames = np.zeros((4, *SIZE, 3), np.uint8)
    faceless = track(still(4))
    faceless.confidence[:] = 0
    clips = [
        CaptionInput("a", frames, times(4)),
        CaptionInput("b", frames, times(4), faceless),
        CaptionInput("c", frames, times(4), track(still(4))),
    ]
    first, second, third = create_captioner("template").caption(clips)
    assert isinstance(first, ClipFailure) and "face-analyze" in str(first)
    assert isinstance(second, ClipFailure) and "no face" in str(second)
    assert isinstance(third, CaptionRecord)


def test_one_frame_is_described_as_held() -> None:
    points = still(1)
    open_mouth(points, np.ones(1))
    text = caption(points)
    assert text.startswith("The mouth is wide open.") and "keep" not in text
