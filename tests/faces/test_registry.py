"""Which face back ends there are, how one is made, third parties' back ends, and what every back end may rely on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fclip import registry
from fclip.config import option
from fclip.errors import ClipFailure, FclipError, MissingExtra, UsageError
from fclip.faces.base import (
    FaceBackend,
    FaceDetector,
    analyze_clips,
    check_frames,
    create_backend,
    create_detector,
    milliseconds,
)
from fclip.records import FaceTrack
from fclip.registry import FACE_BACKENDS, register

CLIP = np.full((3, 8, 10, 3), 90, np.uint8)


@dataclass(frozen=True)
class Level:
    """Its options."""

    level: int = option(50, "what is bright", output=True)


@register(Level)
class Thresholds:
    """A back end of one's own: bright pixels are skin. What the documentation promises: 30 lines are enough."""

    name = "thresholds"

    def __init__(self, options: Level = Level(), device: str = "cpu") -> None:
        self.level = options.level
        self.fingerprint = {"backend": self.name, "level": str(self.level)}

    def analyze(self, frames: np.ndarray, times: np.ndarray | None = None) -> FaceTrack:
        parsing = (check_frames(frames).mean(-1) > self.level).astype(np.uint8)
        if not parsing.any():
            raise ClipFailure("nothing bright")
        count = len(frames)
        return FaceTrack(parsing, np.full((count, 68, 2), 0.5, np.float32), np.ones(count, np.float32))


class Together(Thresholds):
    """The same, seeing all clips at once."""

    def analyze_many(
        self, clips: Sequence[np.ndarray], times: Sequence[np.ndarray | None]
    ) -> list[FaceTrack | ClipFailure]:
        return [ClipFailure(f"seen together: {len(clips)}") for _ in clips]


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    found = [
        EntryPoint("thresholds", f"{__name__}:Thresholds", FACE_BACKENDS.group),
        EntryPoint("broken", "no_such_package:Backend", FACE_BACKENDS.group),
        EntryPoint("lite", f"{__name__}:Thresholds", FACE_BACKENDS.group),  # must not take a built-in name
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == FACE_BACKENDS.group else [])
    registry._entry_points_of.cache_clear()
    yield
    registry._entry_points_of.cache_clear()


def states() -> dict[str, str]:
    return {row["name"]: row["state"] for row in FACE_BACKENDS.table()}


def test_unknown_name_lists_all_names(third_party: None) -> None:
    with pytest.raises(
        UsageError, match="unknown face back end 'nose'.*facexformer, mediapipe, lite, broken, thresholds"
    ):
        create_backend("nose")


def test_third_party_back_end(third_party: None) -> None:
    backend = create_backend("thresholds", level=60)
    assert isinstance(backend, FaceBackend) and not isinstance(backend, FaceDetector)
    assert backend.fingerprint["level"] == "60"
    assert backend.analyze(CLIP).parsing.all()
    rows = {row["name"]: row for row in FACE_BACKENDS.table()}
    assert rows["thresholds"]["needs"] == f"from {__name__}:Thresholds"
    assert "bundled" in rows["lite"]["needs"]
    with pytest.raises(UsageError, match="cannot find faces in whole pictures"):
        create_detector("thresholds")


def test_third_party_back_end_that_does_not_load(third_party: None) -> None:
    with pytest.raises(FclipError, match="'broken'.*no_such_package"):
        create_backend("broken")


def test_mediapipe_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'fclip\[mediapipe\]'"):
        create_backend("mediapipe")
    assert states()["mediapipe"] == "not installed"


def test_state_tells_what_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCLIP_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "find_spec", lambda name: object())
    assert states() == {
        "facexformer": "no weights yet",
        "mediapipe": "no weights yet",
        "lite": "ready",
    }
    (tmp_path / "facexformer.safetensors").touch()
    assert states()["facexformer"] == "ready"


def test_clips_one_by_one_and_together() -> None:
    dark = np.zeros_like(CLIP)
    alone = analyze_clips(Thresholds(), [CLIP, dark, CLIP])
    assert [type(result) for result in alone] == [FaceTrack, ClipFailure, FaceTrack]
    assert str(alone[1]) == "nothing bright"
    together = analyze_clips(Together(), [CLIP, dark])
    assert [str(result) for result in together] == ["seen together: 2"] * 2


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((1, 4, 0, 3), np.uint8),
        np.zeros((1, 4, 4, 4), np.uint8),
        [[1]],
    ],
)
def test_frames_of_a_wrong_kind(frames: Any) -> None:
    with pytest.raises(ClipFailure):
        check_frames(frames)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_timestamps_always_rise(times: list[float]) -> None:
    stamps = milliseconds(np.array(times), len(times))
    assert len(stamps) == len(times)
    assert all(isinstance(stamp, int) and stamp >= 0 for stamp in stamps)
    assert all(a < b for a, b in zip(stamps, stamps[1:], strict=False))


def test_timestamps_are_the_clips_own() -> None:
    assert milliseconds(np.array([0.1, 0.14, 0.14, 0.3]), 4) == [100, 140, 141, 300]
    assert milliseconds(None, 3) == [0, 40, 80]
