"""The reference implementations' numbers, reproduced by models loaded from converted files in the distributed layout.

Full size (ViT-B/32, ViT-B/16), on CPU. A CLIP that several have in common is written and loaded once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_files import write_coop, write_dfer_clip
from safetensors.torch import save_file
from torch import Tensor

from fclip.models import build, load_model
from fclip.models.backbone.clip import LoadedClip, load_clip
from fclip.models.backbone.encode import encode_text
from fclip.models.baselines.descriptions import read_descriptions
from fclip.models.baselines.prompt_learner import place_context
from fclip.models.convert import checkpoints, convert
from fclip.models.heads import cosine_logits
from tests.goldens import Golden

_WRITTEN: dict[tuple[tuple[str, int], ...], Path] = {}


def clip_file(folder: Path, plain: dict[str, Tensor]) -> Path:
    """A file of these weights, the same for the same tensors."""
    same = tuple((name, id(tensor)) for name, tensor in sorted(plain.items()))
    if same not in _WRITTEN:
        _WRITTEN[same] = folder / f"clip{len(_WRITTEN)}.safetensors"
        save_file(plain, _WRITTEN[same])
    return _WRITTEN[same]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose big files are removed when the module is done."""
    path = tmp_path_factory.mktemp("goldens")
    torch.serialization.set_crc32_options(False)  # of files that are read once, a second a gigabyte
    yield path
    torch.serialization.set_crc32_options(True)
    loaded_once.cache_clear()
    _WRITTEN.clear()
    for file in path.iterdir():
        file.unlink()


loaded_once = cache(load_clip)


def loaded_to_tune(*args: Any, **options: Any) -> LoadedClip:
    """The same for a model that takes the image tower out and trains it."""
    found = loaded_once(*args, **options)
    model = copy.copy(found.model)
    model._modules = {**found.model._modules, "visual": copy.deepcopy(found.model.visual)}
    return replace(found, model=model)


def converted(folder: Path, source: Path, kind: str, clip_weights: Path, **options: Any) -> Any:
    """Convert, load, and delete the files."""
    report = convert(source, folder / "out.safetensors", kind, clip_weights=clip_weights, **options)
    model = load_model(folder / "out.safetensors", clip_weights=clip_weights)
    source.unlink()
    (folder / "out.safetensors").unlink()
    return model, report


def prompt_tokens(model: Any) -> Tensor:
    """Ids of the prompts as the references tokenise them: context first, wherever the text is put later."""
    ending = "" if model.variant == "dfer-clip" else "."
    context = model.prompt_learner.ctx.shape[-2]
    return place_context(model.tokenizer, model.prompts["class"], context, "end", ending, 77)[0]


@torch.no_grad()
def test_dfer_clip(parity: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cases; the image tower and the temporal transformer are run where the case has frames."""
    monkeypatch.setattr(build, "load_clip", loaded_to_tune)
    golden = Golden(parity, "dfer_clip")
    for case in golden.cases:
        state, texts = golden.state(case), case["inputs"]["texts"]
        weights = clip_file(folder, under(state, "clip_model_."))
        write_dfer_clip(folder / "model.pth", state)
        named = () if len(texts) in (7, 11) else tuple(f"class {i}" for i in range(len(texts)))
        position = case["constructor"]["class_token_position"]
        model, _ = converted(folder, folder / "model.pth", "dfer-clip", weights, classes=named, position=position)
        assert model.prompts["class"] == texts and model.options["position"] == position
        if not named:
            assert model.classes == tuple(read_descriptions(None))[: len(texts)]
        found = {"prompt_tokens": prompt_tokens(model), "text_features": model.text_features()}
        if "frames" in case["inputs"]:
            found["frame_features"] = features = model.frame_features(golden.input(case, "frames"))
            found["temporal_output"] = video = model.video_features(features)
            found["logits"] = cosine_logits(video, found["text_features"], 100.0)
        golden.check(case, found)
    golden.assert_all_read()


@torch.no_grad()
def test_emoclip(parity: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "load_clip", loaded_once)
    golden = Golden(parity, "emoclip")
    for case in golden.cases:
        state = golden.state(case)
        weights = clip_file(folder, under(state, "backbone."))
        torch.save({f"module.{k}": v for k, v in state.items()}, folder / "model.pth")
        model, _ = converted(folder, folder / "model.pth", "emoclip", weights)
        tokens = model.tokenizer(case["inputs"]["texts"])
        texts = encode_text(model.clip, tokens)
        features = model.frame_features(golden.input(case, "frames"))
        video = model({"frame_features": features}).features["frames"]
        golden.check(
            case,
            {
                "tokens": tokens,
                "text_features": texts,
                "frame_features": features,
                "temporal_output": model.temporal.tokens(features),
                "video_features": video,
                "logits_per_video": cosine_logits(video, texts, model.logit_scale.exp()),
            },
        )
    golden.assert_all_read()


@torch.no_grad()
def test_coop_and_cocoop(parity: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case and position; where cases have the same CLIP and images, the images are encoded once."""
    monkeypatch.setattr(build, "load_clip", loaded_once)  # the towers stay frozen: all models here can share them
    monkeypatch.setattr(checkpoints, "load_clip", loaded_once)
    encoded: dict[str, Tensor] = {}
    for golden in (Golden(parity, "coop"), Golden(parity, "cocoop")):
        for case in golden.cases:
            state = golden.state(case)
            weights = clip_file(folder, plain_clip(state))
            write_coop(folder / "model.pth.tar", state)
            given = case["constructor"].get("CLASS_TOKEN_POSITION")
            model, report = converted(folder, folder / "model.pth.tar", "coop", weights, position=given)
            assert report.metadata["variant"] == golden.spec["system"]
            assert list(model.classes) == case["inputs"]["classnames"]
            shown = f"{weights} {case['inputs']['images']}"
            if shown not in encoded:
                encoded[shown] = model.frame_features(golden.input(case, "images").unsqueeze(1))  # one frame each
            features = encoded[shown]
            found = {
                "prompt_tokens": prompt_tokens(model),
                "image_features": features.squeeze(1),
                "text_features": model.text_features(features[:, 0]),
                "logits": model({"frame_features": features}).logits,
            }
            if hasattr(model, "meta_net"):
                found["meta_net_output"] = model.meta_net(features[:, 0])
            golden.check(case, found)
        golden.assert_all_read()


def under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def plain_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's own state dict from that of CoOp's CustomCLIP."""
    plain = {f"visual.{k}": v for k, v in under(state, "image_encoder.").items()}
    plain |= {k.removeprefix("text_encoder."): v for k, v in state.items() if k.startswith(("text_encoder.", "token_"))}
    return {**plain, "logit_scale": state["logit_scale"]}
