"""Every family of image-text models through the one interface: untrained it is the plain model, trained it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from open_clip.model import resize_pos_embed
from safetensors.torch import save_file
from small_clip import CLASSES, build, make_batch
from small_towers import ENCODERS, TOWERS, add_tower
from test_finecliper_identity import check_identity

from fclip.errors import UsageError
from fclip.models import create_model, load_model
from fclip.models.backbone.clip import load_clip
from fclip.models.backbone.encode import encode_frames, encode_text
from fclip.models.baselines.coop import Coop
from fclip.models.checkpoint import save_checkpoint
from fclip.models.finecliper.explain import explain

TEXTS = ["a face", "A person with an expression of no fear.", "her eyebrows are drawn together"]


@pytest.mark.parametrize("family", [*TOWERS, *ENCODERS])
def test_encoders_equal_the_plain_model(family: str, tmp_path: Path) -> None:
    """With random weights, and filled from a file, where what no file holds is made again."""
    name = add_tower(family)
    clip = load_clip(name, "random")
    save_file(clip.model.state_dict(), str(tmp_path / "weights.safetensors"))
    images, tokens = torch.randn(3, 3, clip.image_size, clip.image_size), clip.tokenizer(TEXTS)
    with torch.no_grad():
        expected = clip.model.encode_image(images), clip.model.encode_text(tokens)
    for loaded in (clip, load_clip(name, tmp_path / "weights.safetensors")):
        with torch.no_grad():
            torch.testing.assert_close(encode_frames(loaded.model.visual, images), expected[0])
            torch.testing.assert_close(encode_text(loaded.model, tokens), expected[1])
        assert loaded.sha256 == clip.sha256


@pytest.mark.parametrize("family", TOWERS)
def test_untrained_is_the_plain_model_and_trained_is_not(family: str) -> None:
    name = add_tower(family)
    check_identity(build("star-dagger", clip=name))
    check_identity(build("dagger", clip=name, video_adapters=False))
    model = build("star-dagger", clip=name, trained=True)
    batch = make_batch(model)
    loss = model(batch).loss
    loss.backward()
    silent = [name for name, p in model.adapters.named_parameters() if not p.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize("family", TOWERS)
def test_attention_maps_are_shares_of_the_patches(family: str) -> None:
    for options in ({"trained": True}, {"video_adapters": False}):
        model = build("base", clip=add_tower(family), **options)
        found = explain(model, make_batch(model)).attention
        assert found.shape == (2, 3, 2, 2) and bool((found > 0).all())
        assert bool((found.flatten(2).sum(-1) < 1 + 1e-5).all())


def test_the_map_of_a_pooling_head_is_its_own_weights() -> None:
    """Against timm's own query and key of SigLIP's head, on timm's own tokens."""
    model = build("base", clip=add_tower("siglip"), video_adapters=False).eval()
    batch, trunk = make_batch(model), model.clip.visual.trunk
    found = explain(model, batch).attention.flatten(2)  # (B, T, M)
    with torch.no_grad():
        x = trunk.forward_features(batch["frames"].flatten(0, 1))  # (B*T, M, D)
        pool = trunk.attn_pool
        q = pool.q(pool.latent).unflatten(-1, (pool.num_heads, -1))[0, 0]  # (H, d)
        k = pool.kv(x)[..., : x.shape[-1]].unflatten(-1, (pool.num_heads, -1))  # (B*T, M, H, d)
        weights = (torch.einsum("hd,nmhd->nhm", q, k) * pool.scale).softmax(-1).mean(1)
    torch.testing.assert_close(found, weights.view_as(found))


@pytest.mark.parametrize("family", [*TOWERS, *ENCODERS])
@pytest.mark.parametrize("variant", ["cocoop", "emoclip"])
def test_baselines_run_on_every_family(variant: str, family: str) -> None:
    options = {"dfer-clip": {"text_mode": "class-name"}, "coop": {"context": 4}, "emoclip": {"text_mode": "class-name"}}
    model = create_model(variant, add_tower(family), CLASSES, 3, "random", **options.get(variant, {}))
    output = model(make_batch(model))
    assert output.logits.shape == (2, 7) and bool(output.logits.isfinite().all())
    if variant != "zeroshot-clip":
        output.loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("family", TOWERS)
def test_a_context_of_words_is_the_text_with_these_words(family: str) -> None:
    """CoOp that starts from words, before it has learned, encodes the texts that one would write."""
    model = create_model("coop", add_tower(family), CLASSES, 3, "random", context=4, init="a photo of a")
    assert isinstance(model, Coop)
    with torch.no_grad():
        expected = model.clip.encode_text(model.tokenizer([f"a photo of a {name}." for name in CLASSES]))
        torch.testing.assert_close(model.text_features(torch.zeros(1)), expected)


@pytest.mark.parametrize("family", ENCODERS)
def test_variants_that_work_inside_a_vision_transformer_refuse_others(family: str) -> None:
    for variant in ("base", "star-dagger", "finetune"):
        with pytest.raises(
            UsageError, match=f"variant {variant} .*fclip-{family}: it is .*not a vision trans.*linear-p"
        ):
            create_model(variant, add_tower(family), CLASSES, 3, "random")


@pytest.mark.parametrize("variant", ["linear-probe", "dfer-clip"])
def test_a_frozen_tower_keeps_its_statistics_and_a_checkpoint_needs_it_unchanged(variant: str, tmp_path: Path) -> None:
    options = {"text_mode": "class-name"} if variant == "dfer-clip" else {}
    model = create_model(variant, add_tower("resnet"), CLASSES, 3, "random", **options).train()
    visual = model.image_encoder if variant == "dfer-clip" else model.clip.visual
    before = {name: tensor.clone() for name, tensor in visual.state_dict().items()}
    model(make_batch(model)).loss.backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in visual.state_dict().items())
    assert not any("visual" in name or "image_encoder" in name for name in model.trainable_state())
    assert model.clip_sha256 == load_clip("fclip-resnet", "random").sha256
    save_checkpoint(tmp_path / "m.safetensors", model)
    batch = make_batch(model)
    assert torch.equal(load_model(tmp_path / "m.safetensors")(batch).logits, model.eval()(batch).logits)


@pytest.mark.parametrize("family", ["clip", "clipa", "siglip", "pe", "eva02"])
def test_another_image_size_resamples_the_positions(family: str, tmp_path: Path) -> None:
    name = add_tower(family)
    model = build("star-dagger", clip=f"{name}@64")
    assert model.preprocess.image_size == 64 and model.clip_name == f"{name}@64"
    assert model.clip_sha256 == load_clip(name, "random").sha256
    check_identity(model)
    assert explain(model, make_batch(model)).attention.shape == (2, 3, 4, 4)
    save_checkpoint(tmp_path / "m.safetensors", model)
    assert torch.equal(load_model(tmp_path / "m.safetensors")(batch := make_batch(model)).logits, model(batch).logits)


def test_positions_are_resampled_as_open_clip_does() -> None:
    plain, moved = load_clip(add_tower("clip"), "random").model, load_clip("fclip-clip@64", "random").model
    state = plain.state_dict()
    resize_pos_embed(state, moved)
    torch.testing.assert_close(moved.visual.positional_embedding, state["visual.positional_embedding"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fclip-clip@40", "multiple of the patches' 16"),
        ("fclip-resnet@64", "only vision"),
        ("fclip-clip@x", "as .*@336"),
    ],
)
def test_image_sizes_that_do_not_fit_are_refused(name: str, reason: str) -> None:
    for family in ("clip", "resnet"):
        add_tower(family)
    with pytest.raises(UsageError, match=reason):
        load_clip(name, "random")


@pytest.mark.parametrize("family", ["clipa", "siglip", "vitamin", "eva02", "pe"])
def test_a_whole_tower_can_be_tuned(family: str) -> None:
    model = create_model("finetune", add_tower(family), CLASSES, 3, "random")
    model(make_batch(model)).loss.backward()
    blocks = {
        name.split("blocks.")[1][0] for name, p in model.named_parameters() if "blocks." in name and p.grad is not None
    }
    assert blocks == {"0", "1"} and model.classifier.weight.grad is not None
