"""Training as users run it: exact resume after kill -9, honest selection, clear refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fclip.data.storage import folds
from fclip.engine.train.optimise import lr_factor
from fclip.engine.train.run_folder import RunFolder
from fclip.errors import FclipError, OutputDiffers, UsageError
from fclip.models import load_model
from fclip.stages import evaluate, train

SMALL = {"variant": "base", "clip": "tiny", "clip_weights": "random", "batch_size": 4, "epochs": 2, "dataset": "demo7"}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(RunFolder(run).pointer() / "model.safetensors")


def command(root: Path, out: Path) -> list[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    return [
        sys.executable,
        "-m",
        "fclip",
        "train",
        f"--root={root}",
        f"--out={out}",
        "--save-every=1",
        "--device=cpu",
        *flags,
    ]


def test_kill_9_and_the_same_command_again_give_the_same_weights(workspace, tmp_path):
    out = tmp_path / "killed"
    for sign in ("metrics.jsonl", "LAST"):  # killed before the first checkpoint, and after it
        process = subprocess.Popen(command(workspace, out), env={**os.environ, "OMP_NUM_THREADS": "1"})
        while not (out / sign).is_file() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    step = RunFolder(out).load_state().position.step
    assert not (out / "done.json").exists(), "the run ended before it could be killed"
    whole, threads = tmp_path / "whole", torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes that were killed
    for place in (out, whole):
        train.run(train.Config(root=workspace, out=place, save_every=1, device="cpu", **SMALL))
    torch.set_num_threads(threads)
    resumed, straight = weights(out), weights(whole)
    assert step < RunFolder(whole).load_state().position.step
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    rows = [[r for r in RunFolder(path).read_log() if "loss" in r] for path in (out, whole)]
    assert rows[0] == rows[1]


def test_training_lowers_the_loss_and_evaluation_derives_all_from_predictions(workspace, tmp_path):
    out = tmp_path / "run"
    train.run(train.Config(root=workspace, out=out, **{**SMALL, "epochs": 8, "lr": 0.01}))
    losses = [row["loss"] for row in RunFolder(out).read_log() if "loss" in row]
    assert sum(losses[-7:]) < sum(losses[:7])
    report = evaluate.run(evaluate.Config(root=workspace, runs=(str(out),)))
    result = json.loads((out / "eval" / "results.json").read_text())
    scored = evaluate.run(evaluate.Config(predictions=out / "eval" / "predictions.csv"))
    for name in ("confusion", "macro_f1", "ece", "reliability", "uar_interval"):
        assert json.loads(json.dumps(scored.values["folds"][0][name])) == result[name], name
    assert report.values["results"][0]["war"] == result["war"]
    assert (out / "eval" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    stamp = (out / "eval" / "predictions.csv").stat().st_mtime_ns
    evaluate.run(evaluate.Config(root=workspace, runs=(str(out),)))
    assert (out / "eval" / "predictions.csv").stat().st_mtime_ns == stamp, "a finished evaluation is kept"


def test_another_configuration_is_refused_and_a_finished_run_is_kept(workspace, tmp_path):
    out = tmp_path / "run"
    config = {**SMALL, "epochs": 1}
    train.run(train.Config(root=workspace, out=out, **config))
    stamp = (out / "LAST").stat().st_mtime_ns
    train.run(train.Config(root=workspace, out=out, **config))
    assert (out / "LAST").stat().st_mtime_ns == stamp
    with pytest.raises(OutputDiffers, match=r"config.lr: 0.002 -> 0.5"):
        train.run(train.Config(root=workspace, out=out, **{**config, "lr": 0.5}))


def test_overwriting_trains_anew_and_drops_the_old_evaluation(workspace, tmp_path):
    """Checkpoints are named by their step, and the new run's has the name of the old one's."""
    out, config = tmp_path / "run", {**SMALL, "epochs": 1}
    train.run(train.Config(root=workspace, out=out, lr=0.01, **config))
    evaluate.run(evaluate.Config(root=workspace, runs=(str(out),)))
    before = weights(out)
    train.run(train.Config(root=workspace, out=out, lr=0.05, overwrite=True, **config))
    assert not (out / "eval" / "results.json").exists()
    train.run(train.Config(root=workspace, out=tmp_path / "fresh", lr=0.05, **config))
    after, fresh = weights(out), weights(tmp_path / "fresh")
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert all(torch.equal(fresh[name], after[name]) for name in after)


def test_selection_on_a_held_out_part_never_sees_the_test_part(workspace):
    from fclip.data.storage.splits import read_splits

    packed = workspace / "demo7" / "packed"
    for fold in "12345":
        shards = folds.fold_shards(read_splits(packed), packed, fold, "val")
        parts = [{p.stem.rpartition("-")[0] for p in side} for side in (shards.train, shards.held_out, shards.test)]
        assert all(parts)
        assert not (parts[0] & parts[1] or parts[1] & parts[2] or parts[0] & parts[2])
        assert len(parts[0] | parts[1] | parts[2]) == 5


def test_one_training_part_holds_out_shards():
    from fclip.data.storage.splits import Splits

    splits = Splits(
        "own", {f"k{i}": "test" if i < 2 else "train" for i in range(40)}, {"1": {"train": ["train"], "test": ["test"]}}
    )

    def shards(count: int, folder: Path) -> folds.FoldShards:
        for name in ["test-00000", *(f"train-{i:05d}" for i in range(count))]:
            (folder / f"{name}.tar").write_bytes(b"")
        return folds.fold_shards(splits, folder, "1", "val")

    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(FclipError, match="nothing can be held out"):
            shards(1, Path(folder))
        few = shards(3, Path(folder))
        assert [[p.stem for p in side] for side in (few.train, few.held_out, few.test)] == [
            ["train-00000", "train-00001"],
            ["train-00002"],
            ["test-00000"],
        ]
        many = shards(25, Path(folder))
        assert [p.stem for p in many.held_out] == ["train-00009", "train-00019"]
        assert len(many.train) == 23


def test_best_on_test_is_recorded_in_checkpoint_and_result(workspace, tmp_path):
    out = tmp_path / "run"
    trained = train.run(train.Config(root=workspace, out=out, select="best-on-test", **SMALL))
    assert (out / "BEST").is_file()
    report = evaluate.run(evaluate.Config(root=workspace, runs=(str(out),)))
    assert report.values["results"][0]["selection"] == "best-on-test"
    assert any("chosen on the test part" in line for line in report.lines)
    assert any("CHOSEN ON THE TEST PART" in line for line in trained.lines)


def test_loss_that_is_not_finite_names_the_clips(workspace, tmp_path):
    with pytest.raises(FclipError, match=r"not finite; clips of this batch: (demo7-\d+, ){3}demo7-\d+; lower --lr"):
        train.run(train.Config(root=workspace, out=tmp_path / "run", **{**SMALL, "lr": 1e30}))


def test_a_checkpoint_of_other_classes_is_refused(workspace, tmp_path):
    out = tmp_path / "run"
    train.run(train.Config(root=workspace, out=out, **{**SMALL, "epochs": 1}))
    packed = tmp_path / "packed"
    shutil.copytree(workspace / "demo7" / "packed", packed)
    for record in ("manifest.json", "config.json"):  # somebody else's folder: nothing says what was written
        (packed / record).unlink()
    (packed / "classes.json").write_text(
        json.dumps(["joy", "sadness", "neutral", "anger", "surprise", "disgust", "fear"])
    )
    with pytest.raises(FclipError, match="joy"):
        evaluate.run(evaluate.Config(root=workspace, runs=(str(out),), input=packed))


def test_unknown_variant_fold_and_option_are_usage_errors(workspace, tmp_path):
    for change, message in [
        ({"variant": "bse"}, "did you mean base"),
        ({"fold": "9"}, "has the folds 1, 2, 3, 4, 5"),
        ({"set": ("negative=less",)}, "negative_word"),
        ({"set": ("tau",)}, "name=value"),
    ]:
        with pytest.raises(UsageError, match=message):
            train.run(train.Config(root=workspace, out=tmp_path / "run", **{**SMALL, **change}))
    assert not (tmp_path / "run").exists()


def test_the_loaded_model_is_the_trained_one(workspace, tmp_path):
    out = tmp_path / "run"
    train.run(train.Config(root=workspace, out=out, **{**SMALL, "epochs": 1}))
    model = load_model(out)
    state = weights(out)
    assert all(torch.equal(value, state[name]) for name, value in model.trainable_state().items())


def test_schedules():
    assert [lr_factor("cosine", s, 10, epoch=0) for s in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
    assert [lr_factor("multistep", 0, 1, epoch=e, milestones=(30, 40)) for e in (29, 30, 40)] == pytest.approx(
        [1, 0.1, 0.01]
    )
    assert lr_factor("constant", 1, 10, epoch=0, warmup=4) == 0.5
    with pytest.raises(UsageError):
        lr_factor("linear", 0, 1, epoch=0)


def test_comparison_of_two_runs_from_the_command(workspace, tmp_path):
    for name, lr in (("a", 0.01), ("b", 0.0)):
        train.run(train.Config(root=workspace, out=tmp_path / name, **{**SMALL, "lr": lr}))
    runs = (str(tmp_path / "a"), str(tmp_path / "b"))
    report = evaluate.run(evaluate.Config(root=workspace, runs=runs, compare=True))
    assert report.values["comparison"]["clips"] == 7
    assert any("McNemar" in line for line in report.lines)
    with pytest.raises(UsageError, match="two run folders"):
        evaluate.run(evaluate.Config(root=workspace, runs=runs[:1], compare=True))


def test_figures_per_scene():
    from fclip.engine.evaluate.results import Scene, figures_of_scenes

    true, predicted = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 1])
    found = figures_of_scenes(true, predicted, ["war", "war", "talk", ""], 2)
    assert found == {"war": Scene(2, 1.0, 1.0), "talk": Scene(1, 0.0, 0.0)}
