"""Two processes (torchrun, gloo) train as one process with the same global batch does; averages and comparisons."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fclip.engine.batches.team import Team
from fclip.engine.evaluate.compare import compare_tables
from fclip.engine.evaluate.predictions import PredictionTable
from fclip.engine.train.averaging import MovingAverage
from fclip.engine.train.run_folder import RunFolder
from fclip.errors import FclipError
from fclip.models import create_model
from fclip.stages import train

SMALL = {"variant": "star", "clip": "tiny", "clip_weights": "random", "batch_size": 4, "epochs": 1, "dataset": "demo7"}


def test_torchrun_gives_the_loss_curve_of_one_process(workspace, tmp_path):
    """One command for two seeds: the processes stay connected from run to run."""
    (tmp_path / "demo7").symlink_to(workspace / "demo7")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "fclip",
        "train",
        f"--root={tmp_path}",
        "--device=cpu",
        "--seed=0,1",
        *flags,
    ]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for seed in (0, 1):
        (tmp_path / "runs" / f"demo7-star-fold1-seed{seed}").rename(tmp_path / f"two{seed}")
        assert (tmp_path / f"two{seed}" / "done.json").is_file()
    train.run(train.Config(root=workspace, out=tmp_path / "one", device="cpu", **SMALL))
    rows = [[r for r in RunFolder(tmp_path / name).read_log() if "loss" in r] for name in ("one", "two0")]
    assert len(rows[0]) == len(rows[1]) > 3
    for one, two in zip(*rows, strict=True):
        assert two == pytest.approx(one, rel=2e-3, abs=1e-4)
    weights = [load_file(RunFolder(tmp_path / name).pointer() / "model.safetensors") for name in ("one", "two0")]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], rtol=1e-2, atol=1e-4), name


def test_a_figure_that_a_process_lacks_counts_as_zero(monkeypatch):
    """The other process's clips have no caption, so its row has no weight of captions, and none has one of parsing."""
    names = ("loss", "weight_frames", "weight_parsing", "weight_caption")
    other = torch.tensor([[3.0, 1], [1.0, 1], [0.0, 0], [0.0, 0]], dtype=torch.float64)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.add_(other))
    mine = {"loss": 1.0, "weight_frames": 0.4, "weight_caption": 0.6}
    assert Team(0, 2).mean(mine, names) == pytest.approx({"loss": 2.0, "weight_frames": 0.7, "weight_caption": 0.3})


def test_moving_average_follows_the_weights():
    model = create_model("base", clip="tiny", clip_weights="random", classes=["a", "b"], frames=2)
    average = MovingAverage(model, 0.9)
    before = {name: tensor.clone() for name, tensor in model.trainable_state().items()}
    model.load_trainable_state({name: tensor + 1 for name, tensor in before.items()})
    average.update()
    with average.applied() as raw:
        for name, tensor in model.trainable_state().items():
            assert torch.allclose(tensor, before[name] + 0.1, atol=1e-6)
            assert torch.allclose(raw[name], before[name] + 1)
    assert torch.allclose(model.trainable_state()[name], before[name] + 1)


def test_ema_is_what_the_checkpoint_holds_and_resume_keeps_both(workspace, tmp_path):
    config = {**SMALL, "variant": "base", "ema": 0.5}
    train.run(train.Config(root=workspace, out=tmp_path / "run", **config))
    run = RunFolder(tmp_path / "run")
    stored, raw = load_file(run.pointer() / "model.safetensors"), run.load_state().raw_weights
    assert raw.keys() == stored.keys()
    assert any(not torch.equal(stored[name], raw[name]) for name in raw)


def table(guesses: list[int], truth: list[int]) -> PredictionTable:
    made = PredictionTable(("a", "b", "c"))
    for i, (guess, true) in enumerate(zip(guesses, truth, strict=True)):
        made.add(f"k{i}", "abc"[true], np.eye(3)[guess], ("frames",))
    return made


def test_comparison_of_two_methods():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200).tolist()
    good = [t if rng.random() < 0.9 else (t + 1) % 3 for t in truth]
    poor = [t if rng.random() < 0.5 else (t + 1) % 3 for t in truth]
    found = compare_tables(table(good, truth), table(poor, truth))
    assert found.mcnemar_p < 1e-6
    assert found.war_interval[0] < found.war_difference < found.war_interval[1]
    assert found.war_difference == pytest.approx(np.mean(np.equal(good, truth)) - np.mean(np.equal(poor, truth)))
    same = compare_tables(table(good, truth), table(good, truth))
    assert (same.mcnemar_p, same.war_difference) == (1.0, 0.0)
    with pytest.raises(FclipError, match="same clips"):
        compare_tables(table(good, truth), table(poor[:-1], truth[:-1]))
