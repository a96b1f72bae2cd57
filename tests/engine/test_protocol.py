"""What training promises whatever the options: exact resume, accumulation, checkpoints, memory, TensorBoard."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file

from fclip.engine.train.run_folder import RunFolder
from fclip.errors import FclipError, MissingExtra
from fclip.models.finecliper.model import FineCliper
from fclip.stages import train

SMALL = {
    "variant": "base",
    "clip": "tiny",
    "clip_weights": "random",
    "batch_size": 4,
    "epochs": 1,
    "dataset": "demo7",
    "device": "cpu",
}


def weights(run, pointer="LAST"):
    return load_file(RunFolder(run).pointer(pointer) / "model.safetensors")


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "fp16", "ema": 0.5, "accumulate": 2, "balance": True, "clip_norm": 1.0, "optimizer": "adamw"},
        {
            "precision": "bf16",
            "set": ("checkpointing=true",),
            "select": "val",
            "epochs": 2,
            "warmup": 3,
            "batch_size": 8,
        },
    ],
    ids=["fp16", "bf16"],
)
def test_resume_is_exact_with_all_that_has_a_state(workspace, tmp_path, monkeypatch, options):
    """Loss scaler, moving average, accumulated steps, best score: stopped after the second checkpoint and gone on."""
    config = {**SMALL, "save_every": 1, **options}
    train.run(train.Config(root=workspace, out=tmp_path / "whole", **config))
    save, count = RunFolder.save, []

    def stop_after_two(self, *args, **named):
        save(self, *args, **named)
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train.run(train.Config(root=workspace, out=tmp_path / "cut", **config))
    monkeypatch.undo()
    assert RunFolder(tmp_path / "cut").load_state().position.step == 2
    train.run(train.Config(root=workspace, out=tmp_path / "cut", **config))
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.isfinite(tensor).all() for tensor in whole.values())
    assert all(torch.equal(tensor, cut[name]) for name, tensor in whole.items())
    logs = [[r for r in RunFolder(tmp_path / n).read_log() if "seconds" not in r] for n in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_accumulation_equals_the_large_batch(workspace, tmp_path):
    large = {**SMALL, "batch_size": 14, "epochs": 2, "lr": 0.005, "momentum": 0.0, "schedule": "constant"}
    train.run(train.Config(root=workspace, out=tmp_path / "large", **large))
    train.run(train.Config(root=workspace, out=tmp_path / "small", **{**large, "batch_size": 7, "accumulate": 2}))
    logs = [[row["loss"] for row in RunFolder(tmp_path / n).read_log() if "loss" in row] for n in ("large", "small")]
    assert len(logs[0]) == 4
    assert logs[1] == pytest.approx(logs[0], rel=1e-3)
    one, two = weights(tmp_path / "large"), weights(tmp_path / "small")
    moved = [name for name in one if name.endswith("up.weight")]  # they start at zero
    largest = max(float(one[name].abs().max()) for name in moved)
    assert largest > 1e-4
    assert max(float((one[name] - two[name]).abs().max()) for name in moved) < 0.01 * largest


def test_last_and_best_are_kept_and_no_more(workspace, tmp_path):
    config = {**SMALL, "epochs": 4, "save_every": 2, "select": "val", "lr": 0.05}
    train.run(train.Config(root=workspace, out=tmp_path / "run", **config))
    run = RunFolder(tmp_path / "run")
    kept = {path.name for path in run.path.glob("step-*")}
    assert kept == {run.pointer("LAST").name, run.pointer("BEST").name}
    scores = {row["step"]: row["eval_war"] for row in run.read_log() if "eval_war" in row}
    assert len(scores) == 4
    best = min(step for step, score in scores.items() if score == max(scores.values()))
    assert run.pointer("BEST").name == f"step-{best:08d}"
    assert run.pointer("LAST").name == f"step-{max(scores):08d}"
    assert not list(run.path.glob(".step-*"))


def test_out_of_memory_names_the_flags_that_help(workspace, tmp_path, monkeypatch):
    def exhausted(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(FineCliper, "forward", exhausted)
    with pytest.raises(
        FclipError, match=r"with 4 clips at once; try --batch-size 2 --accumulate 2, --set checkpointing"
    ):
        train.run(train.Config(root=workspace, out=tmp_path / "run", **SMALL))


def test_tensorboard_holds_the_logged_figures_or_says_what_to_install(workspace, tmp_path):
    config = train.Config(root=workspace, out=tmp_path / "run", tensorboard=True, select="val", **SMALL)
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(MissingExtra, match=r"tensorboard is not installed: pip install 'fclip\[tensorboard\]'"):
            train.run(config)
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train.run(config)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for name, tag in (("loss", "loss"), ("eval_war", "eval/war"), ("lr", "lr")):
        expected = [(row["step"], pytest.approx(row[name], rel=1e-5)) for row in logged if name in row]
        assert [(event.step, event.value) for event in events.Scalars(tag)] == expected
        assert expected
