"""Untrained, it is plain CLIP; trained, it is the equations as they read; its tunable parameters are the published ones."""

from __future__ import annotations

import re

import pytest
import torch
from plain_rendering import plain_loss
from small_clip import CLASSES, FRAMES, VARIANTS, build, make_batch

from fclip.models import create_model
from fclip.models.backbone.building import CONSTRUCTOR
from fclip.models.backbone.clip import LoadedClip, clip_config
from fclip.models.base import ExpressionModel, ModelSpec
from fclip.models.finecliper.model import FineCliper, Options
from fclip.registry import VARIANTS as KNOWN

COUNTS = {"base": 13_824_768, "star": 19_963_008, "dagger": 14_086_912, "star-dagger": 20_225_152}


def check_identity(model: FineCliper, clips: int = 2, tolerance: float = 1e-5) -> None:
    """Features of all modalities and label texts equal open_clip's, computed by open_clip."""
    batch, clip = make_batch(model, clips), model.clip
    with torch.no_grad():
        output = model.eval()(batch)
        positive, negative = model.label_features()
        texts = clip.encode_text(model.tokenizer(model.prompts["positive"] + model.prompts["negative"]))
    torch.testing.assert_close(torch.cat([positive, negative]), texts, atol=tolerance, rtol=0)
    for name in output.modalities:
        if name == "caption":
            tokens = batch["captions"][:, : clip.context_length]  # short captions: below row 20 nothing is stretched
            expected = clip.encode_text(tokens)
        else:
            expected = clip.encode_image(batch[name].flatten(0, 1)).unflatten(0, (clips, -1)).mean(1)
        torch.testing.assert_close(output.features[name], expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"text_adapter_position": "after"},
        {"text_adapters": "positive"},
        {"text_adapters": "none"},
        {"video_adapters": False},
        {"scale": 0.7},
    ],
    ids=str,
)
def test_untrained_is_plain_clip(variant: str, options: dict[str, object]) -> None:
    check_identity(build(variant, **options))


def test_untrained_is_plain_clip_at_full_size() -> None:
    torch.manual_seed(0)
    model = create_model("dagger", "ViT-B-16", CLASSES, 2, "random")
    assert isinstance(model, FineCliper)
    check_identity(model, clips=1)


def no_tokens(texts: list[str]) -> torch.Tensor:
    """In place of a tokenizer: ids do not matter for counting."""
    return torch.zeros(len(texts), 77, dtype=torch.long, device="cpu")


@pytest.fixture(scope="module")
def full_size() -> LoadedClip:
    """ViT-B/16 without memory, for counting."""
    import open_clip

    config = clip_config("ViT-B-16")
    with torch.device("meta"):
        clip = open_clip.CLIP(**{k: v for k, v in config.items() if k in CONSTRUCTOR}).requires_grad_(False)
    return LoadedClip("ViT-B-16", clip, "", no_tokens, 224, (0, 0, 0), (1, 1, 1))


def count(clip: LoadedClip, variant: str, **options: object) -> ExpressionModel:
    with torch.device("meta"):
        return KNOWN.find(variant)(ModelSpec(variant, clip, CLASSES, 16, Options(**options)))  # type: ignore


@pytest.mark.parametrize("variant", VARIANTS)
def test_tunable_parameters_are_exactly_the_published(variant: str, full_size: LoadedClip) -> None:
    state = count(full_size, variant).trainable_state()
    assert sum(t.numel() for t in state.values()) == COUNTS[variant]


def test_parts_of_the_count(full_size: LoadedClip) -> None:
    parts: dict[str, int] = {}
    for name, tensor in count(full_size, "star-dagger").trainable_state().items():
        part = name if name.startswith("proj") or "temporal_embedding" in name else name.split(".blocks")[0]
        parts[part] = parts.get(part, 0) + tensor.numel()
    assert parts == {
        "frames": 36 * 295_872,
        "frames.temporal_embedding": 12_288,
        "faces": 36 * 148_320,
        "faces.temporal_embedding": 12_288,
        "text.positive": 12 * 131_712,
        "text.negative": 12 * 131_712,
        "proj.parsing": 393_216,
        "proj.landmarks": 393_216,
        "proj.caption": 262_144,
    }


@pytest.mark.parametrize(
    ("variant", "options", "removed"),
    [
        ("base", {"text_adapters": "positive"}, 12 * 131_712),
        ("base", {"text_adapters": "none"}, 24 * 131_712),
        ("base", {"video_adapters": False}, 36 * 295_872 + 12_288),
        ("star", {"frames_level": False}, 36 * 295_872 + 12_288),
        ("star", {"parsing": False}, 393_216),
        ("star", {"landmarks": False}, 393_216),
        ("star", {"parsing": False, "landmarks": False}, COUNTS["star"] - COUNTS["base"]),
        ("dagger", {"frames_level": False}, 36 * 295_872 + 12_288),
    ],
)
def test_a_switch_removes_its_parameters(
    variant: str, options: dict[str, object], removed: int, full_size: LoadedClip
) -> None:
    state = count(full_size, variant, **options).trainable_state()
    assert sum(t.numel() for t in state.values()) == COUNTS[variant] - removed


def test_names_are_those_of_the_public_format() -> None:
    state = build("star-dagger").trainable_state()
    adapter = r"(down|up)\.(weight|bias)"
    pattern = re.compile(
        rf"(frames|faces)\.(temporal_embedding|blocks\.[01]\.(temporal|spatial|mlp)\.{adapter})"
        rf"|text\.(positive|negative)\.blocks\.[01]\.{adapter}|proj\.(parsing|landmarks|caption)"
    )
    assert all(pattern.fullmatch(name) for name in state)
    assert len(state) == 2 * (1 + 2 * 3 * 4) + 2 * 2 * 4 + 3
    assert state["frames.temporal_embedding"].shape == (1, FRAMES, 128)
    assert state["frames.blocks.0.mlp.down.weight"].shape == (32, 128)
    assert state["faces.blocks.1.temporal.up.weight"].shape == (128, 16)
    assert state["text.negative.blocks.1.down.weight"].shape == (16, 64)
    assert state["proj.parsing"].shape == (128, 32) and state["proj.caption"].shape == (64, 32)


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        *((name, {}) for name in VARIANTS),
        *((name, {"frame_adapter_position": "before"}) for name in ("base", "star")),
        *((name, {"temporal_adapters": "both"}) for name in ("base", "star")),
    ],
)
def test_trained_model_equals_the_method_as_it_reads(variant: str, options: dict[str, str]) -> None:
    """Loss and every gradient against open_clip's own blocks, full texts, separate passes; with adapters far from 0."""
    model = build(variant, trained=True, **options).double()
    batch = {k: v.double() if v.is_floating_point() else v for k, v in make_batch(model, clips=2).items()}
    grads = []
    for loss in (model(batch).loss, plain_loss(model, batch)):
        model.zero_grad()
        loss.backward()
        grads.append({name: p.grad.clone() for name, p in model.adapters.named_parameters()} | {"loss": loss.detach()})
    assert grads[0].keys() == grads[1].keys()
    for name, gradient in grads[0].items():
        assert torch.allclose(gradient, grads[1][name], atol=1e-9, rtol=1e-6), name
        assert gradient.abs().sum() > 0, name
