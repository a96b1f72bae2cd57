"""The face stage with a back end of an installed third-party package: counts, gaps, smoothing, the list."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from fclip.stages import face_analyze

PACKAGE = """
import numpy as np
from fclip.records import FaceTrack
from fclip.registry import register

@register()
class Blinkered:
    name = "blinkered"
    def __init__(self, options, device):
        self.fingerprint = {"backend": self.name, "version": "1"}

    def analyze(self, frames, times=None):
        count = len(frames)
        rng = np.random.default_rng(int(frames[0].sum()))
        face = np.random.default_rng(0).uniform(0.3, 0.7, (68, 2))
        points = (face + rng.normal(0, 0.001, (count, 68, 2))).astype(np.float32)
        confidence = np.ones(count, np.float32)
        confidence[1] = points[1] = 0
        return FaceTrack(np.ones(frames.shape[:3], np.uint8), points, confidence)

class Blind(Blinkered):
    name = "blind"
    def analyze(self, frames, times=None):
        track = super().analyze(frames, times)
        track.confidence[:] = 0
        return track
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip leaves it: a module and its dist-info with the entry points."""
    site = tmp_path / "site"
    info = site / "blinkered-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "blinkered_faces.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blinkered\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[fclip.face_backends]\nblinkered = blinkered_faces:Blinkered\nblind = blinkered_faces:Blind\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return site


def run(root: Path, out: Path, **options):
    return face_analyze.run(face_analyze.Config(root=root, dataset="demo7", out=out, **options))


def landmarks(folder: Path) -> np.ndarray:
    with h5py.File(next(folder.glob("*.h5"))) as file:
        return file["landmarks"][:].reshape(-1, 4, 68, 2)


def test_third_party_back_end(workspace, installed, tmp_path):
    report = run(workspace, tmp_path / "a", backend="blinkered", workers=1, limit=8)
    assert report.counts["ok"] == 8
    assert report.values["tally"] == {"frames": 32, "without_face": 8, "filled": 8}
    assert "32 frames, 8 without a face (25.0 %), 8 of these filled" in report.lines
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["tally"] == report.values["tally"]
    unfilled = run(workspace, tmp_path / "b", backend="blinkered", workers=1, limit=8, max_gap=0)
    assert unfilled.values["tally"] == {"frames": 32, "without_face": 8, "filled": 0}
    again = run(workspace, tmp_path / "b", backend="blinkered", workers=1, limit=8, max_gap=0)
    assert again.values["written"] == 0 and again.values["tally"] == unfilled.values["tally"]


def test_smoothing_steadies_landmarks(workspace, installed, tmp_path):
    for name, smooth in (("raw", 0.0), ("smooth", 10.0)):
        run(workspace, tmp_path / name, backend="blinkered", workers=1, limit=4, smooth=smooth)
    raw, smooth = landmarks(tmp_path / "raw"), landmarks(tmp_path / "smooth")
    assert 0 < np.abs(np.diff(smooth, axis=1)).mean() < 0.5 * np.abs(np.diff(raw, axis=1)).mean()


def test_clips_without_any_face_fail_with_their_reason(workspace, installed, tmp_path):
    report = run(workspace, tmp_path / "c", backend="blind", workers=1, limit=4, max_failed=1.0)
    assert report.counts == {"ok": 0, "skipped": 0, "failed": 4}
    assert any("no face found in any of its 4 frames" in line for line in report.lines)
    assert report.values["tally"]["without_face"] == report.values["tally"]["frames"] == 16


def test_help_names_the_extra_to_install(monkeypatch):
    from typer.testing import CliRunner

    from fclip.cli.app import app

    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, ["face-analyze", "--help"]).output
    assert "pip install 'fclip[mediapipe]'" in shown, "square brackets are no markup"


def test_list_names_state_and_need(installed):
    from typer.testing import CliRunner

    from fclip.cli.app import app

    invoked = [CliRunner().invoke(app, ["face-analyze", "--backend", "list", *more]) for more in ([], ["--json"])]
    rows = {row["name"]: row for row in json.loads(invoked[1].output)["backend"]}
    assert rows["blinkered"]["needs"] == "from blinkered_faces:Blinkered"
    assert rows["lite"]["state"] == "ready"
    assert all(any(line.startswith(name) for line in invoked[0].output.splitlines()) for name in rows)
