"""Action units, head pose and lids move the right points in the right direction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fclip.synth.actions import CHANNELS, INDEX, LIMITS, UNITS, Event, Wave, activations
from fclip.synth.geometry import eyelids, mirror, moved_landmarks, neutral_landmarks, project, rotation
from fclip.synth.identity import sample_identity

PERSON = sample_identity(3)


def shift(**channels: float) -> np.ndarray:
    """Displacement (68, 3) of the landmarks when the named channels go from 0 to the given values."""
    values = np.zeros((2, len(CHANNELS)))
    for name, value in channels.items():
        values[1, INDEX[name]] = value
    points, _, _ = moved_landmarks(PERSON, values)
    return points[1] - points[0]


def frontal(**channels: float) -> np.ndarray:
    """Landmarks (68, 2) in the frame with only the named motions."""
    values = np.zeros((1, len(CHANNELS)))
    for name, value in channels.items():
        values[0, INDEX[name]] = value
    points = neutral_landmarks(PERSON)[None]
    return project(points, rotation(values), np.array([[0.5, 0.5]]), np.array([0.2]))[0]


def test_smile_raises_and_spreads_the_mouth_corners() -> None:
    moved = shift(AU12_left=1.0, AU12_right=1.0)
    assert moved[48, 1] < -0.1 and moved[54, 1] < -0.1  # up
    assert moved[48, 0] < -0.05 and moved[54, 0] > 0.05  # outwards
    assert np.allclose(moved[17:27], 0)  # the brows stay


def test_left_is_the_persons_own_left() -> None:
    moved = shift(AU12_left=1.0)
    assert moved[54, 1] < -0.1  # image right
    assert np.allclose(moved[48], 0)
    moved = shift(AU2_right=1.0)
    assert moved[18, 1] < -0.1  # image left
    assert np.allclose(moved[25], 0)


def test_jaw_drop_lowers_chin_and_lower_lip_only() -> None:
    moved = shift(AU26=1.0)
    assert moved[8, 1] > 0.15 and moved[57, 1] > 0.15 and moved[66, 1] > 0.15
    assert abs(moved[51, 1]) < 0.02 and np.allclose(moved[17:48], 0)


@pytest.mark.parametrize(
    ("unit", "points", "sign"),
    [
        ("AU1", (21, 22), -1),
        ("AU4", (20, 21, 22, 23), 1),
        ("AU10", (50, 51, 52), -1),
        ("AU15", (48, 54), 1),
        ("AU17", (8, 57), -1),
        ("AU16", (57, 66), 1),
        ("AU9", (31, 35), -1),
        ("AU27", (8, 57), 1),
    ],
)
def test_units_move_points_up_or_down(unit: str, points: tuple[int, ...], sign: int) -> None:
    moved = shift(**{unit: 1.0})
    assert (sign * moved[list(points), 1] > 0.03).all()


def test_lids_open_narrow_and_close() -> None:
    def aperture(**channels: float) -> float:
        values = np.zeros((1, len(CHANNELS)))
        for name, value in channels.items():
            values[0, INDEX[name]] = value
        points, _, _ = moved_landmarks(PERSON, values)
        return float((points[0, [40, 41], 1] - points[0, [38, 37], 1]).mean())

    rest = aperture()
    assert aperture(AU5=1.0) > 1.2 * rest
    assert aperture(AU7=1.0) < 0.8 * rest
    assert aperture(AU6=1.0) < 0.9 * rest
    assert aperture(AU43=0.8) < 0.7 * rest
    assert 0 <= aperture(AU45=1.0) < 0.1 * rest


def test_pose_signs() -> None:
    rest = frontal()
    eyes = [36, 45]
    turned = frontal(yaw=20.0)
    assert turned[30, 0] - turned[eyes, 0].mean() > rest[30, 0] - rest[eyes, 0].mean() + 0.01  # to the image's right
    nodded = frontal(pitch=15.0)
    assert nodded[30, 1] - nodded[eyes, 1].mean() > rest[30, 1] - rest[eyes, 1].mean()  # down
    tilted = frontal(roll=15.0)
    slope = np.rad2deg(np.arctan2(*(tilted[45] - tilted[36])[::-1]))
    assert slope == pytest.approx(15, abs=1)  # clockwise in the image


def test_neutral_face_is_symmetric() -> None:
    points = neutral_landmarks(sample_identity(11))
    lids = [37, 38, 40, 41, 43, 44, 46, 47]  # set by eyelids()
    rest = np.setdiff1d(np.arange(68), lids)
    assert np.allclose(points[rest], (points[mirror()] * [-1, 1, 1])[rest])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), arrays(np.float64, (2, len(UNITS)), elements=st.floats(0, 1.25)))
def test_any_mixture_of_units_gives_a_possible_face(identity: int, activity: np.ndarray) -> None:
    values = np.zeros((2, len(CHANNELS)))
    values[:, : len(UNITS)] = activity
    person = sample_identity(identity)
    points, upper, lower = moved_landmarks(person, values)
    assert np.isfinite(points).all() and np.abs(points).max() < 3
    assert (points[:, [67, 66, 65], 1] >= points[:, [61, 62, 63], 1]).all()  # lips do not cross
    assert (lower[..., 1] >= upper[..., 1] - 1e-9).all()  # lids do not cross
    again_upper, _ = eyelids(points, values, person)
    assert np.array_equal(again_upper, upper)


def test_time_course_has_onset_apex_offset() -> None:
    event = Event("AU12_left", 0.8, start=0.2, rise=0.2, hold=0.3, fall=0.2)
    times = np.array([0.0, 0.2, 0.3, 0.4, 0.6, 0.8, 0.95])
    course = activations((event,), (), times)[:, INDEX["AU12_left"]]
    assert course == pytest.approx([0, 0, 0.4, 0.8, 0.8, 0.4, 0], abs=1e-9)


def test_strongest_movement_counts_and_limits_hold() -> None:
    events = (Event("AU4", 0.9, -9, 1, 99, 1), Event("AU4", 0.4, -9, 1, 99, 1), Event("yaw", 80.0, -9, 1, 99, 1))
    waves = (Wave("yaw", 40.0, 1.0, 0.0), Wave("AU26", 0.5, 1.0, np.pi, rectified=True))
    values = activations(events, waves, np.linspace(0, 0.5, 20))
    assert np.allclose(values[:, INDEX["AU4"]], 0.9)
    assert np.abs(values[:, INDEX["yaw"]]).max() <= LIMITS["yaw"]
    assert np.allclose(values[:, INDEX["AU26"]], 0, atol=1e-9)  # the negative half of a rectified wave
