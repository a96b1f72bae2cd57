"""Zero-shot transfer: the target's class names only, the source run reused, captions left out, in-domain named."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from fclip.engine.evaluate.aggregate import make_rows
from fclip.engine.predict.opening import open_model
from fclip.errors import FclipError, UsageError
from fclip.report.evaluated import find_evaluated
from fclip.stages import pack, zeroshot
from fclip.stages.report import Config
from tests.pipeline import build_workspace

SMALL = {"clip": "tiny", "clip_weights": "random", "epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def both(workspace, tmp_path_factory):
    """demo7 of the session's workspace and a small demo11 under one root."""
    root = tmp_path_factory.mktemp("both")
    (root / "demo7").symlink_to(workspace / "demo7")
    return build_workspace(root, "demo11", 55)


def test_transfer_from_eleven_classes_to_seven(both):
    report = zeroshot.run(zeroshot.Config(root=both, pretrain="demo11", test="demo7", **SMALL))
    row = report.values["results"][0]
    assert (row["source"], row["dataset"], row["clips"], len(row["folds"])) == ("demo11", "demo7", 35, 5)
    assert len(row["classes"]) == 7
    assert row["modalities"] == ["frames"], "captions of the target stay unused"
    assert any("zero-shot" in line for line in report.lines)
    run = both / "runs" / "demo11-dagger-fold1-seed0"
    stamp = (run / "LAST").stat().st_mtime_ns
    zeroshot.run(zeroshot.Config(root=both, pretrain="demo11", test="demo7", **SMALL))
    assert (run / "LAST").stat().st_mtime_ns == stamp, "the finished source run is reused"
    table = both / "runs" / "demo11-to-demo7-dagger-fold1-seed0" / "eval" / "predictions.csv"
    written = table.stat().st_mtime_ns
    zeroshot.run(zeroshot.Config(root=both, pretrain="demo11", test="demo7", **SMALL))
    assert table.stat().st_mtime_ns == written, "and so is its evaluation"
    used = zeroshot.run(zeroshot.Config(root=both, pretrain="demo11", test="demo7", use_captions=True, **SMALL))
    assert used.values["results"][0]["modalities"] == ["frames+caption"], "both readings of the protocol side by side"
    assert table.stat().st_mtime_ns == written
    named = zeroshot.Config(root=both, pretrain="demo11", test="demo7", use_captions=True, overwrite=False, **SMALL)
    with pytest.raises(UsageError, match="--fold all: demo11 has the folds 1, 2, 3, 4, 5; name the one"):
        zeroshot.run(dataclasses.replace(named, fold="all"))


def test_plain_clip_needs_no_training(both):
    report = zeroshot.run(zeroshot.Config(root=both, pretrain="none", test="demo7", **SMALL))
    assert report.values["results"][0]["variant"] == "zeroshot-clip"


def test_training_on_the_tested_data_set_is_called_in_domain(both):
    report = zeroshot.run(zeroshot.Config(root=both, pretrain="demo11", test="demo11", **SMALL))
    assert any("in-domain" in line for line in report.lines)
    result = json.loads((both / "runs" / "demo11-to-demo11-dagger-fold2-seed0" / "eval" / "results.json").read_text())
    assert result["in_domain"] is True


def test_missing_source_names_the_command(both):
    with pytest.raises(FclipError, match="fclip preprocess --root .* --dataset mafw --source"):
        zeroshot.run(zeroshot.Config(root=both, pretrain="mafw", test="demo7", **SMALL))


def test_captions_alone_as_the_objective(both):
    config = zeroshot.Config(root=both, pretrain="demo11", test="demo7", objective="captions", **SMALL)
    report = zeroshot.run(config)
    assert any("objective captions" in line for line in report.lines)
    run = both / "runs" / "demo11-dagger-captions-fold1-seed0"
    assert "objective=captions" in json.loads((run / "config.json").read_text())["config"]["set"]
    with pytest.raises(FclipError, match="dagger or star-dagger"):
        zeroshot.run(
            zeroshot.Config(root=both, pretrain="demo11", test="demo7", objective="captions", variant="base", **SMALL)
        )


def test_whose_captions_the_source_has_is_part_of_the_run(both):
    """Runs on people's captions stand beside those on a model's, under names, in rows and in lines of their own."""
    there = both / "demo11" / "packed-human"
    pack.run(pack.Config(root=both, dataset="demo11", captions="human", out=there, workers=1))
    small = {**SMALL, "root": both, "pretrain": "demo11", "test": "demo7", "variant": "emoclip", "seed": (3,)}
    small["set"] = ("head_width=8", "mlp_width=16")
    found = {}
    for name, options in {"model": {}, "people": {"input": str(there)}, "classes": {"objective": "labels"}}.items():
        report = zeroshot.run(zeroshot.Config(**small, **options))
        (row,) = report.values["results"]
        found[name] = (report.out.parent.name, row["objective"], row["trained_with"])
        assert f"objective {row['objective']}; zero-shot; no captions of the target are read" in report.lines[0]
    end = "fold5-seed3"
    template = {"model": "template", "label_shown": False}
    assert found == {
        "model": (f"demo11-to-demo7-emoclip-{end}", "captions", template),
        "people": (f"demo11-human-to-demo7-emoclip-{end}", "captions", {"model": "human", "label_shown": True}),
        "classes": (f"demo11-to-demo7-emoclip-labels-{end}", "labels", None),
    }
    runs = {path.name for path in (both / "runs").glob("demo11-*emoclip*-seed3") if "-to-" not in path.name}
    assert runs == {f"demo11{name}-fold1-seed3" for name in ("-emoclip", "-human-emoclip", "-emoclip-labels")}
    evaluated = [e for e in find_evaluated(Config(root=both), ()) if e.result.variant == "emoclip"]
    assert sorted(len(group) for _, group in make_rows(evaluated)) == [5, 5, 5]


@pytest.mark.parametrize("variant", ["linear-probe", "signals"])
def test_a_head_of_the_sources_classes_is_tested_on_these_only(both, tmp_path, variant):
    """As many classes in another order would fit its shape, and be silently wrong; other classes are told first."""
    turned = tmp_path / "demo7r" / "packed"
    shutil.copytree(both / "demo7" / "packed", turned)
    for record in ("manifest.json", "config.json"):  # somebody else's folder: nothing says what was written
        (turned / record).unlink()
    classes = json.loads((turned / "classes.json").read_text())
    (turned / "classes.json").write_text(json.dumps(classes[::-1]))
    (tmp_path / "demo7").symlink_to(both / "demo7")
    small = {**SMALL, "root": tmp_path, "variant": variant}
    with pytest.raises(FclipError, match="one output for each class of demo7"):
        zeroshot.run(zeroshot.Config(pretrain="demo7", test="demo7r", **small))
    assert not (tmp_path / "runs").exists()
    (turned / "classes.json").write_text(json.dumps(classes))
    report = zeroshot.run(zeroshot.Config(pretrain="demo7", test="demo7r", **small))
    assert report.values["results"][0]["clips"] == 35
    run = tmp_path / "runs" / f"demo7-{variant}-fold1-seed0"
    with pytest.raises(FclipError, match="trained on classes"):
        open_model(run, classes[::-1], "tiny")
