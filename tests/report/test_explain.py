"""`fclip report --explain` on a trained run: what it stores is what the model does, and the page shows it."""

from __future__ import annotations

import numpy as np
import pytest

from fclip.engine.evaluate.predictions import read_predictions
from fclip.report.explanations import class_similarities, read_explanations
from fclip.report.page.figures import FOREGROUND
from fclip.stages import evaluate, report, train


@pytest.fixture(scope="module")
def explained(workspace, tmp_path_factory):
    """Folder of a report with explanations of a dagger run (random small CLIP) beside a dfer-clip run."""
    out = tmp_path_factory.mktemp("explained")
    small = {"root": workspace, "dataset": "demo7", "clip": "tiny", "clip_weights": "random", "epochs": 1}
    runs = []
    for variant in ("dagger", "linear-probe"):
        runs.append(str(out / variant))
        train.run(train.Config(variant=variant, out=out / variant, batch_size=8, **small))
    evaluate.run(evaluate.Config(root=workspace, runs=tuple(runs)))
    report.run(report.Config(root=workspace, runs=tuple(runs), out=out / "r.html", explain=5, clips=3))
    return out


def test_explanations_are_of_the_evaluated_model(explained):
    found = read_explanations(explained / "dagger" / "eval" / "explanations.npz")
    assert not (explained / "linear-probe" / "eval" / "explanations.npz").exists()
    assert found.modalities.tolist() == ["frames", "caption"]
    table = read_predictions(explained / "dagger" / "eval" / "predictions.csv")
    assert len(found.keys) == 5
    assert len(set(found.labels.tolist())) == 5
    for i, key in enumerate(found.keys.tolist()):
        expected = table.probabilities[table.keys.index(key)]
        scores = np.exp(found.logits[i] - found.logits[i].max())
        assert scores / scores.sum() == pytest.approx(expected, abs=2e-4)
        assert found.labels[i] == table.true[table.keys.index(key)]
    # Eq. 9: a modality's weight is the softmax of its best similarity, positive less negative
    best = (found.positive - found.negative).max(axis=2)  # (N, M)
    weights = np.exp(best) / np.exp(best).sum(axis=1, keepdims=True)
    assert found.weights == pytest.approx(weights, abs=1e-5)
    # attention of the class token over the patches, of itself the rest
    assert found.attention.shape == (5, 4, 5, 5)
    assert (found.attention >= 0).all()
    assert (found.attention.sum(axis=(2, 3)) <= 1 + 1e-5).all()
    assert found.frames.shape == (5, 4, 80, 80, 3)
    positive, _ = class_similarities(found)["caption"]
    assert np.isfinite(positive).sum() == 5


def test_the_page_shows_clips_captions_and_attention(explained):
    text = (explained / "r.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 6  # three clips, three with attention
    for heading in ("Why clips were classified so", "Clips of demo7", "Captions of demo7, before and after refinement"):
        assert heading in text
    assert "trained and tested with captions (template, label-blind)" in text
    assert FOREGROUND not in text


def test_explaining_again_gives_the_same_file(explained, workspace):
    path = explained / "dagger" / "eval" / "explanations.npz"
    before = path.read_bytes()
    run = (str(explained / "dagger"),)
    report.run(report.Config(root=workspace, runs=run, out=explained / "again.html", explain=5))
    assert path.read_bytes() == before
