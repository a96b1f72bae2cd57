"""Explanations: similarities, weights and attention maps are those of the decision; mirrored input, mirrored maps."""

from __future__ import annotations

import pytest
import torch
from small_clip import CLASSES, VARIANTS, build, make_batch
from torch import Tensor

from fclip.errors import FclipError
from fclip.faces.maps import flip_landmarks, flip_parsing, landmark_images, parsing_images
from fclip.models import create_model
from fclip.models.finecliper.explain import explain
from fclip.models.finecliper.model import FineCliper
from fclip.synth.clips import render_clip, sample_clip


@pytest.mark.parametrize("variant", VARIANTS)
def test_similarities_and_weights_give_the_decision(variant: str) -> None:
    model = build(variant, trained=True).eval()
    batch = make_batch(model, clips=3)
    found = explain(model, batch)
    with torch.no_grad():
        output = model(batch)
    assert found.modalities == model.modalities and found.positive.shape == (3, len(model.modalities), len(CLASSES))
    difference = found.positive - found.negative
    for m, name in enumerate(found.modalities):
        torch.testing.assert_close(difference[:, m] / 0.01, output.modality_logits[name], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.weights, difference.amax(-1).softmax(-1))
    assert torch.equal(found.logits, output.logits)
    assert found.attention is not None and found.attention.shape == (3, 3, 2, 2)


@pytest.mark.parametrize("options", [{}, {"video_adapters": False}], ids=["adapters", "plain"])
def test_untrained_attention_is_clips_own(options: dict[str, bool]) -> None:
    """Against nn.MultiheadAttention's own weights in the last block of open_clip's tower."""
    model = build("base", **options).eval()
    visual, batch = model.clip.visual, make_batch(model)
    with torch.no_grad():
        x = visual._embeds(batch["frames"].flatten(0, 1))  # (B*T, N, D)
        block, last = visual.transformer.resblocks
        x = last.ln_1(block(x))
        weights = last.attn(x, x, x, need_weights=True, average_attn_weights=True)[1][:, 0, 1:]  # (B*T, M)
    found = explain(model, batch).attention
    torch.testing.assert_close(found, weights.view(2, 3, 2, 2))
    assert bool((found.flatten(2).sum(-1) < 1).all()) and bool((found > 0).all())


def test_trained_attention_follows_the_adapters() -> None:
    model = build("base", trained=True)
    batch = make_batch(model)
    assert not torch.allclose(explain(model, batch).attention, explain(build("base"), batch).attention)


def test_models_without_frames_or_texts() -> None:
    model = build("dagger", frames_level=False)
    assert explain(model, make_batch(model)).attention is None
    other = create_model("linear-probe", "tiny", CLASSES, 2, "random")
    with pytest.raises(FclipError, match="linear-probe has no positive and negative texts"):
        explain(other, {})  # type: ignore[arg-type]


def mirrored_clip(model: FineCliper) -> FineCliper:
    """The same model with a CLIP that sees the world in a mirror: patch filters and position grid flipped."""
    visual = model.clip.visual
    rows, columns = visual.grid_size
    with torch.no_grad():
        visual.conv1.weight.copy_(visual.conv1.weight.flip(-1))
        grid = visual.positional_embedding[1:].unflatten(0, (rows, columns)).flip(1).flatten(0, 1)
        visual.positional_embedding[1:] = grid
    return model


@pytest.fixture(scope="module")
def views() -> dict[str, dict[str, Tensor]]:
    """A rendered clip as model input (1, T, 3, 80, 80): as `seen`, as flipped `images`, and `turned` as augmentation
    does it (landmarks renumbered, left and right labels of the parsing swapped, then drawn)."""
    clip = render_clip(sample_clip("disgust", 11, 3, CLASSES), 80, 2)
    parsing, landmarks = torch.from_numpy(clip.parsing)[None], torch.from_numpy(clip.landmarks)[None]
    frames = torch.from_numpy(clip.frames)[None].permute(0, 1, 4, 2, 3) / 255
    seen = {"frames": frames, "parsing": parsing_images(parsing), "landmarks": landmark_images(landmarks, 80)}
    turned = {
        "frames": frames.flip(-1),
        "parsing": parsing_images(flip_parsing(parsing)),
        "landmarks": landmark_images(flip_landmarks(landmarks), 80),
    }
    images = {name: image.flip(-1) for name, image in seen.items()}
    sides = torch.isin(parsing.flip(-1), torch.tensor([2, 3, 4, 5]))  # brows and eyes, (1, T, 80, 80)
    return {"seen": seen, "images": images, "turned": turned, "sides": {"parsing": sides}}


def test_a_turned_clip_is_the_flipped_image_but_for_the_colours_of_left_and_right(
    views: dict[str, dict[str, Tensor]],
) -> None:
    turned, images = views["turned"], views["images"]
    assert torch.equal(turned["frames"], images["frames"])
    changed = (turned["parsing"] != images["parsing"]).any(2)  # (1, T, 80, 80)
    assert torch.equal(changed, views["sides"]["parsing"]) and bool(changed.any())
    drawn = [(maps["landmarks"] > 0.1).any(2) for maps in (turned, images)]
    assert float((drawn[0] != drawn[1]).float().mean()) < 2e-3 and bool(drawn[0].any())


def test_a_mirrored_clip_sees_mirrored_input_the_same_way(views: dict[str, dict[str, Tensor]]) -> None:
    """All modalities at once: equal logits and weights, and the attention maps are mirrored."""
    torch.manual_seed(0)
    model = create_model("star", "tiny", CLASSES, 2, "random").eval()
    assert isinstance(model, FineCliper)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    seen = explain(model, views["seen"])
    model = mirrored_clip(model)
    mirrored, turned = explain(model, views["images"]), model(views["turned"])
    torch.testing.assert_close(mirrored.logits, seen.logits, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(mirrored.weights, seen.weights, atol=1e-5, rtol=1e-4)
    assert seen.attention is not None and mirrored.attention is not None
    torch.testing.assert_close(mirrored.attention, seen.attention.flip(-1), atol=1e-6, rtol=1e-4)
    assert not torch.allclose(seen.attention, seen.attention.flip(-1), atol=1e-4)
    torch.testing.assert_close(turned.modality_logits["frames"], 100 * (mirrored.positive - mirrored.negative)[:, 0])
    assert not torch.allclose(turned.modality_logits["parsing"], 100 * (mirrored.positive - mirrored.negative)[:, 1])
