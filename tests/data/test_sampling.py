"""Sampling plans: the published indices, sampling by time, and what holds for any input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fclip.data.media.sampling import (
    SamplingPlan,
    Timeline,
    centres_in_time,
    random_in_time,
    random_per_segment,
    segment_centres,
)
from fclip.errors import UsageError
from tests.goldens import Golden, difference

counts = st.integers(1, 3000)
wanted = st.integers(1, 64)


def steady(total: int, fps: float = 25.0, digits: int | None = None) -> Timeline:
    """A constant frame rate, with time stamps rounded as containers do."""
    times = np.arange(total) / fps
    return Timeline(times if digits is None else np.round(times, digits), total / fps)


def test_centres_equal_the_published_loader(parity: Path) -> None:
    """Every clip length and every number of segments of the golden, exactly."""
    golden = Golden(parity, "sampling")
    lengths, wanted = golden.spec["num_frames"], golden.spec["num_segments"]
    assert {f"indices_{segments}" for segments in wanted} == set(golden.outputs.files)
    for segments in wanted:
        mine = np.array([segment_centres(total, segments) for total in lengths])
        told = difference(f"indices_{segments}", mine, golden.outputs[f"indices_{segments}"], {"exact": True})
        assert not told, told
    golden.assert_all_read()


def test_centres_and_padding() -> None:
    """Centres of four segments of eight frames; short clips repeat the last frame."""
    assert segment_centres(8, 4).tolist() == [1, 3, 5, 7]
    assert segment_centres(3, 5).tolist() == [0, 1, 2, 2, 2]
    assert segment_centres(1, 3).tolist() == [0, 0, 0]
    assert segment_centres(5, 5).tolist() == [0, 1, 2, 3, 4]


@given(counts, wanted)
def test_centres_are_valid_and_fair(total: int, frames: int) -> None:
    """Right number, rising, in range, and mirrored segments are hit alike."""
    indices = segment_centres(total, frames)
    assert len(indices) == frames and indices.min() >= 0 and indices.max() < total
    assert (np.diff(indices) >= 0).all()
    if total > frames:
        assert len(set(indices.tolist())) == frames
        assert np.diff(indices).max() - np.diff(indices).min() <= 1 if frames > 1 else True


@given(counts, wanted, st.integers(0, 2**32 - 1))
def test_random_frames_stay_in_their_segments(total: int, frames: int, seed: int) -> None:
    """One frame per segment, the same for the same seed."""
    indices = random_per_segment(total, frames, np.random.default_rng(seed))
    np.testing.assert_array_equal(indices, random_per_segment(total, frames, np.random.default_rng(seed)))
    if total <= frames:
        np.testing.assert_array_equal(indices, segment_centres(total, frames))
    else:
        edges = np.arange(frames + 1) * total // frames
        assert (indices >= edges[:-1]).all() and (indices < edges[1:]).all()


def test_random_frames_reach_every_frame() -> None:
    """All 37 frames are drawn sooner or later, also the tail that the published loader never draws."""
    rng = np.random.default_rng(0)
    seen = {int(index) for _ in range(300) for index in random_per_segment(37, 16, rng)}
    assert seen == set(range(37))


@pytest.mark.parametrize("digits", [None, 3])
@pytest.mark.parametrize("fps", [23.976, 25.0, 29.97, 30.0, 59.94])
@given(total=counts, frames=wanted)
def test_constant_rate_by_time_is_by_index(fps: float, digits: int | None, total: int, frames: int) -> None:
    """Time stamps rounded to milliseconds do not move a sample."""
    np.testing.assert_array_equal(centres_in_time(steady(total, fps, digits), frames), segment_centres(total, frames))


def test_variable_rate_is_sampled_by_time() -> None:
    """40 frames in the first second and 4 in the next three: a quarter of the samples from the first second."""
    times = np.concatenate([np.arange(40) / 40, [1.0, 1.75, 2.5, 3.25]])
    timeline = Timeline(times, 4.0)
    assert not timeline.constant_rate
    indices = centres_in_time(timeline, 16)
    centres = (np.arange(16) + 0.5) / 4
    assert (indices < 40).sum() == 4
    np.testing.assert_array_equal(times[indices[:4]], [0.125, 0.375, 0.625, 0.875])
    for index, centre in zip(indices, centres, strict=True):  # the frame on the screen at that time
        assert times[index] <= centre < np.append(times, 4.0)[index + 1]


@given(st.integers(0, 2**32 - 1))
def test_training_draws_by_time(seed: int) -> None:
    """Constant rate: by index. Otherwise the frame shown at some moment of each equal part of the duration."""
    np.testing.assert_array_equal(
        random_in_time(steady(90), 16, np.random.default_rng(seed)),
        random_per_segment(90, 16, np.random.default_rng(seed)),
    )
    times = np.concatenate([np.arange(40) / 40, [1.0, 1.75, 2.5, 3.25]])
    indices = random_in_time(Timeline(times, 4.0), 16, np.random.default_rng(seed))
    ends = np.append(times, 4.0)[1:]
    parts = np.arange(16) / 4
    assert (np.diff(indices) >= 0).all() and (indices < 40).sum() == 4
    assert (times[indices] < parts + 0.25).all() and (ends[indices] >= parts).all()  # on the screen within the part


@given(st.lists(st.floats(0.001, 2.0), min_size=1, max_size=80), wanted)
def test_any_timeline(steps: list[float], frames: int) -> None:
    """Whatever the time stamps: right number, rising, in range."""
    ends = np.cumsum(steps)
    timeline = Timeline(np.concatenate([[0.0], ends[:-1]]), float(ends[-1]))
    indices = centres_in_time(timeline, frames)
    assert len(indices) == frames and (np.diff(indices) >= 0).all()
    assert indices.min() >= 0 and indices.max() < len(timeline)


def test_part_of_a_timeline() -> None:
    """Frames that begin in an interval; where none does, the one on the screen."""
    timeline = steady(100)
    assert timeline.between(1.0, 2.0) == (25, 50)
    assert timeline.between(None, None) == (0, 100)
    assert timeline.between(1.01, 1.02) == (25, 26)
    part = timeline.cut(25, 50)
    assert len(part) == 25 and part.times[0] == 0 and part.end == pytest.approx(1.0)
    assert timeline.cut(90, 100).end == pytest.approx(0.4)


def test_plans() -> None:
    """A number pads, "all" does not, the cap bounds both."""
    assert SamplingPlan.parse("8").indices(steady(4)).tolist() == [0, 1, 2, 3, 3, 3, 3, 3]
    assert SamplingPlan.parse("all", cap=6).indices(steady(4)).tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(SamplingPlan.parse("all", cap=6).indices(steady(60)), segment_centres(60, 6))
    assert SamplingPlan().frames == 16


@pytest.mark.parametrize("text", ["0", "-3", "many", "513", "1.5", ""])
def test_wrong_plans(text: str) -> None:
    """A usage error in one line."""
    with pytest.raises(UsageError, match="--frames") as caught:
        SamplingPlan.parse(text)
    assert "\n" not in str(caught.value)
