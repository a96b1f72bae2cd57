"""Joining detections over frames, scene cuts, crop boxes, smoothing, gaps: on cases whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fclip.errors import ClipFailure
from fclip.faces.boxes import intersection_over_union, within, without_doubles
from fclip.faces.crop import crop_faces
from fclip.faces.linking import link, scene_cuts
from fclip.faces.smoothing import bilateral
from fclip.faces.tracker import find_face_track, find_face_tracks
from fclip.faces.tracks import fill_gaps, smooth_track
from fclip.records import PARSING_CLASSES, FaceTrack
from tests.faces.clips import decode

SECONDS = np.arange(40) / 25


class Listed:
    """A detector that returns what it was given."""

    name = "listed"

    def __init__(self, boxes: list[list[list[float]]]) -> None:
        self.fingerprint: dict[str, str] = {}
        self.boxes = [np.array(frame, np.float32).reshape(-1, 5) for frame in boxes]

    def detect(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[np.ndarray]:
        return self.boxes


def _frames(count: int) -> np.ndarray:
    return np.full((count, 100, 160, 3), 128, np.uint8)


def _box(x: float, y: float, side: float = 20, score: float = 1.0) -> list[float]:
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2, score]


def test_overlap() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6]], float)
    expected = np.array([[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 1]])
    assert np.allclose(intersection_over_union(boxes, boxes), expected)
    twice = np.array([[0, 0, 10, 10, 0.5], [1, 0, 11, 10, 0.9], [30, 0, 40, 10, 0.1]])
    assert without_doubles(twice)[:, 4].tolist() == [0.9, 0.1]


def test_two_faces_that_walk_keep_their_tracks() -> None:
    """One from the left, one from the right, above each other where they meet; listed in changing order."""
    frames = [[_box(20 + 4 * t, 30), _box(140 - 4 * t, 60)][:: 1 if t % 2 else -1] for t in range(30)]
    tracks = link([np.array(f) for f in frames], np.zeros(30, bool))
    assert [len(track.indices) for track in tracks] == [30, 30]
    assert {len({box[1] for box in track.boxes}) for track in tracks} == {1}  # each stays at its height


def test_main_face_is_large_and_lasting() -> None:
    """A large face for 3 frames, a middling one for 20, a small one for 20."""
    frames = [[_box(40, 50, 16), _box(120, 50, 8)] + ([_box(80, 20, 30)] if t < 3 else []) for t in range(20)]
    tracks = link([np.array(f) for f in frames], np.zeros(20, bool))
    assert [round(float(np.ptp(track.boxes[0][::2]))) for track in tracks] == [16, 8, 30]


def test_two_boxes_on_one_face_are_one_track() -> None:
    frames = [[_box(50 + t, 50)] + ([_box(51 + t, 51, 19, 0.9)] if t % 3 == 1 else []) for t in range(9)]
    assert [len(track.indices) for track in link([np.array(f) for f in frames], np.zeros(9, bool))] == [9]


def test_the_only_face_may_jump_between_sampled_frames_but_not_over_a_cut() -> None:
    boxes = [np.array([_box(30, 50)])] * 3 + [np.array([_box(120, 40, 26)])] * 3
    assert [len(track.indices) for track in link(boxes, np.zeros(6, bool))] == [6]
    cut = np.arange(6) == 3
    assert [track.indices for track in link(boxes, cut)] == [[3, 4, 5], [0, 1, 2]]


def test_scene_cuts_of_real_clips(samples: Path) -> None:
    frames, _ = decode(samples / "odd" / "cuts_3speakers.mp4", every=5)
    assert np.flatnonzero(scene_cuts(frames)).tolist() == [5, 10]
    for name in ("single_face.mp4", "bbaf2n.mpg", "help.mkv"):
        frames, _ = decode(samples / "clips" / name, every=6)
        assert not scene_cuts(frames).any(), name


def test_crop_boxes_gap_confidence_and_span() -> None:
    boxes = [[], [_box(50, 50)], [_box(50, 50)], [], [], [_box(80, 50, score=0.5)], [], [], [], [], [_box(80, 50)], []]
    track = find_face_track(_frames(12), None, Listed(boxes), margin=2, smooth=False)
    assert track.confidence.tolist() == [0, 1, 1, 0.25, 0.25, 0.5, 0, 0, 0, 0, 1, 0]
    assert track.filled.tolist() == [t in (3, 4) for t in range(12)]
    assert track.span == slice(1, 11)
    assert track.boxes.dtype == np.float32 and np.allclose(track.boxes[:, 2:] - track.boxes[:, :2], 40)  # 2 x 20
    assert np.allclose(track.boxes[3], [40, 30, 80, 70]) and np.allclose(track.boxes[0], track.boxes[1])


def test_no_face_at_all() -> None:
    with pytest.raises(ClipFailure, match="no face found in any of 5 frames"):
        find_face_track(_frames(5), None, Listed([[]] * 5))


def test_an_opening_mouth_does_not_zoom() -> None:
    """The box grows by a fifth for half a second; the crop's side by much less, and its place hardly."""
    boxes = [[[40, 40, 60, 60 + (4 if 10 <= t < 22 else 0), 1.0]] for t in range(40)]
    track = find_face_track(_frames(40), SECONDS, Listed(boxes), margin=1)
    sides = track.boxes[:, 2] - track.boxes[:, 0]
    assert np.ptp(sides) < 0.6 * 4


def test_every_face_is_a_track() -> None:
    boxes = [[_box(40, 50, 20), _box(120, 50, 14)] for _ in range(6)]
    tracks = find_face_tracks(_frames(6), None, Listed(boxes))
    assert [round(float(t.boxes[0, 2] - t.boxes[0, 0])) for t in tracks] == [30, 21]


def test_jitter_goes_and_fast_movement_stays_without_lag() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.3, (40, 1))
    still = bilateral(noise, SECONDS, 0.1, 2.0)
    assert still[5:-5].std() < 0.5 * noise[5:-5].std()
    step = np.where(SECONDS[:, None] < 0.8, 0.0, 50.0)
    assert np.allclose(bilateral(step, SECONDS, 0.1, 2.0), step)
    fast = 400 * SECONDS[:, None]  # 16 a frame
    assert np.allclose(bilateral(fast, SECONDS, 0.1, 2.0), fast, atol=1e-3)
    slow = 5 * SECONDS[:, None]
    assert np.allclose(bilateral(slow, SECONDS, 0.1, 2.0)[8:-8], slow[8:-8], atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31), st.floats(0.001, 10))
def test_smoothing_stays_between_the_values(count: int, seed: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    values, valid = rng.normal(0, 5, (count, 3, 2)), rng.random(count) < 0.7
    smooth = bilateral(values, np.cumsum(rng.random(count) + 1e-3), sigma, sigma, valid)
    assert np.allclose(smooth[~valid], values[~valid])
    if valid.any():
        low, high = values[valid].min(0) - 1e-9, values[valid].max(0) + 1e-9
        assert (smooth[valid] >= low).all() and (smooth[valid] <= high).all()


def test_crop_is_pillows_and_repeats_the_border(samples: Path) -> None:
    frames, _ = decode(samples / "clips" / "single_face.mp4", stop=2)
    box = np.array([200.25, 100.5, 401.75, 302.0])
    expected = Image.fromarray(frames[1]).resize((64, 64), Image.Resampling.BICUBIC, box=tuple(box))
    assert np.array_equal(crop_faces(frames, np.stack([box, box]), 64)[1], np.asarray(expected))
    outside = crop_faces(frames[:1], np.array([[-100, -50, 40, 90]]), 70)[0]
    assert np.abs(outside[30:, 5].astype(int) - outside[30:, 45]).max() <= 2  # to the left: column 0 repeated
    wide = np.pad(frames[0], ((200, 200), (200, 200), (0, 0)), mode="edge")
    assert np.array_equal(outside, crop_faces(wide[None], np.array([[100, 150, 240, 290]]), 70)[0])
    mixed = crop_faces([frames[0], frames[1][:200]], np.stack([box, box - 90]), 32)
    assert mixed.shape == (2, 32, 32, 3) and mixed.dtype == np.uint8


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [0, 0, np.nan, 5], [0, 0, 1e6, 1e6], [9, 9, 3, 3]])
def test_boxes_that_cannot_be_meant(box: list[float]) -> None:
    with pytest.raises(ClipFailure, match="face box"):
        crop_faces(_frames(1), np.array([box]), 16)


def _track(count: int) -> FaceTrack:
    ramp = np.arange(count, dtype=np.float32)
    landmarks = np.random.default_rng(0).random((68, 2)).astype(np.float32)[None] + 0.01 * ramp[:, None, None]
    return FaceTrack(
        np.repeat(ramp[:, None, None], 12, 1).repeat(10, 2).astype(np.uint8) % len(PARSING_CLASSES),
        landmarks,
        np.ones(count, np.float32),
        np.tile(0.1 * ramp[:, None], (1, 52)),
        np.tile(ramp[:, None], (1, 3)),
    )


def test_short_gaps_are_filled_and_marked_long_ones_are_not() -> None:
    full, track = _track(10), _track(10)
    for missing in (0, 2, 3, 6, 7, 8):
        for values in (track.parsing, track.landmarks, track.confidence, track.blendshapes, track.pose):
            assert values is not None
            values[missing] = 0
    result = fill_gaps(track, max_gap=2)
    assert result.filled is not None and np.flatnonzero(result.filled).tolist() == [2, 3]
    assert result.confidence.tolist() == [0, 1, 0.5, 0.5, 1, 1, 0, 0, 0, 1]
    for name in ("landmarks", "blendshapes", "pose"):
        assert np.allclose(getattr(result, name)[1:5], getattr(full, name)[1:5], atol=1e-6), name
    assert result.parsing[:, 0, 0].tolist() == [0, 1, 1, 4, 4, 5, 0, 0, 0, 9]
    assert not track.landmarks[2].any()  # the input is left alone
    assert fill_gaps(_track(4)).filled.tolist() == [False] * 4  # type: ignore[union-attr]


def test_smoothed_track() -> None:
    rng = np.random.default_rng(1)
    face, count = rng.random((68, 2)), 30
    landmarks = (face + rng.normal(0, 0.002, (count, 68, 2))).astype(np.float32)
    landmarks[15:] += 0.2  # a jump
    confidence = np.ones(count, np.float32)
    landmarks[20], confidence[20] = 0, 0
    track = FaceTrack(np.zeros((count, 4, 4), np.uint8), landmarks, confidence)
    smooth = smooth_track(track, np.arange(count) / 25)
    true = face + 0.2 * (np.arange(count) >= 15)[:, None, None]
    error, before = (np.delete(np.abs(x.landmarks - true), 20, 0).mean() for x in (smooth, track))
    assert error < 0.6 * before
    assert not smooth.landmarks[20].any() and smooth.landmarks.dtype == np.float32
    assert smooth_track(track, strength=0) is track


def test_crops_are_kept_within_the_picture_as_far_as_the_face_fits_in():
    squares = np.array([[-20, 10, 80, 110], [-30, -10, 170, 190], [40, 40, 60, 60], [-70, -60, 130, 140]], np.float64)
    kept = within(squares, np.array([60.0, 90.0, 10.0, 150.0]), 160, 120)
    assert kept[0].tolist() == [0, 10, 100, 110], "moved inwards"
    assert kept[1].tolist() == [10, 0, 130, 120], "no larger than the picture, and where it was"
    assert kept[2].tolist() == [40, 40, 60, 60]
    assert kept[3].tolist() == [0, -15, 150, 135], "never smaller than the face: as much beyond on both sides"
