"""The fclip-1 format: a round trip, what it says, what it refuses, and how a run folder names its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_clip import CLASSES, FRAMES, SMALL, VARIANTS, build, make_batch

import fclip
from fclip.errors import FclipError
from fclip.models.backbone.clip import load_clip
from fclip.models.checkpoint import load_checkpoint, load_model, save_checkpoint
from fclip.models.finecliper.model import FineCliper


@pytest.fixture(scope="module")
def trained() -> FineCliper:
    return build("star-dagger", trained=True, scale=0.3, negative_word="less")


@pytest.fixture
def saved(trained: FineCliper, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, trained, dataset="demo7", fold=1, seed=3, epoch=2, selection="last", metrics={"uar": 0.5})
    return path


def rewrite(path: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    """The file with other tensors or metadata."""
    state, meta = load_checkpoint(path)
    header = {"fclip": json.dumps({**meta, **changes})}
    save_file(state if tensors is None else tensors, str(path), header)
    return path


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_round_trips(variant: str, tmp_path: Path) -> None:
    model = build(variant, trained=True)
    save_checkpoint(tmp_path / "model.safetensors", model)
    loaded = load_model(tmp_path / "model.safetensors")
    assert isinstance(loaded, FineCliper) and not loaded.training
    state = loaded.trainable_state()
    assert state.keys() == model.trainable_state().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.trainable_state().items())
    batch = make_batch(model)
    with torch.no_grad():
        assert torch.equal(loaded(batch).logits, model.eval()(batch).logits)


def test_the_file_holds_trainable_tensors_only_and_says_what_they_are(saved: Path, trained: FineCliper) -> None:
    assert load_file(saved).keys() == trained.trainable_state().keys()
    with safe_open(str(saved), framework="pt") as file:
        header = file.metadata()
    meta = json.loads(header.pop("fclip"))
    assert not header and meta["format"] == "fclip-1"
    assert meta == load_checkpoint(saved)[1]
    assert meta["fclip"] == fclip.__version__
    assert (meta["variant"], meta["clip"], meta["frames"]) == ("star-dagger", SMALL, FRAMES)
    assert meta["clip_weights"] == "random"
    assert meta["clip_sha256"] == load_clip(SMALL, "random").sha256
    assert meta["classes"] == list(CLASSES)
    assert meta["prompts"]["negative"][6] == "A person with an expression of less fear."
    assert meta["options"]["scale"] == 0.3 and meta["options"]["fusion_weights"] is None
    assert (meta["dataset"], meta["fold"], meta["seed"], meta["epoch"]) == ("demo7", 1, 3, 2)
    assert meta["selection"] == "last" and meta["metrics"] == {"uar": 0.5}


def test_writing_replaces_the_file_whole_and_leaves_nothing_behind(saved: Path, trained: FineCliper) -> None:
    first = saved.read_bytes()
    save_checkpoint(saved, trained, dataset="demo7", fold=1, seed=3, epoch=2, selection="last", metrics={"uar": 0.5})
    assert saved.read_bytes() == first
    with pytest.raises(TypeError):
        save_checkpoint(saved, trained, metrics=object())
    assert [p.name for p in saved.parent.iterdir()] == ["model.safetensors"] and saved.read_bytes() == first


def test_other_clip_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    other = load_clip(SMALL, "random", seed=1)
    torch.save(other.model.state_dict(), tmp_path / "other.pt")
    recorded = load_checkpoint(saved)[1]["clip_sha256"]
    with pytest.raises(FclipError, match=f"clip_sha256 differs: .*{recorded}.*{other.sha256}"):
        load_model(saved, clip_weights=tmp_path / "other.pt")


def test_weights_from_a_file_are_found_again_or_asked_for(tmp_path: Path) -> None:
    torch.save(load_clip(SMALL, "random", seed=1).model.state_dict(), tmp_path / "clip.pt")
    model = build("base", clip_weights=tmp_path / "clip.pt")
    save_checkpoint(tmp_path / "model.safetensors", model)
    assert load_model(tmp_path / "model.safetensors").clip_sha256 == model.clip_sha256
    (tmp_path / "clip.pt").rename(tmp_path / "moved.pt")
    with pytest.raises(FclipError, match="no published weights for fclip-small; give a local file as clip_weights"):
        load_model(tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors", tmp_path / "moved.pt").clip_sha256 == model.clip_sha256


def test_other_classes_are_refused_by_both_lists(saved: Path) -> None:
    asked = [*CLASSES[1:], CLASSES[0]]
    with pytest.raises(FclipError, match=r"trained on classes \['happiness', .*but \['sadness', .*are asked for"):
        load_model(saved, classes=asked)
    assert load_model(saved, classes=CLASSES).classes == CLASSES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": {"positive": ["a"], "negative": ["b"]}}, "prompts differs"),
        ({"clip_sha256": "0" * 64}, "clip_sha256 differs: the checkpoint has 0000"),
        ({"format": "fclip-9"}, "not a checkpoint of format fclip-1, but of 'fclip-9'"),
        ({"options": {"scales": 1}}, "unknown option 'scales'"),
        ({"frames": 5}, r"frames.temporal_embedding has shape \(1, 3, 128\), expected \(1, 5, 128\)|faces.temporal"),
        ({"variant": "star"}, r"has unexpected 1 tensor\(s\): proj.caption|longclip"),
    ],
)
def test_a_file_that_differs_is_refused_saying_which(saved: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(FclipError, match=message):
        load_model(rewrite(saved, **change))


def test_missing_unexpected_and_misshapen_tensors_are_named(saved: Path, trained: FineCliper) -> None:
    state = trained.trainable_state()
    with pytest.raises(FclipError, match=r"lacks 1 tensor\(s\): proj.parsing"):
        trained.load_trainable_state({k: v for k, v in state.items() if k != "proj.parsing"})
    with pytest.raises(FclipError, match=r"has unexpected 1 tensor\(s\): visual.proj"):
        trained.load_trainable_state({**state, "visual.proj": torch.ones(1)})
    with pytest.raises(FclipError, match=r"proj.caption has shape \(2,\), expected \(64, 32\)"):
        trained.load_trainable_state({**state, "proj.caption": torch.ones(2)})


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_wild_files_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(FclipError, match="x.safetensors: not a readable"):
        load_model(path)
    save_file({"a": torch.ones(1)}, str(path))
    with pytest.raises(FclipError, match="not a checkpoint of format fclip-1"):
        load_model(path)
    save_file({"a": torch.ones(1)}, str(path), {"fclip": '{"format": "fclip-1", "variant": "base"}'})
    with pytest.raises(FclipError, match="its metadata lack clip, clip_sha256, classes, frames"):
        load_model(path)
    save_file({"a": torch.ones(1)}, str(path), {"fclip": "{"})
    with pytest.raises(FclipError, match="not a readable"):
        load_model(path)
    with pytest.raises(FclipError, match="no checkpoint"):
        load_model(tmp_path / "nothing")


def test_a_run_folder_names_its_checkpoint(saved: Path, trained: FineCliper, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step, epoch in (("step-000010", 1), ("step-000020", 2)):
        (run / step).mkdir(parents=True)
        save_checkpoint(run / step / "model.safetensors", trained, epoch=epoch)
    (run / "LAST").write_text("step-000020\n")
    expected = load_model(saved).trainable_state()
    for path in (run, run / "LAST", run / "step-000010", run / "step-000010" / "model.safetensors"):
        state = load_model(path).trainable_state()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    from fclip.models.checkpoint import find_checkpoint

    assert find_checkpoint(run).parent.name == "step-000020"
    (run / "BEST").write_text("step-000010")
    assert find_checkpoint(run).parent.name == "step-000010"
    assert find_checkpoint(run / "LAST").parent.name == "step-000020"
    for bad in ("step-000030", "../model.safetensors", str(saved)):
        (run / "BEST").write_text(bad)
        with pytest.raises(FclipError, match="BEST: points to .*no checkpoint of this run"):
            load_model(run)
