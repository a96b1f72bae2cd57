"""Training: what one step changes, what it costs, that it learns, and that it does so the same way twice."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_clip import VARIANTS, build, make_batch
from torch import Tensor

from fclip.errors import FclipError
from fclip.faces.maps import landmark_images, parsing_images
from fclip.models import create_model
from fclip.models.backbone.clip import load_clip
from fclip.models.finecliper.model import FineCliper
from fclip.synth.clips import render_clip, sample_clip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("options", [{}, {"video_adapters": False, "text_adapters": "positive"}], ids=["all", "some"])
def test_one_step_changes_exactly_the_trainable_tensors(variant: str, options: dict[str, Any]) -> None:
    model = build(variant, trained=True, **options)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainable = {f"adapters.{name}" for name in model.trainable_state()}
    optimizer = torch.optim.SGD(model.parameter_groups(0.1, 0.0), momentum=0.9)
    loss = model.train()(make_batch(model)).loss
    assert loss is not None
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == (name in trainable), name
    optimizer.step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in trainable), name


def test_gradients_reach_every_tensor_of_an_untrained_model_in_two_steps() -> None:
    """At zero the up-projections hide the down-projections for one step, not for two."""
    model = build("star-dagger")
    optimizer = torch.optim.SGD(model.parameter_groups(0.1, 0.0))
    for _ in range(2):
        optimizer.zero_grad()
        model(make_batch(model)).loss.backward()
        optimizer.step()
    assert all(bool(p.grad.any()) for p in model.adapters.parameters())


def test_decay_is_not_for_biases_and_norms() -> None:
    model = build("star")
    decayed, free = model.parameter_groups(3e-4, 1e-4)
    assert (decayed["weight_decay"], free["weight_decay"], decayed["lr"], free["lr"]) == (1e-4, 0.0, 3e-4, 3e-4)
    names = {id(p): name for name, p in model.adapters.named_parameters()}
    assert all(names[id(p)].endswith("bias") for p in free["params"])
    assert not any(names[id(p)].endswith("bias") for p in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    with pytest.raises(FclipError, match="no trainable parameter"):
        build("base", text_adapters="none", video_adapters=False).parameter_groups(1e-3, 0)


def saved_bytes(model: FineCliper, batch: dict[str, Tensor]) -> int:
    """Bytes kept for the backward pass, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(batch)
    return sum(kept.values())


def test_checkpointing_changes_no_number_and_saves_memory() -> None:
    plain, saving = build("star", trained=True), build("star", trained=True, checkpointing=True)
    batch, losses = make_batch(plain, clips=4), []
    for model in (plain, saving):
        output = model(batch)
        output.loss.backward()
        losses.append(output.loss.detach())
    assert torch.equal(losses[0], losses[1])
    for one, two in zip(plain.adapters.parameters(), saving.adapters.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    assert saved_bytes(saving, batch) < 0.6 * saved_bytes(plain, batch)


def test_frozen_parts_keep_nothing_for_the_backward_pass() -> None:
    """Without adapters on frames and texts, and for captions, only the fusion's small tensors are kept."""
    model = build("dagger", text_adapters="none", video_adapters=False)
    assert not model.encode(make_batch(model))["frames"].requires_grad
    assert not any(texts.requires_grad for texts in model.label_features())
    small, large = (saved_bytes(model, make_batch(model, clips)) for clips in (2, 6))
    features = 4 * 4 * (64 + 2 * 32 + 2 * 7)  # of four more clips: caption (D), two modalities (E), similarities (C)
    assert large - small < 12 * features


def test_bf16_keeps_similarities_in_float32() -> None:
    model = build("star-dagger", trained=True)
    batch = make_batch(model)
    exact = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch)
    assert output.logits.dtype == output.weights.dtype == output.loss.dtype == torch.float32
    torch.testing.assert_close(output.features["fused"], exact.features["fused"], atol=0.05, rtol=0.1)
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.adapters.parameters())


CLIPS = [("happiness", 3), ("surprise", 4), ("disgust", 5), ("sadness", 6)]


@pytest.fixture(scope="module")
def rendered() -> dict[str, Tensor]:
    """Eight rendered clips of four expressions, two persons each, 2 frames of 80 x 80."""
    classes = [label for label, _ in CLIPS]
    clips = [
        render_clip(sample_clip(label, identity + 20 * twice, 7, classes), 80, 2)
        for twice in (0, 1)
        for label, identity in CLIPS
    ]

    def normalise(images: Tensor) -> Tensor:
        return (images - 0.45) / 0.27

    frames = torch.stack([torch.from_numpy(clip.frames) for clip in clips])  # (B, T, H, W, 3)
    tokenizer = create_model("base", "tiny", classes, 2, "random").tokenizer
    return {
        "frames": normalise(frames.permute(0, 1, 4, 2, 3) / 255),
        "parsing": normalise(parsing_images(torch.stack([torch.from_numpy(clip.parsing) for clip in clips]))),
        "landmarks": normalise(
            landmark_images(torch.stack([torch.from_numpy(clip.landmarks) for clip in clips]), 80, radius=3)
        ),
        "captions": tokenizer([clip.caption for clip in clips], context_length=248),
        "labels": torch.tensor([classes.index(clip.label) for clip in clips]),
    }


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random CLIP weights, larger than at initialisation, so that images differ as much as in a trained CLIP."""
    state = load_clip("tiny", "random").model.state_dict()
    for name, tensor in state.items():
        gain = {"visual.conv1.weight": 3.0, "token_embedding.weight": 5.0}.get(name, 1.0)
        inside = name.endswith("weight") and (".attn." in name or ".mlp." in name)
        state[name] = tensor * (2.5 if inside else gain)
    path = tmp_path_factory.mktemp("clip") / "lively.pt"
    torch.save(state, path)
    return path


def overfit(variant: str, clip: Path, batch: dict[str, Tensor], steps: int = 20) -> tuple[list[float], FineCliper]:
    torch.manual_seed(0)
    model = create_model(variant, "tiny", [label for label, _ in CLIPS], 2, clip)
    assert isinstance(model, FineCliper)
    optimizer = torch.optim.AdamW(model.parameter_groups(1e-3, 0.0))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.train()(batch).loss
        assert loss is not None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, model


@pytest.mark.parametrize("variant", VARIANTS)
def test_twenty_steps_overfit_eight_rendered_clips(variant: str, lively: Path, rendered: dict[str, Tensor]) -> None:
    losses, model = overfit(variant, lively, rendered)
    assert losses[0] > 1
    with torch.no_grad():
        output = model.eval()(rendered)
    assert float(output.loss) < 0.01, losses
    assert torch.equal(output.logits.argmax(1), rendered["labels"])


def test_training_is_deterministic(lively: Path, rendered: dict[str, Tensor]) -> None:
    (first, one), (second, two) = (overfit("star-dagger", lively, rendered, steps=2) for _ in range(2))
    assert first == second
    for name, tensor in one.trainable_state().items():
        assert torch.equal(tensor, two.trainable_state()[name]), name


def test_a_copied_model_trains_apart_from_its_origin() -> None:
    model = build("dagger", trained=True)
    twin = copy.deepcopy(model)
    batch = make_batch(model)
    assert torch.equal(model(batch).logits, twin(batch).logits)
    with torch.no_grad():
        twin.adapters["proj"]["caption"].add_(1)
    assert not torch.equal(model(batch).logits, twin(batch).logits)
