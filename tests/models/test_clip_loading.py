"""Loading CLIP by name and from files, what is refused, and the towers' encoders against open_clip's own."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from small_clip import SMALL, add_config
from torch import Tensor

from fclip.errors import FclipError, UsageError
from fclip.models.backbone.clip import LoadedClip, clip_config, load_clip
from fclip.models.backbone.encode import encode_frames, encode_text
from fclip.models.backbone.tiny import TINY_WEIGHTS, load_tiny_state, save_tiny
from fclip.models.weights import weights_sha256
from tests.hub_server import serve

TEXTS = ["a face", "A person with an expression of no fear.", "her eyebrows are drawn together, her lips are pressed"]


@pytest.fixture(scope="module")
def small() -> LoadedClip:
    return load_clip(SMALL, "random")


def openai_file(path: Path, clip: LoadedClip, **extra: Tensor) -> Path:
    torch.save({**clip.model.state_dict(), **extra}, path)
    return path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("coca_ViT-B-32", "CoCa"),
        ("roberta-ViT-B-32", "roberta-base"),
    ],
)
def test_other_towers_are_refused_by_name_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"{name}.*cannot be used: .*{reason}"):
        load_clip(name, "random")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vision": {"qk_norm": True}}, "qk_norm"),
        ({"text": {"scale_heads": True}}, "scale_heads"),
        ({"vision": {"patch_dropout": 0.5}}, "drops patches"),
        ({"text": {"pool_type": "none"}}, "one token"),
    ],
)
def test_blocks_that_compute_something_else_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        load_clip(add_config("fclip-refused", **changes), "random")


def test_an_unknown_name_lists_the_usable_ones() -> None:
    with pytest.raises(UsageError, match="ViT-B-61.*usable models: tiny, .*ViT-B-16, .*ViT-L-14"):
        load_clip("ViT-B-61")
    assert clip_config("ViT-B-16")["quick_gelu"] is True


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quick_gelu": False},
        {"vision": {"ls_init_value": 0.3}, "text": {"ls_init_value": 0.2}},
        {"vision": {"no_ln_pre": True}},
        {"vision": {"norm_kwargs": {"eps": 0.1}}, "text": {"context_length": 24}},
    ],
    ids=["quick", "gelu", "layer-scale", "no-ln-pre", "eps"],
)
def test_encoders_equal_open_clip(changes: dict[str, Any]) -> None:
    clip = load_clip(add_config("fclip-changed", **changes), "random")
    images = torch.randn(3, 3, 32, 32)
    tokens = clip.tokenizer(TEXTS)
    assert tokens.shape == (3, clip.model.context_length)
    with torch.no_grad():
        torch.testing.assert_close(encode_frames(clip.model.visual, images), clip.model.encode_image(images))
        torch.testing.assert_close(encode_text(clip.model, tokens), clip.model.encode_text(tokens))
        torch.testing.assert_close(encode_text(clip.model, tokens[:2]), clip.model.encode_text(tokens)[:2])


def test_random_weights_are_seeded_frozen_and_leave_the_generator_alone(small: LoadedClip) -> None:
    state = torch.get_rng_state()
    assert load_clip(SMALL, "random").sha256 == small.sha256 != load_clip(SMALL, "random", seed=1).sha256
    assert torch.equal(torch.get_rng_state(), state)
    assert not small.model.training
    assert not any(p.requires_grad for p in small.model.parameters())


def test_the_hash_is_of_the_values_not_of_the_file(small: LoadedClip, tmp_path: Path) -> None:
    state = small.model.state_dict()
    save_file(dict(reversed(list(state.items()))), str(tmp_path / "a.safetensors"))
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "b.pt")
    assert {load_clip(SMALL, tmp_path / name).sha256 for name in ("a.safetensors", "b.pt")} == {small.sha256}
    state = {k: v.clone() for k, v in state.items()}
    state["logit_scale"] += 1e-6
    assert weights_sha256(state) != small.sha256


def test_openai_scalars_and_farl_extras_are_left_out_the_rest_is_strict(small: LoadedClip, tmp_path: Path) -> None:
    scalars = {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}
    farl = {
        "visual.lm_transformer.resblocks.0.ln_1.weight": torch.ones(4),
        "visual.ln_lm.bias": torch.ones(4),
        "visual.lm_head.weight": torch.ones(4, 4),
        "visual.mask_token": torch.ones(4),
    }
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {**small.model.state_dict(), **scalars, **farl}}, path)
    assert load_clip(SMALL, path).sha256 == small.sha256
    with pytest.raises(FclipError, match=r"has unexpected 1 tensor\(s\): visual.head"):
        load_clip(SMALL, openai_file(path, small, **{"visual.head": torch.ones(2)}))
    with pytest.raises(FclipError, match=r"ln_final.bias has shape \(3,\), expected \(64,\)"):
        load_clip(SMALL, openai_file(path, small, **{"ln_final.bias": torch.ones(3)}))
    torch.save({k: v for k, v in small.model.state_dict().items() if "ln_post" not in k}, path)
    with pytest.raises(FclipError, match=r"lacks 2 tensor\(s\): visual.ln_post.bias, visual.ln_post.weight"):
        load_clip(SMALL, path)


def test_a_loaded_model_is_whole(small: LoadedClip, tmp_path: Path) -> None:
    loaded = load_clip(SMALL, openai_file(tmp_path / "w.pt", small)).model
    images, tokens = torch.randn(2, 3, 32, 32), small.tokenizer(TEXTS)
    with torch.no_grad():
        assert torch.equal(loaded.encode_image(images), small.model.encode_image(images))
        assert torch.equal(loaded.encode_text(tokens), small.model.encode_text(tokens))  # open_clip's mask is there too


def test_a_torchscript_archive_is_refused_with_the_convert_line(tmp_path: Path) -> None:
    path = tmp_path / "ViT-B-16.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ViT-B-16/code/__torch__/model.py", "raise SystemExit")
        archive.writestr("ViT-B-16/constants.pkl", b"")
    with pytest.raises(FclipError, match=r"fclip convert .*ViT-B-16.pt ViT-B-16.safetensors --from openai"):
        load_clip("ViT-B-16", path)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["FCLIP_TEST_HOSTILE"],)


@pytest.mark.parametrize("content", ["pickle", "torch", *range(20), "truncated", "list", "missing", "bad.safetensors"])
def test_other_files_are_refused_in_one_line_and_run_nothing(
    content: str | int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, trap = tmp_path / str(content), tmp_path / "ran"
    monkeypatch.setenv("FCLIP_TEST_HOSTILE", str(trap))
    if content == "pickle":
        path.write_bytes(pickle.dumps(Hostile()))
    elif content == "torch":
        torch.save({"a": Hostile()}, path)
    elif content == "truncated":
        torch.save({"a": torch.ones(100)}, path)
        path.write_bytes(path.read_bytes()[:-200])
    elif content == "list":
        torch.save([torch.ones(3)], path)
    elif content != "missing":
        path.write_bytes(random.Random(content).randbytes(300))  # 2 and 14 look like the start of a pickle
    with pytest.raises(FclipError) as error:
        load_clip(SMALL, path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert not trap.exists()


@pytest.mark.parametrize(("tag", "quick"), [(None, True), ("openai", True), ("laion2b_e16", False)])
def test_the_tag_decides_between_quickgelu_and_gelu(
    tag: str | None, quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's weights lie where `fclip fetch` puts them; of others only open_clip's own fetching is replaced."""
    config = {**open_clip.get_model_config("ViT-B-32"), **open_clip.get_model_config(SMALL), "quick_gelu": False}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", config)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32-quickgelu", {**config, "quick_gelu": True})
    monkeypatch.setenv("FCLIP_WEIGHTS", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    model = load_clip("ViT-B-32", "random").model
    save_file(model.state_dict(), str(tmp_path / "ViT-B-32.safetensors"))
    monkeypatch.setattr(
        open_clip.factory, "download_pretrained", lambda *args, **more: str(tmp_path / "ViT-B-32.safetensors")
    )
    with serve({}, {}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        loaded = load_clip("ViT-B-32", tag)
    assert isinstance(loaded.model.visual.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU) is quick
    assert loaded.sha256 == weights_sha256(model.state_dict())


def test_weights_that_are_out_of_reach_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCLIP_WEIGHTS", str(tmp_path))
    with pytest.raises(
        FclipError, match="ViT-B-32.safetensors .*605 MB.*fclip fetch ViT-B-32; without it: --clip tiny"
    ):
        load_clip("ViT-B-32")
    with pytest.raises(FclipError, match="could not be fetched.*does not answer.*give a local file"):
        load_clip("ViT-B-32", "laion2b_e16")
    with pytest.raises(FclipError, match="no published weights"):
        load_clip(SMALL)


def test_tiny_round_trips_through_its_small_file(tmp_path: Path) -> None:
    state = load_clip("tiny", "random").model.state_dict()
    save_tiny(tmp_path / "tiny.safetensors", state, [49406, 49407, 320, 320])
    assert (tmp_path / "tiny.safetensors").stat().st_size < 6e6
    loaded = load_tiny_state(tmp_path / "tiny.safetensors")
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        expected = tensor.half().float()
        if name == "token_embedding.weight":
            assert int((loaded[name] != 0).any(1).sum()) == 3
            expected, loaded[name] = expected[[320, 49406, 49407]], loaded[name][[320, 49406, 49407]]
        assert torch.equal(loaded[name], expected), name


def test_tiny_without_its_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FclipError, match="install fclip again"):
        load_tiny_state(tmp_path / "tiny.safetensors")
    save_file({"x": torch.ones(1)}, str(tmp_path / "x.safetensors"))
    with pytest.raises(FclipError, match="token_embedding.ids"):
        load_tiny_state(tmp_path / "x.safetensors")


@pytest.mark.skipif(not TINY_WEIGHTS.is_file(), reason="the bundled weights are not there yet")
def test_the_bundled_tiny_loads_and_tells_texts_apart() -> None:
    clip = load_clip("tiny")
    assert clip.image_size == 80
    with torch.no_grad():
        features = encode_text(clip.model, clip.tokenizer(["happiness", "anger"]))
    assert features.isfinite().all() and float(torch.cosine_similarity(*features, dim=0)) < 0.999
