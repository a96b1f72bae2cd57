"""Expression signals: finite, with names of their own; the same wherever the face is, however large and turned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.faces.base import create_backend
from fclip.faces.landmarks import flip_landmarks
from fclip.faces.signals import align_mesh, aligned_face, with_signals
from fclip.files import resource_json
from fclip.records import FaceTrack
from fclip.synth.clips import render_clip, sample_clip

CLASSES = ("happiness", "surprise")


@pytest.fixture(scope="module")
def rendered() -> tuple[np.ndarray, FaceTrack]:
    """Four rendered frames of a smile, and where its landmarks are."""
    clip = render_clip(sample_clip("happiness", 3, 5, CLASSES), 160, 4)
    return clip.frames, track_of(clip.landmarks)


def track_of(landmarks: np.ndarray, **more: np.ndarray) -> FaceTrack:
    count = len(landmarks)
    parsing = np.zeros((count, 160, 160), np.uint8)
    return FaceTrack(parsing, landmarks.astype(np.float32), np.ones(count, np.float32), **more)


def columns(track: FaceTrack, start: str) -> np.ndarray:
    return track.signals[:, [name.startswith(start) for name in track.signal_names]]


def test_names_units_and_frames_without_a_face(rendered: tuple[np.ndarray, FaceTrack]) -> None:
    frames, track = rendered
    track = with_signals(track_of(track.landmarks), frames)
    track.confidence[1] = 0
    gap = with_signals(track_of(track.landmarks, filled=None), frames)
    assert len(set(track.signal_names)) == len(track.signal_names) == len(track.signal_units) == track.signals.shape[1]
    assert track.signals.dtype == np.float32 and np.isfinite(track.signals).all()
    unseen = track_of(track.landmarks)
    unseen.confidence[1] = 0
    found = with_signals(unseen, frames).signals
    assert not found[1].any() and np.array_equal(found[[0, 2, 3]], gap.signals[[0, 2, 3]])
    assert with_signals(gap, frames) is gap


def test_the_names_are_those_of_the_table(rendered: tuple[np.ndarray, FaceTrack], models_dir) -> None:
    """Models that read signals are built from the table, before they see any clip."""
    frames, track = rendered
    table = resource_json("signal_names.json")
    assert list(with_signals(track, frames).signal_names) == table["landmarks"]
    backend = create_backend("mediapipe", weights=models_dir / "face_landmarker.task")
    assert list(with_signals(backend.analyze(frames), frames).signal_names) == table["mesh"]


@given(shift=st.tuples(*[st.integers(-20, 20)] * 2), size=st.floats(0.6, 1.5), degrees=st.floats(-25, 25))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_measures_and_points_do_not_depend_on_place_size_and_roll(rendered, shift, size: float, degrees: float) -> None:
    frames, track = rendered
    cos, sin = size * np.cos(np.radians(degrees)), size * np.sin(np.radians(degrees))
    turned = (track.landmarks - 0.5) @ np.array([[cos, sin], [-sin, cos]]) + 0.5 + np.array(shift) / 160
    plain, moved = with_signals(track, frames), with_signals(track_of(turned), frames)
    for start in ("measure.", "point."):
        assert np.allclose(columns(plain, start), columns(moved, start), atol=2e-3), start


def test_a_mirrored_picture_has_the_same_points_and_creases(rendered: tuple[np.ndarray, FaceTrack]) -> None:
    frames, track = rendered
    plain = with_signals(track, frames)
    mirrored = with_signals(track_of(flip_landmarks(track.landmarks.copy())), np.ascontiguousarray(frames[:, :, ::-1]))
    assert np.allclose(columns(plain, "point."), columns(mirrored, "point."), atol=1e-5)
    assert np.abs(columns(plain, "crease.") - columns(mirrored, "crease.")).mean() < 0.02
    for name in ("browAngle", "mouthCornerHeight"):
        right, left = (f"measure.{name}{side}" for side in ("Right", "Left"))
        assert np.allclose(columns(plain, right), columns(mirrored, left), atol=1e-4)


def test_creases_do_not_depend_on_light_and_lie_where_edges_are() -> None:
    points = np.zeros((68, 2))
    for part, (x, y) in ((slice(36, 42), (30, 35)), (slice(42, 48), (70, 35)), (slice(31, 36), (50, 62))):
        points[part] = x, y
    points[48:60] = 50, 82
    frame = np.full((100, 100, 3), 60, np.uint8)
    frame[:, 45:] = 180  # a vertical edge just beside the middle
    assert aligned_face(frame, points, 32).std() > 50
    track = FaceTrack(
        np.zeros((1, 100, 100), np.uint8), (points[None] / 100).astype(np.float32), np.ones(1, np.float32)
    )
    found = with_signals(track, frame[None])
    strong = {
        name
        for name, value in zip(found.signal_names, found.signals[0], strict=True)
        if name.startswith("crease.") and value > 0.5
    }
    assert strong == {f"crease.{row}.3.0" for row in range(8)}
    darker = with_signals(track, frame[None] // 2)
    assert np.abs(columns(found, "crease.") - columns(darker, "crease.")).max() < 0.05


@given(angles=st.tuples(*[st.floats(-40, 40)] * 3), size=st.floats(30, 300))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_aligned_mesh_is_the_same_for_every_pose(angles: tuple[float, ...], size: float) -> None:
    pitch, yaw, roll = np.radians(angles)
    c, s = np.cos, np.sin
    about_y = np.array([[c(yaw), 0, s(yaw)], [0, 1, 0], [-s(yaw), 0, c(yaw)]])
    about_x = np.array([[1, 0, 0], [0, c(pitch), -s(pitch)], [0, s(pitch), c(pitch)]])
    about_z = np.array([[c(roll), s(roll), 0], [-s(roll), c(roll), 0], [0, 0, 1]])
    head = np.random.default_rng(0).normal(size=(478, 3))
    head -= head.mean(axis=0)
    turned = (head @ (about_y @ about_x @ about_z).T * size + (100, 50, 0)) * (1, -1, -1)
    aligned = align_mesh(turned[None], np.array([angles]))[0]
    assert np.allclose(aligned, head / np.linalg.norm(head), atol=1e-6)
