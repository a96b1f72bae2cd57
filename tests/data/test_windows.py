"""Windows over a video: they cover it, stay in place, and share frames where they overlap by half."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.data.media.sampling import SamplingPlan, Timeline, segment_centres
from fclip.data.media.windows import plan_windows, window_bounds
from fclip.errors import FclipError


def test_window_bounds() -> None:
    """Equal windows; the last one ends with the video; a short video is one window."""
    assert window_bounds(3.0, 4.0, 2.0) == [(0.0, 3.0)]
    assert window_bounds(8.0, 4.0, 2.0) == [(0.0, 4.0), (2.0, 6.0), (4.0, 8.0)]
    assert window_bounds(9.0, 4.0, 4.0) == [(0.0, 4.0), (4.0, 8.0), (5.0, 9.0)]
    with pytest.raises(FclipError, match="above 0"):
        window_bounds(9.0, 4.0, 0.0)


@given(st.floats(0.1, 1e4), st.floats(0.05, 60), st.floats(0.5, 60))
def test_windows_cover_everything(duration: float, window: float, stride: float) -> None:
    """First at 0, last at the end, no gap when the stride is not above the window."""
    bounds = window_bounds(duration, window, stride)
    assert bounds[0][0] == 0 and bounds[-1][1] == pytest.approx(duration)
    assert all(a[0] < b[0] for a, b in zip(bounds, bounds[1:], strict=False))
    if stride <= window:
        assert all(b[0] <= a[1] + 1e-6 for a, b in zip(bounds, bounds[1:], strict=False))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.floats(1, 60), st.floats(0.1, 8), st.floats(0.1, 8), st.integers(1, 20), st.booleans())
def test_windows_share_a_grid_and_stay_in_place(
    count: int, fps: float, window: float, stride: float, frames: int, every: bool
) -> None:
    """A window takes what the plan takes of its stretch, but for half a step of the grid that windows share."""
    timeline = Timeline(np.arange(count) / fps, count / fps)
    plan = SamplingPlan(None if every else frames)
    indices, windows = plan_windows(timeline, plan, window, stride)
    assert (np.diff(indices) > 0).all()
    step = max(window / frames, 1 / fps)
    for each in windows:
        taken = indices[each.rows]
        alone = plan.indices(timeline) if len(windows) == 1 else None
        assert alone is None or np.array_equal(taken, alone)
        times = timeline.times[taken]
        assert (np.diff(taken) >= 0).all()
        assert times[0] >= each.start - step - 1e-6 and times[-1] <= each.end + step + 1e-6
    if not every and len(windows) > 2 and 2 * stride == window and frames % 2 == 0:
        assert np.array_equal(windows[0].rows[frames // 2 :], windows[1].rows[: frames // 2])


def test_windows_that_overlap_by_half_share_half_of_their_frames() -> None:
    timeline = Timeline(np.arange(500) / 25, 20.0)
    indices, windows = plan_windows(timeline, SamplingPlan(16), 3.0, 1.5)
    for one, two in zip(windows[:-2], windows[1:-1], strict=True):
        assert np.array_equal(one.rows[8:], two.rows[:8])
    assert np.array_equal(indices[windows[0].rows], segment_centres(75, 16))
