"""Damaged files of a run: an output that is damaged is made again, an input that is damaged is one clear line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from fclip.cli.app import app
from fclip.engine.train.run_folder import RunFolder, read_identity
from fclip.engine.train.state import Position, TrainState, read_state, write_state
from fclip.errors import FclipError, OutputDiffers
from fclip.models.checkpoint import find_checkpoint, load_checkpoint, load_model, read_info
from fclip.report.evaluated import read_evaluated
from fclip.stages import evaluate, train

SMALL = {"variant": "base", "clip": "tiny", "clip_weights": "random", "batch_size": 8, "epochs": 1, "dataset": "demo7"}


@pytest.fixture(scope="module")
def root(workspace, tmp_path_factory):
    """A trained and evaluated run beside its data."""
    root = tmp_path_factory.mktemp("damage")
    (root / "demo7").symlink_to(workspace / "demo7")
    train.run(train.Config(root=root, device="cpu", select="val", **SMALL))
    evaluate.run(evaluate.Config(root=root, device="cpu"))
    return root


@pytest.fixture
def run(root, tmp_path):
    return Path(shutil.copytree(next((root / "runs").iterdir()), tmp_path / "run"))


def step(run: Path) -> Path:
    return next(run.glob("step-*"))


READERS: dict[str, Callable[[Path], object]] = {
    "LAST": lambda run: RunFolder(run).pointer(),
    "BEST": find_checkpoint,
    "config.json": lambda run: read_identity(run).options(),
    "done.json": lambda run: RunFolder(run).summary(),
    "metrics.jsonl": lambda run: [row["step"] + sum(row.values()) for row in RunFolder(run).read_log()],
    "model.safetensors": lambda run: (read_info(find_checkpoint(run)), load_checkpoint(find_checkpoint(run))),
    "state.safetensors": lambda run: read_state(step(run) / "state.safetensors"),
    "checkpoint.json": lambda run: RunFolder(run).load_state(),
    "predictions.csv": read_evaluated,
    "results.json": read_evaluated,
    "evaluation.json": read_evaluated,
}


def place(run: Path, name: str) -> Path:
    return next(path for path in (run / name, step(run) / name, run / "eval" / name) if path.is_file())


VALUES = st.sampled_from([None, True, -1, 1e308, 10**400, "", "\ud800", [], {}, [[]], {"a": None}, "../.."])


def mutate(data: bytes, draw: Callable) -> bytes:
    """Cut off, overwritten, doubled, or (of JSON) with another value somewhere."""
    kind = draw(st.sampled_from(["cut", "flip", "swap", "value", "nest", "lose"]))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    if kind == "swap":
        return data[at:] + data[:at]
    if kind == "nest":
        return data[:at] + b"[" * draw(st.sampled_from([3, 900, 100_000])) + data[at:]
    try:
        value = json.loads(data)
        name = draw(st.sampled_from(sorted(value)))
    except (ValueError, TypeError):
        return data[:at] + draw(st.binary(max_size=20)) + data[at:]
    if kind == "lose":
        del value[name]
    elif isinstance(value[name], dict) and value[name]:
        value[name][draw(st.sampled_from(sorted(value[name])))] = draw(VALUES)
    else:
        value[name] = draw(VALUES)
    return json.dumps(value).encode()


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_read_or_one_error(run, name, data):
    """The same for a checkpoint whose own record is gone: then its reader alone decides."""
    path = place(run, name)
    whole, record = path.read_bytes(), step(run) / "checkpoint.json"
    kept = record.read_bytes()
    if name.endswith(".safetensors") and data.draw(st.booleans()):
        record.unlink()
    try:
        path.write_bytes(mutate(whole, data.draw))
        try:
            READERS[name](run)
        except FclipError as error:
            assert "\n" not in str(error) and len(str(error)) < 700
    finally:
        path.write_bytes(whole)
        record.write_bytes(kept)


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "name", ["LAST", "done.json", "metrics.jsonl", "model.safetensors", "state.safetensors", "checkpoint.json"]
)
def test_a_damaged_output_of_training_is_made_again(root, run, name):
    """The same command mends it, and ends with the same weights."""
    before = {key: tensor.clone() for key, tensor in load_file(step(run) / "model.safetensors").items()}
    path = place(run, name)
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2] + b"\xff")
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    code, output = invoke("train", "--root", root, "--out", run, "--device=cpu", "--select=val", *flags)
    assert code == 0 and "defect" not in output, output
    after = load_file(RunFolder(run).pointer() / "model.safetensors")
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert RunFolder(run).summary() is not None


@pytest.mark.parametrize("name", ["BEST", "config.json", "model.safetensors", "checkpoint.json"])
def test_a_damaged_input_of_eval_is_one_line(root, run, name):
    path = place(run, name)
    path.write_bytes(b"{" + path.read_bytes()[: len(path.read_bytes()) // 2])
    shutil.rmtree(run / "eval")
    code, output = invoke("eval", run, "--root", root, "--device=cpu")
    assert code == 1 and "defect" not in output and str(path.parent) in output, output
    assert output.count("\n") == 1


def test_no_pointer_or_link_leads_out_of_the_run(root, run, tmp_path):
    """One rule for eval, predict, report and resuming: neither a path in LAST nor a link in its place."""
    outside = tmp_path / "step-00000099"
    shutil.copytree(step(run), outside)
    for name in ("../step-00000099", str(outside), ".", "", "step-00000004/../../step-00000099"):
        (run / "BEST").write_text(name)
        for read in (find_checkpoint, lambda run: RunFolder(run).chosen("val")):
            with pytest.raises(FclipError, match="no checkpoint of this run"):
                read(run)
    (run / "BEST").write_text("step-00000099")
    (run / "step-00000099").symlink_to(outside)
    with pytest.raises(FclipError, match="no checkpoint of this run"):
        find_checkpoint(run)
    (run / "step-00000099").unlink()
    (run / "step-00000099").mkdir()
    (run / "step-00000099" / "model.safetensors").symlink_to(outside / "model.safetensors")
    with pytest.raises(FclipError, match="no checkpoint of this run"):
        RunFolder(run).pointer("BEST")


def test_weights_that_are_not_numbers_are_refused_by_name(root, run):
    path = step(run) / "model.safetensors"
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    name = sorted(tensors)[1]
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, str(path), header)
    with pytest.raises(FclipError, match="not as it was written"):
        load_model(run)
    (step(run) / "checkpoint.json").unlink()
    with pytest.raises(FclipError, match=f"tensor {name} holds NaN"):
        load_model(run)


def test_another_configuration_is_refused_though_the_run_is_damaged(root, run):
    (run / "done.json").write_bytes(b"{")
    with pytest.raises(OutputDiffers):
        train.run(train.Config(root=root, out=run, device="cpu", select="val", **{**SMALL, "lr": 0.5}))


def test_a_state_is_read_back_bit_for_bit(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.8, 0.9))
    for _ in range(3):
        model(torch.randn(4, 3)).sum().backward()
        optimizer.step()
    scaler = {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 3}
    state = TrainState(
        Position(1, 2, 3, 0.1 + 0.2), optimizer.state_dict(), scaler, {"w": torch.randn(5)}, torch.get_rng_state()
    )
    write_state(tmp_path / "s.safetensors", state)
    back = read_state(tmp_path / "s.safetensors")
    assert (back.position, back.scaler) == (state.position, scaler)
    assert torch.equal(back.random, state.random) and torch.equal(back.raw_weights["w"], state.raw_weights["w"])
    other = torch.optim.AdamW(torch.nn.Linear(3, 2).parameters(), lr=0.3)
    other.load_state_dict(back.optimizer)
    assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    for mine, theirs in zip(
        other.state_dict()["state"].values(), optimizer.state_dict()["state"].values(), strict=True
    ):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
