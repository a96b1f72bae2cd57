"""Sources wider than 4K are decoded smaller, so that what is held has a bound; what is seen in them stays the same."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fclip.data.media import images
from fclip.data.media.video import open_source, write_video
from fclip.faces.base import create_detector
from fclip.seeing import windows as windows_module
from fclip.seeing.crops import face_clips
from fclip.seeing.preparation import Cropping
from fclip.seeing.windows import SampleMaker
from fclip.synth.clips import render_clip, sample_clip

CROPPING = Cropping("6", 64)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered clip of a second, drawn out to 480 x 640."""
    rendered = render_clip(sample_clip("happiness", 3, 5, ("happiness", "anger")), 160, 25).frames
    path = tmp_path_factory.mktemp("wide") / "wide.mp4"
    large = [np.asarray(Image.fromarray(frame).resize((640, 480), Image.Resampling.BICUBIC)) for frame in rendered]
    write_video(path, large, 25, 12)
    return path


def bound(monkeypatch: pytest.MonkeyPatch, pixels: int, frames: float) -> None:
    """Let frames of more than so many pixels count as wide, and so many of them be held."""
    monkeypatch.setattr(images, "MAX_PIXELS", pixels)
    monkeypatch.setattr(images, "IN_FLIGHT", int(frames * pixels))


def test_windows_hold_no_more_pixels_than_allowed_and_see_the_same(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = create_detector("lite")
    whole = list(SampleMaker(CROPPING, detector).windows(wide, 0.4, 0.2))
    held: list[int] = []
    read = windows_module._Frames._read

    def watched(self: windows_module._Frames, last: int) -> None:
        read(self, last)
        blocks = {id(block): block.size // 3 for block in (frame.base for frame in self.held.values())}
        held.append(sum(blocks.values()))

    monkeypatch.setattr(windows_module._Frames, "_read", watched)
    bound(monkeypatch, 240 * 320, 8)
    small = list(SampleMaker(CROPPING, detector).windows(wide, 0.4, 0.2))
    assert 0 < max(held) <= images.IN_FLIGHT
    assert len(small) == len(whole) > 2
    for seen, expected in zip(small, whole, strict=True):
        assert np.array_equal(seen.times, expected.times)
        assert np.abs(seen.boxes - expected.boxes).max() < 0.03 * 640, "boxes are in pixels of the source"
        assert seen.sample is not None and expected.sample is not None
        apart = np.abs(seen.sample.frames.astype(float) - expected.sample.frames)
        assert apart.mean() < 4


def test_crop_boxes_are_in_pixels_of_the_source(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = create_detector("lite")
    (expected,) = face_clips(wide, CROPPING, detector)
    bound(monkeypatch, 240 * 320, 16)
    (found,) = face_clips(wide, CROPPING, detector)
    assert found.boxes is not None and expected.boxes is not None
    assert np.abs(found.boxes - expected.boxes).max() < 0.03 * 640
    assert np.abs(found.crops.astype(float) - expected.crops).mean() < 4


def test_up_to_4k_nothing_changes_and_a_turned_source_keeps_its_sides(tmp_path: Path) -> None:
    assert images.bounded_size((2160, 3840), 1000) is None
    side = images.bounded_size((8192, 8192), 16)
    assert side == 2896 and images.fit_size(8192, 8192, None) == (side, side)
    assert isinstance(few := images.bounded_size((8192, 4096), 100), int)
    height, width = images.fit_size(8192, 4096, few)
    assert 0.98 * images.IN_FLIGHT < 100 * height * width <= images.IN_FLIGHT
    assert images.source_pixels((4096, 8192), (height, width, 3)) == pytest.approx([4096 / width, 8192 / height] * 2)
    frame = np.zeros((30, 50, 3), np.uint8)
    write_video(tmp_path / "a.mp4", [frame], 25)
    Image.fromarray(frame).save(tmp_path / "a.png")
    Image.fromarray(frame).save(tmp_path / "a.webp", save_all=True, append_images=[Image.fromarray(frame + 9)])
    for name in ("a.mp4", "a.png", "a.webp"):
        with closing(open_source(tmp_path / name)) as source:
            assert source.extent == (30, 50)
