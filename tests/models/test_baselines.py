"""The baselines: each trains and round-trips; CLIP ones against plain CLIP; the contrastive loss against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fclip.errors import FclipError, UsageError
from fclip.models import create_model, load_model
from fclip.models.backbone.clip import load_clip
from fclip.models.baselines.emoclip import cut_tokens
from fclip.models.checkpoint import save_checkpoint
from fclip.models.heads import contrastive_loss, same_text

CLASSES = ("happiness", "sadness", "anger")
CAPTIONS = ["the mouth opens", "the eyebrows rise slowly", "the mouth opens", "the lips press together"]
FROZEN = ("linear-probe", "coop", "cocoop", "emoclip", "zeroshot-clip", "zeroshot-farl")
VIDEO = ("r3d-18", "r2plus1d-18", "mc3-18", "s3d", "resnet18-lstm", "resnet18-vit")
LEARNING_RATES = {"finetune": 1e-5, "linear-probe": 3e-3, "coop": 0.5, "cocoop": 0.5}  # of a random CLIP
SMALL: dict[str, dict[str, Any]] = {"emoclip": {"head_width": 16}}


def make(variant: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return create_model(
        variant, "tiny", CLASSES, 8 if variant == "s3d" else 4, "random", **{**SMALL.get(variant, {}), **options}
    )


def batch(model: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = 32 if model.variant in VIDEO else 80
    squares = torch.randn(4 * model.frames, 3, 5, 5, generator=generator)  # coarse patterns: clips that differ
    frames = F.interpolate(squares, size=size).unflatten(0, (4, model.frames))
    texts = {} if model.variant in VIDEO else {"captions": model.tokenizer(CAPTIONS)}
    return {"frames": frames, "labels": torch.tensor([0, 1, 0, 2]), **texts}


@pytest.mark.parametrize("variant", [*FROZEN[:4], "finetune", *VIDEO])
def test_it_learns_and_round_trips(tmp_path: Path, variant: str) -> None:
    model = make(variant)
    inputs, lr = batch(model), LEARNING_RATES.get(variant, 1e-2)
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.SGD(model.parameter_groups(lr, 0.0), momentum=0.9)
    losses = []
    for _ in range(4 if variant in VIDEO else 10):
        output = model.train()(inputs)
        optimizer.zero_grad()
        output.loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
        losses.append(output.loss.item())
    assert min(losses[-3:]) < losses[0] * 0.98
    assert output.logits.shape == output.modality_logits["frames"].shape == (4, 3)
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in frozen.items())
    save_checkpoint(tmp_path / "a.safetensors", model.eval())
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "a.safetensors")(inputs).logits, model(inputs).logits)


@pytest.mark.parametrize("variant", [*FROZEN, "finetune", *VIDEO])
def test_logits_are_float32_under_autocast(variant: str) -> None:
    model = make(variant).eval()
    inputs = {name: value[:1] for name, value in batch(model).items()}
    with torch.no_grad():
        expected = model(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            output = model(inputs)
    assert output.logits.dtype == output.loss.dtype == torch.float32
    assert torch.allclose(output.logits, expected.logits, atol=0.05 * max(1.0, float(expected.logits.abs().max())))


@pytest.mark.parametrize("variant", FROZEN)
def test_cached_frame_features_give_the_same_output(variant: str) -> None:
    model = make(variant).eval()
    inputs = batch(model)
    with torch.no_grad():
        expected = model(inputs)
        cached = {**inputs, "frame_features": model.frame_features(inputs.pop("frames"))}
        cached.pop("frames", None)
        output = model(cached)
    assert "frames" in model.frozen_encoders() and cached["frame_features"].shape == (4, 4, 128)
    assert torch.allclose(output.logits, expected.logits, atol=1e-4)
    assert make("finetune").frozen_encoders() == {}


@pytest.mark.parametrize("variant", ["zeroshot-clip", "zeroshot-farl"])
def test_zeroshot_is_plain_clip(variant: str) -> None:
    model, plain = make(variant), load_clip("tiny", "random")
    inputs = batch(model)
    with torch.no_grad():
        video = plain.model.encode_image(inputs["frames"].flatten(0, 1)).unflatten(0, (4, 4)).mean(dim=1)
        texts = plain.model.encode_text(plain.tokenizer([f"an expression of {name}" for name in CLASSES]))
        logits = plain.model.logit_scale.exp() * F.cosine_similarity(video[:, None], texts[None], dim=-1)
        assert torch.allclose(model(inputs).logits, logits, atol=1e-4)
    assert model.trainable_state() == {}
    with pytest.raises(FclipError, match="no trainable parameter"):
        model.parameter_groups(1e-3, 0.0)
    assert make(variant, text_mode="description").prompts["class"][0].endswith(".")


def test_zeroshot_farl_asks_for_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FCLIP_WEIGHTS", str(tmp_path))
    with pytest.raises(FclipError, match="FaRL-Base-Patch16.*fclip fetch FaRL"):
        create_model("zeroshot-farl", "ViT-B-16", CLASSES)


def test_the_registry_says_of_weights_what_the_variants_do() -> None:
    """Row.weights is known without importing a model."""
    from fclip.registry import CLIP, VARIANTS

    for row in VARIANTS.rows():
        needs = VARIANTS.property(row.name, "needs_clip", True)
        own = VARIANTS.property(row.name, "clip_weights", None)
        assert row.weights == (own or (CLIP if needs else "")), row.name


def test_coop_starts_as_the_words_it_is_given() -> None:
    model, plain = make("coop", context=4, init="a photo of a"), load_clip("tiny", "random")
    texts = plain.model.encode_text(plain.tokenizer([f"a photo of a {name}." for name in CLASSES]))
    assert torch.allclose(model.text_features(torch.zeros(1, 128)), texts, atol=1e-5)
    with pytest.raises(UsageError, match="class_specific"):
        make("coop", init="a photo of a", class_specific=True)
    assert make("coop", class_specific=True).trainable_state()["prompt_learner.ctx"].shape == (3, 16, 128)


def test_cocoop_texts_are_those_of_each_shifted_context() -> None:
    model = make("cocoop")
    video = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    texts = model.text_features(video)
    shift = model.meta_net(video)
    assert texts.shape == (3, 3, 128) and shift.abs().max() > 0
    start = model.prompt_learner.ctx.detach().clone()
    for index in range(3):
        with torch.no_grad():
            model.prompt_learner.ctx.copy_(start + shift[index])
            assert torch.allclose(model.prompt_learner(model.clip), texts[index], atol=1e-5)
    assert set(model.trainable_state()) == {"prompt_learner.ctx"} | {
        f"prompt_learner.meta_net.linear{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")
    }


def test_finetune_with_and_without_temporal_model() -> None:
    plain, temporal = make("finetune"), make("finetune", temporal=True, temporal_layers=2)
    extra = temporal.trainable_state().keys() - plain.trainable_state().keys()
    assert extra and all(name.startswith("temporal_net.") for name in extra)
    temporal(batch(temporal)).loss.backward()
    assert all(p.grad is not None for p in temporal.parameters())
    assert [group["lr"] for group in temporal.parameter_groups(1e-5, 1e-4)] == pytest.approx([1e-5, 1e-2])


# -- clips and captions -------------------------------------------------------------------------------------------


def plain_contrastive(video: np.ndarray, text: np.ndarray, scale: float, names: list[int]) -> float:
    """Symmetric InfoNCE pair by pair, leaving out pairs with the same text."""
    video, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (video, text))
    total, count = 0.0, len(names)
    for i in range(count):
        others = [j for j in range(count) if j == i or names[j] != names[i]]
        rows, columns = scale * (video[i] @ text[others].T), scale * (video[others] @ text[i])
        for scores in (rows, columns):
            total += np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[others.index(i)]
    return total / (2 * count)


@settings(deadline=None, max_examples=60)
@given(names=st.lists(st.integers(0, 3), min_size=1, max_size=9), seed=st.integers(0, 99), scale=st.floats(0.1, 100))
def test_contrastive_loss_is_its_plain_rendering(names: list[int], seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    video, texts = (torch.randn(len(names), 16, generator=generator, dtype=torch.float32) for _ in range(2))
    loss = contrastive_loss(video, texts, scale, torch.tensor(names))
    expected = plain_contrastive(video.double().numpy(), texts.double().numpy(), scale, names)
    assert loss.item() == pytest.approx(expected, rel=1e-3, abs=2e-4)


def test_equal_captions_are_one_group() -> None:
    groups = same_text(load_clip("tiny", "random").tokenizer(CAPTIONS)).tolist()
    assert groups[0] == groups[2] and len(set(groups)) == 3


def test_emoclip_objectives() -> None:
    model = make("emoclip")
    inputs = batch(model)
    assert model.modalities == ("frames", "caption") and make("emoclip", objective="labels").modalities == ("frames",)
    with_tokens = model(inputs).loss
    features = {**inputs, "caption_features": model.caption_features(inputs["captions"])}
    assert torch.allclose(model(features).loss, with_tokens, atol=1e-5)
    del inputs["captions"]
    with pytest.raises(FclipError, match="captions"):
        model.train()(inputs)
    assert model.eval()(inputs).loss is None
    by_labels = make("emoclip", objective="labels")
    texts = by_labels.texts[inputs["labels"]]
    video = by_labels(inputs).features["frames"]
    expected = contrastive_loss(video, texts, by_labels.logit_scale.exp(), inputs["labels"])
    assert torch.allclose(by_labels(inputs).loss, expected)


def test_clips_without_a_caption_do_not_count() -> None:
    model = make("emoclip")
    inputs = batch(model)
    some = {**inputs, "captions": inputs["captions"] * torch.tensor([[1], [0], [1], [1]])}
    kept = {name: value[[0, 2, 3]] for name, value in inputs.items()}
    assert torch.allclose(model(some).loss, model(kept).loss, atol=1e-5)
    none = model({**inputs, "captions": torch.zeros_like(inputs["captions"])})
    none.loss.backward()
    assert none.loss.item() == 0


def test_long_captions_are_cut_as_the_tokenizer_cuts() -> None:
    tokenizer = load_clip("tiny", "random").tokenizer
    texts = ["a short one", "word " * 75, "word " * 76, "word " * 200]
    assert torch.equal(cut_tokens(tokenizer(texts, 248), 77), tokenizer(texts, 77))
    model = make("emoclip")
    assert torch.equal(model.caption_features(tokenizer(texts, 248)), model.caption_features(tokenizer(texts)))


def test_video_network_checkpoints_hold_batch_statistics() -> None:
    model = make("mc3-18").train()
    before = {k: v.clone() for k, v in model.trainable_state().items()}
    with torch.no_grad():
        model(batch(model))
    changed = {k for k, v in model.trainable_state().items() if not torch.equal(v, before[k])}
    assert changed and all(k.endswith(("running_mean", "running_var", "num_batches_tracked")) for k in changed)
    with pytest.raises(FclipError, match="lacks"):
        model.load_trainable_state({})


def test_video_networks_load_no_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    from fclip.models import build

    monkeypatch.setattr(build, "load_clip", lambda name, weights: pytest.fail(f"CLIP {name} is loaded"))
    model = create_model("resnet18-lstm", "ViT-L-14", CLASSES, 2, image_size=64)
    assert model.preprocess.image_size == 64 and model.clip_name == "none"
    with pytest.raises(UsageError, match="image_size"):
        create_model("r3d-18", "tiny", CLASSES, image_size=8)
