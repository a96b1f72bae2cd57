"""Fixtures shared by all tests: where real clips, model files and goldens lie; a clean environment for each test."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

REPO = Path(__file__).resolve().parent.parent
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script: tests of Ctrl-C need it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"  # the hub's library reads it when imported: no test may reach for the network


def _shared(variable: str, name: str) -> Path:
    path = Path(os.environ.get(variable) or REPO.parent / "shared" / name)
    if not path.is_dir():
        pytest.skip(f"{path} is not there; set {variable} to run this test")
    return path


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real clips and images."""
    return _shared("FCLIP_SAMPLES", "samples")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder with MediaPipe's face_landmarker.task."""
    return _shared("FCLIP_MODELS", "models")


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of numeric goldens of the reference implementations."""
    return _shared("FCLIP_PARITY", "parity")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the papers' figures: published-tables.csv and published-recall-dfew.csv."""
    return _shared("FCLIP_REFERENCE", "reference")


@pytest.fixture(scope="session")
def real_faces() -> Path:
    """Folder of labelled real pictures: pictures.tar and labels.csv (path,label,identity,source)."""
    return _shared("FCLIP_REAL_FACES", "real-faces")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace of 35 rendered clips in 4 frames of 80 x 80 (do not write into it; copy what you change)."""
    from tests.pipeline import build_workspace

    return build_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "FCLIP_ROOT", "FCLIP_DATASET"):
        monkeypatch.delenv(name, raising=False)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  third-party code may use the global generator
