"""The reference implementations' numbers, reproduced by models loaded from converted files in the distributed layout.

Full size (ViT-B/32, ViT-B/16), on CPU. Files and models are made once per module and shared by the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_files import EMOTIONS, Golden, write_coop, write_dfer_clip
from safetensors.torch import save_file
from torch import Tensor

from fclip.models import build, load_model
from fclip.models.backbone.clip import encode_text, load_clip
from fclip.models.baselines.descriptions import read_descriptions
from fclip.models.convert import checkpoints, convert
from fclip.models.heads import cosine_logits


def clip_file(path: Path, state: dict[str, Tensor], prefix: str) -> Path:
    save_file({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose big files are removed when the module is done."""
    path = tmp_path_factory.mktemp("goldens")
    yield path
    for file in path.iterdir():
        file.unlink()


def converted(folder: Path, source: Path, kind: str, clip_weights: Path) -> Any:
    """Convert, load, and delete the files."""
    report = convert(source, folder / "out.safetensors", kind, clip_weights=clip_weights)
    model = load_model(folder / "out.safetensors", clip_weights=clip_weights)
    source.unlink()
    (folder / "out.safetensors").unlink()
    return model, report


@torch.no_grad()
def test_dfer_clip(parity: Path, folder: Path) -> None:
    golden = Golden(parity, "dfer_clip")
    seven, eleven = golden.case("c7"), golden.case("c11_text")
    state = golden.state(seven)
    weights = clip_file(folder / "clip.safetensors", state, "clip_model_.")
    write_dfer_clip(folder / "model.pth", state)
    model, report = converted(folder, folder / "model.pth", "dfer-clip", weights)
    assert model.classes == EMOTIONS and model.prompts["class"] == seven["inputs"]["texts"]
    assert sum(p.numel() for p in model.trainable_state().values()) == 89_988_352
    check_prompts(golden, seven, model.prompt_learner)
    golden.check(seven, "text_features", model.text_features())
    features = model.frame_features(golden.input(seven, "frames"))
    golden.check(seven, "frame_features", features)
    golden.check(seven, "temporal_output", model.video_features(features))
    model.frame_features = lambda frames: features  # computed once: it is the slow part
    golden.check(seven, "logits", model({"frames": golden.input(seven, "frames")}).logits)

    changed = {k: v for k, v in golden.state(eleven).items() if k.startswith("prompt_learner.")}
    write_dfer_clip(folder / "model.pth", {**state, **changed})
    model, report = converted(folder, folder / "model.pth", "dfer-clip", weights)
    assert model.classes == tuple(read_descriptions(None)) and model.prompts["class"] == eleven["inputs"]["texts"]
    check_prompts(golden, eleven, model.prompt_learner)
    golden.check(eleven, "text_features", model.text_features())


def check_prompts(golden: Golden, case: dict[str, Any], learner: Any) -> None:
    ids = torch.zeros(len(learner.ids), 77, dtype=torch.int32)
    ids[:, : learner.ids.shape[1]] = learner.ids
    golden.check(case, "prompt_tokens", ids)


@torch.no_grad()
def test_emoclip(parity: Path, folder: Path) -> None:
    golden = Golden(parity, "emoclip")
    case = golden.case("main")
    state = golden.state(case)
    weights = clip_file(folder / "clip.safetensors", state, "backbone.")
    torch.save({f"module.{k}": v for k, v in state.items()}, folder / "model.pth")
    model, _ = converted(folder, folder / "model.pth", "emoclip", weights)
    tokens = model.tokenizer(case["inputs"]["texts"])
    golden.check(case, "tokens", tokens.int())
    texts = encode_text(model.clip, tokens)
    golden.check(case, "text_features", texts)
    features = model.frame_features(golden.input(case, "frames"))
    golden.check(case, "frame_features", features)
    golden.check(case, "temporal_output", model.temporal.tokens(features))
    video = model({"frame_features": features}).features["frames"]
    golden.check(case, "video_features", video)
    golden.check(case, "logits_per_video", cosine_logits(video, texts, model.logit_scale.exp()))


@torch.no_grad()
def test_coop_and_cocoop(parity: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = cache(load_clip)  # both towers stay frozen, so that all models here can share them
    monkeypatch.setattr(build, "load_clip", once)
    monkeypatch.setattr(checkpoints, "load_clip", once)
    golden = Golden(parity, "coop")
    cases = [golden.case("generic"), golden.case("class_specific")]
    state = golden.state(cases[0])
    plain = {
        f"visual.{k.removeprefix('image_encoder.')}": v for k, v in state.items() if k.startswith("image_encoder.")
    }
    plain |= {k.removeprefix("text_encoder."): v for k, v in state.items() if k.startswith(("text_encoder.", "token_"))}
    weights = clip_file(folder / "clip.safetensors", {**plain, "logit_scale": state["logit_scale"]}, "")
    features = None
    for case in cases:
        changed = state if case is cases[0] else golden.state(case)
        write_coop(folder / "model.pth.tar", changed)
        model, report = converted(folder, folder / "model.pth.tar", "coop", weights)
        assert report.metadata["variant"] == "coop" and model.classes == EMOTIONS
        if features is None:
            features = model.frame_features(golden.input(case, "images").unsqueeze(1))  # one frame each
        golden.check(case, "image_features", features.squeeze(1))
        check_prompts(golden, case, model.prompt_learner)
        golden.check(case, "text_features", model.text_features(features[:, 0]))
        golden.check(case, "logits", model({"frame_features": features}).logits)

    golden = Golden(parity, "cocoop")
    case = golden.case("main")
    write_coop(folder / "model.pth.tar", golden.state(case))
    model, report = converted(folder, folder / "model.pth.tar", "coop", weights)
    assert report.metadata["variant"] == "cocoop" and model.classes == EMOTIONS
    assert torch.equal(golden.input(case, "images"), Golden(parity, "coop").input(cases[0], "images"))
    check_prompts(golden, case, model.prompt_learner)
    golden.check(case, "meta_net_output", model.meta_net(features[:, 0]))
    golden.check(case, "text_features", model.text_features(features[:, 0]))
    golden.check(case, "logits", model({"frame_features": features}).logits)
