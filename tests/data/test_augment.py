"""Augmentation: frames, parsing and landmarks stay one picture; draws depend on (seed, epoch, key) alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.data.training.augment import (
    Augmentation,
    Change,
    change_frames,
    change_landmarks,
    change_parsing,
    clip_rng,
    draw_change,
    mirror,
    whole_frame,
)
from fclip.records import PARSING_CLASSES
from tests.data.storage_files import make_track, smooth_frames

STRONG = Augmentation((0.3, 0.9), (0.6, 1.6), 0.5, 15.0, 0.3, 0.3, 0.2)
NOSE, SKIN = PARSING_CLASSES.index("nose"), PARSING_CLASSES.index("skin")


def test_the_mirror_is_an_involution_that_keeps_the_face() -> None:
    points, ids = mirror().landmarks, mirror().parsing
    assert sorted(points) == list(range(68)) and list(points[points]) == list(range(68))
    assert sorted(ids) == list(range(11)) and list(ids[ids]) == list(range(11))
    for number, name in enumerate(PARSING_CLASSES):
        swap = {"left": "right", "right": "left"}
        side, _, part = name.partition("_")
        assert PARSING_CLASSES[ids[number]] == (f"{swap[side]}_{part}" if side in swap else name)


def symmetric_face() -> np.ndarray:
    """An upright face (68, 2) in [0, 1], drawn from the definition of the iBUG points, whose halves are mirrored."""
    face = np.full((68, 2), np.nan)

    def arc(first: int, last: int, centre: tuple, radius: tuple, start: float, end: float) -> None:
        """Points on an ellipse; angles in degrees, 0 to the image's right, 90 down."""
        angle = np.radians(np.linspace(start, end, last - first + 1))
        face[first : last + 1] = np.stack([np.cos(angle), np.sin(angle)], 1) * radius + centre

    arc(0, 16, (0.5, 0.4), (0.4, 0.5), 180, 0)  # jaw, from image left to image right
    arc(17, 21, (0.3, 0.3), (0.12, 0.05), 190, 330)
    arc(22, 26, (0.7, 0.3), (0.12, 0.05), 210, 350)
    arc(27, 30, (0.5, 0.45), (0.0, 0.1), -90, 90)  # bridge of the nose
    arc(31, 35, (0.5, 0.58), (0.08, 0.03), 180, 0)
    arc(36, 41, (0.3, 0.4), (0.06, 0.03), 180, 480)  # eyes: left corner, over the upper lid, back below
    arc(42, 47, (0.7, 0.4), (0.06, 0.03), 180, 480)
    arc(48, 59, (0.5, 0.75), (0.15, 0.06), 180, 510)  # outer lips, the same way round
    arc(60, 67, (0.5, 0.75), (0.1, 0.03), 180, 495)
    return face.astype(np.float32)


def test_the_mirror_maps_an_upright_face_onto_itself() -> None:
    face = symmetric_face()
    flipped = change_landmarks(face[None], replace(whole_frame(80, 80, 32), flip=True), 80, 80)
    assert np.allclose(flipped[0], face, atol=1e-5)


@pytest.mark.parametrize("size", [(48, 48), (40, 56)])
def test_a_flip_is_an_exact_mirror(size: tuple[int, int]) -> None:
    frames = smooth_frames(3, *size)
    track = make_track(frames)
    change = replace(whole_frame(*size, 32), flip=True)
    if size == (48, 48):
        assert np.array_equal(change_frames(frames, change, 48), frames[:, :, ::-1])
        assert np.array_equal(change_parsing(track.parsing, change, 48), mirror().parsing[track.parsing[:, :, ::-1]])
    straight = change_frames(frames, whole_frame(*size, 32), 32)
    assert torch.equal(change_frames(frames, change, 32), straight.flip(2))
    points = change_landmarks(track.landmarks, change, *size).numpy()
    expected = track.landmarks[:, mirror().landmarks] * [-1, 1] + [1, 0]
    assert np.allclose(points, expected, atol=1e-6)


def test_the_whole_frame_at_its_own_size_is_untouched() -> None:
    frames = smooth_frames(3, 32, 32)
    track = make_track(frames)
    change = whole_frame(32, 32, 32)
    assert np.array_equal(change_frames(frames, change, 32), frames)
    assert np.array_equal(change_parsing(track.parsing, change, 32), track.parsing)
    assert np.allclose(change_landmarks(track.landmarks, change, 32, 32), track.landmarks, atol=1e-7)


def test_resizing_is_pil_bilinear() -> None:
    from PIL import Image

    frames = smooth_frames(2, 100, 140, seed=3)
    mine = change_frames(frames, whole_frame(100, 140, 64), 64).numpy().astype(int)
    pil = [np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR)) for frame in frames]
    assert np.abs(mine - np.stack(pil)).max() <= 1
    centre = change_frames(frames, whole_frame(100, 140, 64, "crop"), 64).numpy()
    pil = [np.asarray(Image.fromarray(frame).resize((89, 64), Image.Resampling.BICUBIC)) for frame in frames]
    assert np.array_equal(centre, np.stack(pil)[:, :, 12:76])


def dot_clip(x: int, y: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames with a bright round spot at (x, y), the spot as parsing class nose, all landmarks on its centre."""
    rows, columns = np.mgrid[0:height, 0:width]
    spot = (columns - x) ** 2 + (rows - y) ** 2 <= 36
    frames = np.repeat(np.where(spot[None, :, :, None], 255, 20).astype(np.uint8), 3, axis=3)
    parsing = np.where(spot[None], NOSE, SKIN).astype(np.uint8)
    landmarks = np.full((1, 68, 2), ((x + 0.5) / width, (y + 0.5) / height), np.float32)
    return frames, parsing, landmarks


def centre_of(mask: np.ndarray) -> np.ndarray:
    """Centre (x, y) of a mask in [0, 1] of its sides."""
    rows, columns = np.nonzero(mask)
    return np.array([(columns.mean() + 0.5) / mask.shape[1], (rows.mean() + 0.5) / mask.shape[0]])


@given(seed=st.integers(0, 10_000), flip=st.booleans(), turned=st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_frames_parsing_and_landmarks_move_together(seed: int, flip: bool, turned: bool) -> None:
    rng = np.random.default_rng(seed)
    height, width = 90, 110
    frames, parsing, landmarks = dot_clip(int(rng.integers(40, 70)), int(rng.integers(35, 55)), height, width)
    box = (int(rng.integers(0, 12)), int(rng.integers(0, 12)), int(rng.integers(80, 98)), int(rng.integers(70, 78)))
    change = Change(box, float(rng.uniform(-20, 20)) if turned else 0.0, flip)
    seen = change_frames(frames, change, 128).numpy()[0, :, :, 0] > 137
    labelled = change_parsing(parsing, change, 128).numpy()[0] == NOSE
    point = change_landmarks(landmarks, change, height, width).numpy()[0, 0]
    assert np.abs(centre_of(seen) - point).max() < 0.008
    assert np.abs(centre_of(labelled) - point).max() < 0.008
    assert np.mean(seen != labelled) < 0.004


def test_a_positive_angle_turns_counter_clockwise() -> None:
    frames, _, landmarks = dot_clip(80, 50, 100, 100)  # right of the centre
    change = Change((0, 0, 100, 100), angle=30.0)
    point = change_landmarks(landmarks, change, 100, 100).numpy()[0, 0]
    radius = 0.305
    assert np.allclose(point, (0.5 + radius * np.cos(np.pi / 6), 0.5 - radius / 2), atol=0.006)
    seen = change_frames(frames, change, 100).numpy()[0, :, :, 0] > 137
    assert np.allclose(centre_of(seen), point, atol=0.01)


def test_every_frame_gets_the_same_change() -> None:
    frames = np.repeat(smooth_frames(1, 64, 64), 5, axis=0)
    for epoch in range(4):
        change = draw_change(STRONG, 64, 64, clip_rng(0, epoch, "a", "augment"))
        changed = change_frames(frames, change, 48)
        assert changed.shape == (5, 48, 48, 3) and changed.dtype == torch.uint8
        assert all(torch.equal(changed[0], other) for other in changed[1:])


@pytest.mark.parametrize("angle", [0.0, 1e-9])
def test_colours_follow_the_formula(angle: float) -> None:
    frames = smooth_frames(2, 40, 40)
    change = Change((0, 0, 40, 40), angle, contrast=1.3, gains=(0.8, 1.0, 1.25))
    mean = frames[:, ::4, ::4].astype(np.float64).mean()
    expected = np.clip(((frames - mean) * 1.3 + mean) * (0.8, 1.0, 1.25), 0, 255)
    assert np.abs(change_frames(frames, change, 40).numpy() - expected).max() < 0.52
    assert not np.array_equal(change_frames(frames, change, 40), frames)


def test_draws_depend_on_seed_epoch_and_key_alone() -> None:
    def draw(seed: int, epoch: int, key: str) -> Change:
        return draw_change(STRONG, 224, 224, clip_rng(seed, epoch, key, "augment"))

    assert draw(1, 2, "a") == draw(1, 2, "a")
    others = [draw(2, 2, "a"), draw(1, 3, "a"), draw(1, 2, "b"), draw(12, 2, "a"), draw(1, 22, "a")]
    assert all(other != draw(1, 2, "a") for other in others)


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    seed=st.integers(0, 999),
    area=st.floats(0.01, 1.0),
    ratio=st.floats(0.2, 1.0),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_boxes_stay_inside(height: int, width: int, seed: int, area: float, ratio: float) -> None:
    options = replace(STRONG, crop_area=(area, 1.0), crop_ratio=(ratio, 1 / ratio))
    change = draw_change(options, height, width, clip_rng(seed, 0, "a", "augment"))
    left, top, box_width, box_height = change.box
    assert left >= 0 and top >= 0 and box_width >= 1 and box_height >= 1
    assert left + box_width <= width and top + box_height <= height
    assert abs(change.angle) <= 15 and 0.7 <= change.contrast <= 1.3
    assert all(0.7 * 0.8 <= gain <= 1.3 * 1.2 for gain in change.gains)


def test_switching_one_option_leaves_the_others() -> None:
    for epoch in range(5):
        full = draw_change(STRONG, 200, 200, clip_rng(0, epoch, "a", "augment"))
        less = draw_change(replace(STRONG, rotation=0.0, flip=0.0), 200, 200, clip_rng(0, epoch, "a", "augment"))
        assert replace(full, angle=0.0, flip=False) == replace(less, angle=0.0)


def test_draws_cover_their_ranges() -> None:
    changes = [draw_change(STRONG, 200, 200, clip_rng(0, 0, str(n), "augment")) for n in range(2000)]
    assert 0.45 < np.mean([change.flip for change in changes]) < 0.55
    shares = np.array([change.box[2] * change.box[3] / 40_000 for change in changes])
    assert shares.min() > 0.28 and shares.max() < 0.92 and abs(shares.mean() - 0.6) < 0.03
    angles = np.array([change.angle for change in changes])
    assert angles.min() < -14 and angles.max() > 14 and abs(angles.mean()) < 1
    lefts = np.array([change.box[0] / (200 - change.box[2]) for change in changes if change.box[2] < 200])
    assert abs(lefts.mean() - 0.5) < 0.03
