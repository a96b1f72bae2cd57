"""Rendered clips: repeatable, and landmarks, parsing and picture agree."""

from __future__ import annotations

import numpy as np
import pytest

from fclip.records import PARSING_CLASSES
from fclip.synth.clips import RenderedClip, frame_indices, render_clip, sample_clip
from fclip.synth.dataset import CLASSES
from fclip.synth.identity import sample_identity
from fclip.synth.script import ClipScript

DEMO7 = CLASSES["demo7"]
PART = {name: number for number, name in enumerate(PARSING_CLASSES)}
SIZE = 160


@pytest.fixture(scope="module")
def clips() -> list[tuple[ClipScript, RenderedClip]]:
    """21 clips of 21 people, two frames each."""
    scripts = [sample_clip(DEMO7[k % 7], 300 + k, k, DEMO7) for k in range(21)]
    return [(script, render_clip(script, SIZE, frames=2)) for script in scripts]


def test_a_clip_is_repeatable_and_its_parts_too() -> None:
    script = sample_clip("fear", 12, 5, DEMO7)
    assert script == sample_clip("fear", 12, 5, DEMO7)
    whole, again, four = render_clip(script, 96), render_clip(script, 96), render_clip(script, 96, frames=4)
    rows = frame_indices(script.frames, 4)
    for name in ("frames", "landmarks", "parsing", "action_units", "pose"):
        assert np.array_equal(getattr(whole, name), getattr(again, name)), name
        assert np.array_equal(getattr(whole, name)[rows], getattr(four, name)), name
    assert whole.caption == again.caption == four.caption
    other = render_clip(sample_clip("fear", 12, 6, DEMO7), 96, frames=4)
    assert not np.array_equal(other.frames, four.frames)


def test_shapes_and_types(clips: list[tuple[ClipScript, RenderedClip]]) -> None:
    script, clip = clips[0]
    assert clip.frames.shape == (2, SIZE, SIZE, 3) and clip.frames.dtype == np.uint8
    assert clip.landmarks.shape == (2, 68, 2) and clip.landmarks.dtype == np.float32
    assert clip.parsing.shape == (2, SIZE, SIZE) and clip.parsing.dtype == np.uint8
    assert clip.action_units.shape == (2, len(clip.unit_names)) and clip.action_units.dtype == np.float32
    assert clip.pose.shape == (2, 3) and clip.fps == 25 and clip.label == script.label and clip.caption
    assert 24 <= script.frames <= 32
    assert max(int(clip.parsing.max()) for _, clip in clips) < len(PARSING_CLASSES)


def test_segment_centres() -> None:
    assert frame_indices(30, 3).tolist() == [5, 15, 25]
    assert frame_indices(5, None).tolist() == [0, 1, 2, 3, 4]


def _visible(script: ClipScript) -> bool:
    return script.look.occluder is None and script.person.hair_style not in ("fringe", "side", "long")


def _at(parsing: np.ndarray, point: np.ndarray) -> int:
    x, y = np.clip((point * SIZE).astype(int), 0, SIZE - 1)
    return int(parsing[y, x])


def test_landmarks_lie_in_their_parts(clips: list[tuple[ClipScript, RenderedClip]]) -> None:
    checked, opened = 0, 0
    for script, clip in clips:
        if not _visible(script):
            continue
        for row in range(2):
            points, parsing = clip.landmarks[row], clip.parsing[row]
            if clip.action_units[row, clip.unit_names.index("AU45")] < 0.2:
                assert _at(parsing, points[36:42].mean(0)) == PART["right_eye"]
                assert _at(parsing, points[42:48].mean(0)) == PART["left_eye"]
                checked += 1
            assert _at(parsing, points[19]) == PART["right_brow"]
            assert _at(parsing, points[24]) == PART["left_brow"]
            assert _at(parsing, points[30]) == PART["nose"]
            assert _at(parsing, (points[51] + points[62]) / 2) == PART["upper_lip"]
            assert _at(parsing, (points[57] + points[66]) / 2) == PART["lower_lip"]
            assert _at(parsing, points[[2, 14, 30]].mean(0)) in (PART["skin"], PART["nose"])
            if (points[66, 1] - points[62, 1]) * SIZE > 2.5:
                assert _at(parsing, (points[62] + points[66]) / 2) == PART["inner_mouth"]
                opened += 1
    assert checked >= 10 and opened >= 2


def test_left_parts_lie_on_the_images_right(clips: list[tuple[ClipScript, RenderedClip]]) -> None:
    for _, clip in clips:
        assert (clip.landmarks[:, 42:48, 0].mean(1) > clip.landmarks[:, 36:42, 0].mean(1)).all()
        for part in ("eye", "brow"):
            across = [np.argwhere(clip.parsing[0] == PART[f"{side}_{part}"])[:, 1] for side in ("left", "right")]
            if min(map(len, across)) > 3:
                assert across[0].mean() > across[1].mean()


def test_the_picture_shows_what_the_parsing_says(clips: list[tuple[ClipScript, RenderedClip]]) -> None:
    """The colours of parts follow the person: skin, hair and background differ as their regions say."""
    agreeing = 0
    for script, clip in clips:
        person, frame, parsing = script.person, clip.frames[0].astype(float), clip.parsing[0]
        hair, skin = frame[parsing == PART["hair"]], frame[parsing == PART["skin"]]
        contrast = float(np.mean(person.skin)) - float(np.mean(person.hair))
        if len(hair) > 200 and abs(contrast) > 60:
            assert np.sign(skin.mean() - hair.mean()) == np.sign(contrast)
            agreeing += 1
    assert agreeing >= 8


def test_the_face_is_a_part_of_the_frame() -> None:
    heights = []
    for k in range(60):
        clip = render_clip(sample_clip(DEMO7[k % 7], 500 + k, k, DEMO7), 32, frames=1)
        points = clip.landmarks[0]
        assert ((points > -0.1) & (points < 1.1)).all()
        assert (points > 0).all(1).mean() > 0.85 and (points < 1).all(1).mean() > 0.85
        heights.append((points[8, 1] - points[27, 1]) * 1.75)  # nose root to chin -> hairline to chin
    assert min(heights) > 0.3 and max(heights) < 0.9 and np.std(heights) > 0.04


def test_identities_differ_and_stay() -> None:
    assert sample_identity(5) == sample_identity(5)
    people = [sample_identity(k) for k in range(60)]
    assert len({person.skin for person in people}) == 60
    assert {person.hair_style for person in people} >= {"short", "long", "fringe", "bald"}
    assert any(person.glasses != "none" for person in people) and any(person.beard != "none" for person in people)


def test_hard_clips_are_about_a_tenth() -> None:
    scripts = [sample_clip("anger", k, 0, DEMO7) for k in range(1500)]
    blended = np.mean([script.blend is not None for script in scripts])
    weak = np.mean([script.strength < 0.31 for script in scripts])
    assert 0.08 <= blended + weak <= 0.12
    assert all(script.blend[0] not in ("anger", "neutral") for script in scripts if script.blend)
