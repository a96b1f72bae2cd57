"""GELU or QuickGELU: the weights say which, or fclip asks; a checkpoint keeps what it was trained with."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from small_clip import CONFIG
from torch import Tensor

from fclip.catalogue import entry, listed
from fclip.errors import UsageError
from fclip.models import create_model, load_model
from fclip.models.backbone.clip import load_clip
from fclip.models.checkpoint import load_checkpoint, save_checkpoint
from fclip.models.convert import convert
from fclip.models.finecliper.texts import CaptionTower
from fclip.stages import inspect, predict, train
from fclip.tensors import write_tensors

NAME = "ViT-B-32"  # its configuration is a small one here
SCALARS = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Tensor]:
    """Weights of a small ViT-B-32; no weights are in reach."""
    config = {**open_clip.get_model_config(NAME), **CONFIG, "quick_gelu": False}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, NAME, config)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"{NAME}-quickgelu", {**config, "quick_gelu": True})
    monkeypatch.setenv("FCLIP_WEIGHTS", str(tmp_path / "fetched"))
    found: dict[str, Tensor] = load_clip(NAME, "random").model.state_dict()
    return found


def kind_of(clip: Any) -> str:
    kinds = {type(block.mlp.gelu).__name__ for tower in (clip.visual, clip) for block in tower.transformer.resblocks}
    return kinds.pop().lower() if len(kinds) == 1 else str(kinds)


def test_a_file_that_does_not_say_it_is_asked_about(state: dict[str, Tensor], tmp_path: Path) -> None:
    """One line that names the option; with it, or a name of open_clip's that says it, the model is made so."""
    path = tmp_path / "laion2b.safetensors"
    save_file(state, str(path))
    with pytest.raises(UsageError, match=r"laion2b.safetensors: does not say .*--activation quickgelu .* or gelu") as e:
        load_clip(NAME, path)
    assert "\n" not in str(e.value)
    for given in ("gelu", "quickgelu"):
        clip = load_clip(NAME, path, activation=given)
        assert (clip.activation, kind_of(clip.model)) == (given, given)
    clip = load_clip(f"{NAME}-quickgelu", path)
    assert (clip.name, clip.activation, kind_of(clip.model)) == (f"{NAME}-quickgelu", "quickgelu", "quickgelu")
    with pytest.raises(UsageError, match="activation 'relu': it is gelu or quickgelu"):
        load_clip(NAME, path, activation="relu")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("scalars", "quickgelu"),
        ("farl", "quickgelu"),
        ("fetched", "quickgelu"),
        ("converted", "quickgelu"),
        ("converted-gelu", "gelu"),
        ("converted-before", "quickgelu"),
        ("hub-config", "gelu"),
        ("hub-config-quick", "quickgelu"),
        ("json", "gelu"),
        ("other-json", None),
    ],
)
def test_what_a_file_says(how: str, expected: str | None, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    if how == "scalars":
        path = path.with_suffix(".pt")
        torch.save({**state, **SCALARS}, path)
    elif how == "farl":
        path = path.with_suffix(".pth")
        torch.save({"state_dict": {**state, "visual.mask_token": torch.ones(2)}}, path)
    elif how == "fetched":  # the very file that --clip ViT-B-32 reads
        (tmp_path / "fetched").mkdir()
        path = tmp_path / "fetched" / f"{NAME}.safetensors"
        save_file(state, str(path))
    elif how == "converted-before":
        write_tensors(path, state, {"format": "fclip-weights-1", "clip": NAME, "converted": {"from": "openai"}})
    elif how.startswith("converted"):
        full = load_clip("tiny", "random").model.state_dict()  # convert knows models by their real sizes
        torch.save(full, tmp_path / "a.pt")
        convert(tmp_path / "a.pt", path, "openai", activation=expected)
        assert load_clip("tiny", path).activation == expected
        return
    else:
        save_file(state, str(path))
        named = "open_clip_model.safetensors" if how.startswith("hub") else "w.safetensors"
        path = path.rename(tmp_path / named)
        model = {"embed_dim": CONFIG["embed_dim"], **({"quick_gelu": True} if how.endswith("quick") else {})}
        sidecar = tmp_path / ("open_clip_config.json" if how.startswith("hub") else "w.json")
        sidecar.write_text(json.dumps({"loss": 1.5} if how == "other-json" else {"model_cfg": model}))
    if expected is None:
        with pytest.raises(UsageError, match="--activation"):
            load_clip(NAME, path)
        return
    assert load_clip(NAME, path).activation == expected


def test_what_is_asked_for_wins_with_a_line(
    state: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({**state, **SCALARS}, tmp_path / "w.pt")
    with caplog.at_level(logging.WARNING):
        assert load_clip(NAME, tmp_path / "w.pt", activation="gelu").activation == "gelu"
    assert "though its weights are of quickgelu" in caplog.text


def test_published_names_decide_by_themselves(state: dict[str, Tensor], tmp_path: Path) -> None:
    """OpenAI's weights under both names of open_clip's."""
    (tmp_path / "fetched").mkdir()
    save_file(state, str(tmp_path / "fetched" / f"{NAME}.safetensors"))
    for name in (NAME, f"{NAME}-quickgelu"):
        assert kind_of(load_clip(name).model) == kind_of(load_clip(name, "openai").model) == "quickgelu"


def test_other_names_of_openais_weights_are_fetched_and_published_as_they_are() -> None:
    names = ("ViT-B-32-quickgelu", "ViT-B-32@336")
    assert [train.Config(clip=name, dataset="dfew").weights() for name in names] == [["ViT-B-32"]] * 2
    assert entry("ViT-B-32-quickgelu") == listed()["ViT-B-32"]
    assert entry("owner/name@main").revision == "main"  # type: ignore[union-attr]


@pytest.mark.parametrize("activation", ["gelu", "quickgelu"])
def test_a_checkpoint_keeps_it(activation: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    """Stored, shown, and taken again wherever the weights lie then."""
    path = tmp_path / "w.safetensors"
    save_file(state, str(path))
    model = create_model("base", NAME, ["a", "b"], 2, path, activation=activation)
    save_checkpoint(tmp_path / "m.safetensors", model)
    assert load_checkpoint(tmp_path / "m.safetensors")[1]["clip_activation"] == activation
    shown = inspect.run(inspect.Config(paths=(str(tmp_path / "m.safetensors"),)))
    assert any(f"clip_activation: {activation}" in line for line in shown.lines)
    moved = Path(shutil.copy(path, tmp_path / "moved.safetensors"))
    for weights in (None, moved):
        assert kind_of(load_model(tmp_path / "m.safetensors", clip_weights=weights).clip) == activation


def test_older_checkpoints_load_as_they_were_trained(state: dict[str, Tensor], tmp_path: Path) -> None:
    """A local file was made with QuickGELU under OpenAI's names, whatever it says; Long-CLIP with CLIP's activation."""
    path = tmp_path / "w.safetensors"
    save_file(state, str(path))
    (tmp_path / "w.json").write_text(json.dumps({"quick_gelu": False}))
    model = create_model("base", NAME, ["a", "b"], 2, path, activation="quickgelu")
    save_checkpoint(tmp_path / "m.safetensors", model)
    tensors, meta = load_checkpoint(tmp_path / "m.safetensors")
    del meta["clip_activation"]
    write_tensors(tmp_path / "old.safetensors", tensors, meta)
    assert kind_of(load_model(tmp_path / "old.safetensors").clip) == "quickgelu"


def test_long_clip_has_its_own(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Its weights are of QuickGELU beside a CLIP of GELU, too."""
    save_file(state, str(tmp_path / "w.safetensors"))
    tables = {name: torch.randn(248, 64) for name in ("positional_embedding", "positional_embedding_res")}
    save_file({**state, **tables}, str(tmp_path / "long.safetensors"))
    clip = load_clip(NAME, tmp_path / "w.safetensors", activation="gelu")
    tower = CaptionTower(clip.model, tmp_path / "long.safetensors")
    kinds = [type(block.mlp.gelu).__name__ for block in tower.own.transformer.resblocks]
    assert kinds == ["QuickGELU"] * 2 and kind_of(clip.model) == "gelu"
    tower.copy_activation()
    assert [type(block.mlp.gelu).__name__ for block in tower.own.transformer.resblocks] == ["GELU"] * 2


def test_commands_take_and_show_it(state: dict[str, Tensor], tmp_path: Path, workspace: Path, samples: Path) -> None:
    """train asks, takes --activation and says what it trained on; predict takes it, too."""
    path = tmp_path / "w.safetensors"
    save_file(state, str(path))
    small: dict[str, Any] = {"clip": NAME, "clip_weights": str(path)}
    given = {"root": workspace, "dataset": "demo7", "out": tmp_path / "run", "variant": "linear-probe", "epochs": 1}
    with pytest.raises(UsageError, match="--activation"):
        train.run(train.Config(**given, **small, device="cpu"))
    done = train.run(train.Config(**given, **small, activation="gelu", device="cpu"))
    assert any(f"on {NAME} (gelu)" in line for line in done.lines)
    clip = str(samples / "clips" / "single_face.mp4")
    asked = {"videos": (clip,), "classes": ("bored", "glad"), "crop": "lite", **small, "device": "cpu"}
    with pytest.raises(UsageError, match="--activation"):
        predict.run(predict.Config(**asked))
    found = predict.run(predict.Config(**asked, activation="gelu")).values["predictions"][0]
    assert found["made_by"]["clip_activation"] == "gelu"
