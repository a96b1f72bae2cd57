"""`fclip report --explain` on a trained run: what it stores is what the model does, and the page shows it."""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from fclip.engine.evaluate.predictions import read_predictions
from fclip.report.explanations import agreement_interval, class_similarities, map_pictures, read_explanations
from fclip.report.page.figures import FOREGROUND
from fclip.stages import evaluate, report, train


@pytest.fixture(scope="module")
def explained(workspace, tmp_path_factory):
    """Folder of a report with explanations of a dagger run (random small CLIP) beside a dfer-clip run."""
    out = tmp_path_factory.mktemp("explained")
    small = {"root": workspace, "dataset": "demo7", "clip": "tiny", "clip_weights": "random", "epochs": 1}
    runs = []
    for variant in ("dagger", "base", "linear-probe"):
        runs.append(str(out / variant))
        train.run(train.Config(variant=variant, out=out / variant, batch_size=8, **small))
    evaluate.run(evaluate.Config(root=workspace, runs=tuple(runs)))
    report.run(report.Config(root=workspace, runs=tuple(runs), out=out / "r.html", explain=5, attention=True, clips=3))
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
    assert found.relevance.shape == (5, 4, 5, 5) and found.occlusion.shape == (5, 5, 5)
    assert (np.abs(found.agreement) <= 1).all() and found.relevance.std() > 0
    positive, _ = class_similarities(found)["caption"]
    assert np.isfinite(positive).sum() == 5


def test_the_page_shows_clips_captions_and_attention(explained):
    text = (explained / "r.html").read_text()
    found = [read_explanations(explained / name / "eval" / "explanations.npz") for name in ("dagger", "base")]
    agree = any(agreement_interval(each)[1] > 0 for each in found)  # else no map of relevance is shown
    worst = len(re.findall("alt=[^>]*, taken for", text))
    assert 0 < worst <= 6
    assert text.count("data:image/jpeg;base64,") == worst + (9 if agree else 6)  # clips, attention, relevance: 3 each
    for heading in (
        "Where the class token looks",
        "Why clips were classified so",
        "Clips of demo7",
        "Captions of demo7, before and after refinement",
    ):
        assert heading in text
    assert "trained and tested with captions (template, label-blind)" in text
    assert FOREGROUND not in text


def test_attention_of_the_runs_of_a_clip_stands_under_one_another(explained):
    """Fig. 6: frames, then a row a run, base above what reads captions too; a run with clips of its own stands alone."""
    found = {name: read_explanations(explained / name / "eval" / "explanations.npz") for name in ("dagger", "base")}
    pictures = map_pictures(found, 3, "attention")
    assert len(pictures) == 3
    for picture in pictures:
        assert picture.caption.index("base predicted") < picture.caption.index("dagger predicted")
        image = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"), float)
        assert image.shape == (3 * 80 + 2 * 3, 4 * 80 + 3 * 3, 3)
        key = picture.caption.partition(":")[0]
        for row, each in enumerate((None, found["base"], found["dagger"])):
            part = image[row * 83 : row * 83 + 80, :80]
            index = found["base"].keys.tolist().index(key)
            if each is None:
                assert np.abs(part - found["base"].frames[index][0]).mean() < 6
            else:
                heat = (part[..., 0] - part[..., 2]).reshape(5, 16, 5, 16).mean((1, 3))
                assert np.corrcoef(heat.ravel(), each.attention[index][0].ravel())[0, 1] > 0.5
    other = dataclasses.replace(found["base"], keys=np.array([f"other{i}" for i in range(5)]))
    assert len(map_pictures({"dagger": found["dagger"], "base": other}, 3, "relevance")) == 6


def test_explaining_again_gives_the_same_file(explained, workspace):
    path = explained / "dagger" / "eval" / "explanations.npz"
    before = path.read_bytes()
    run = (str(explained / "dagger"),)
    report.run(report.Config(root=workspace, runs=run, out=explained / "again.html", explain=5))
    assert path.read_bytes() == before
