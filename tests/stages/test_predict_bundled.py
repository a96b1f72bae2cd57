"""The run that comes with fclip: `fclip predict FILE` on real clips, with no further option."""

from __future__ import annotations

import numpy as np
import pytest

from fclip.engine.predict.basis import bundled_run
from fclip.models.checkpoint import load_checkpoint
from fclip.stages import predict

SIX = {"anger", "disgust", "happiness", "neutral", "sadness", "surprise"}


@pytest.fixture(params=["lite", "mediapipe"])
def detector(request, monkeypatch):
    if request.param == "mediapipe":
        pytest.importorskip("mediapipe")
        monkeypatch.setenv("FCLIP_MODELS", str(request.getfixturevalue("models_dir")))
    return request.param


def test_a_real_clip_is_answered_as_it_comes(samples, monkeypatch):
    """No option at all: whichever detector is there, the run that was made with it answers."""
    monkeypatch.delenv("FCLIP_MODELS", raising=False)
    report = predict.run(predict.Config(videos=(str(samples / "clips" / "single_face.mp4"),)))
    result = report.values["predictions"][0]
    assert report.exit_code == 0
    assert set(result["probabilities"]) == SIX
    assert result["label"] in SIX
    assert report.lines[0].endswith(" %)")
    rests_on = next(line for line in report.lines if line.startswith("note: signals-probe on tiny, trained on "))
    assert "held-out UAR" in rests_on
    assert rests_on.endswith("expression shown, not emotion felt")


def test_a_smile_is_happiness(samples, detector):
    """The man of single_face.mp4 smiles in the second half."""
    config = predict.Config(videos=(str(samples / "clips" / "single_face.mp4"),), crop=detector, window=1, stride=0.5)
    windows = predict.run(config).values["predictions"][0]["windows"]
    end = windows[-1]["end"]
    later = [w["probabilities"]["happiness"] for w in windows if w["start"] >= end / 2]
    assert np.mean(later) > 0.5


@pytest.mark.parametrize("name", ["lite", "mediapipe"])
def test_the_card_says_what_was_measured(name):
    path = bundled_run(name)
    assert path.stem == name, "each back end has a run of its own"
    state, meta = load_checkpoint(path)
    card = meta["card"]
    assert meta["preparation"]["cropping"]["crop"] == meta["preparation"]["analysis"]["backend"] == name
    assert set(card["recall"]) == set(meta["classes"]) == SIX
    assert np.mean(list(card["recall"].values())) == pytest.approx(card["uar"], abs=1)
    low, high = card["uar_interval"]
    assert 50 < low < card["uar"] < high
    assert any("disgust" in limit and "one person" in limit for limit in card["limits"])
    assert sum(tensor.nbytes for tensor in state.values()) < 1e6
