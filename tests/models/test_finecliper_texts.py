"""Label texts with adapters before or after the layers, Long-CLIP's positions, and captions of any length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_rendering import plain_attention, plain_texts
from safetensors.torch import save_file
from small_clip import SMALL, build
from torch import Tensor

from fclip.errors import FclipError
from fclip.models.backbone.clip import LoadedClip, load_clip
from fclip.models.backbone.encode import encode_text
from fclip.models.finecliper.texts import CaptionTower, merge_longclip, stretch_positions

LONG = "First her face is relaxed. " + "Then the brows draw together, the lips press, and the gaze drops left. " * 8


@pytest.fixture(scope="module")
def clip() -> LoadedClip:
    return load_clip(SMALL, "random")


def longclip_state(clip: LoadedClip) -> dict[str, Tensor]:
    """Long-CLIP's layout: all of CLIP, with two tables of 248 rows that differ."""
    state = {k: v.clone() for k, v in load_clip(SMALL, "random", seed=5).model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for name in ("positional_embedding", "positional_embedding_res"):
        state[name] = torch.randn(248, 64, generator=generator) * 0.02
    return state


def test_adapters_after_the_layer() -> None:
    """z_j = A_j(E_j(z_{j-1})) over the whole context, with open_clip's own blocks."""
    model = build("base", trained=True, text_adapter_position="after")
    clip = model.clip
    mask = torch.full((77, 77), float("-inf")).triu_(1)
    for name, mine in zip(("positive", "negative"), model.label_features(), strict=True):
        tokens = model.tokenizer(model.prompts[name])
        x = clip.token_embedding(tokens) + clip.positional_embedding
        for block, adapter in zip(clip.transformer.resblocks, model.adapters["text"][name].blocks, strict=True):
            x = x + plain_attention(block, block.ln_1(x), mask)
            x = x + block.mlp(block.ln_2(x))
            x = x + adapter(x)
        expected = clip.ln_final(x)[torch.arange(len(x)), tokens.argmax(-1)] @ clip.text_projection
        torch.testing.assert_close(mine, expected)


def test_each_polarity_has_its_own_adapters() -> None:
    model, fresh = build("base"), build("base")
    with torch.no_grad():
        model.adapters["text"]["negative"].blocks[0].up.bias.fill_(0.5)
    (positive, negative), (p, n) = model.label_features(), fresh.label_features()
    assert torch.equal(positive, p) and not torch.allclose(negative, n)


def test_stretch_keeps_twenty_rows_and_extrapolates_the_last() -> None:
    """Against the mixes that Long-CLIP names: (1, 0), (.75, .25), (.5, .5), (.25, .75) of rows i and i + 1."""
    table = np.random.default_rng(0).normal(size=(77, 8))
    rows = [*table[:20]]
    for i in range(20, 76):
        rows += [(1 - part) * table[i] + part * table[i + 1] for part in (0, 0.25, 0.5, 0.75)]
    rows += [table[76] + part * (table[76] - table[75]) for part in (0, 0.25, 0.5, 0.75)]
    stretched = stretch_positions(torch.from_numpy(table))
    assert stretched.shape == (248, 8)
    np.testing.assert_allclose(stretched.numpy(), np.array(rows), atol=1e-12)


def test_captions_without_longclip_use_clips_tower_with_stretched_positions(clip: LoadedClip) -> None:
    tower = CaptionTower(clip.model)
    assert not list(tower.parameters()) and tower.sha256 is None  # shared, not copied
    tokens = clip.tokenizer(["she smiles", LONG], context_length=248)
    assert int(tokens[1].argmax()) > 100
    positions = stretch_positions(clip.model.positional_embedding)
    torch.testing.assert_close(tower(tokens), plain_texts(clip.model, tokens, positions))
    torch.testing.assert_close(tower(tokens[:1]), tower(tokens)[:1])
    short = clip.tokenizer(["she smiles"])
    torch.testing.assert_close(tower(short) @ tower.tower.projection, encode_text(clip.model, short))


@pytest.mark.parametrize("kind", ["safetensors", "half", "merged"])
def test_longclip_weights(kind: str, clip: LoadedClip, tmp_path: Path) -> None:
    state = longclip_state(clip)
    table = torch.cat([state["positional_embedding"][:20], state["positional_embedding_res"][20:]])
    if kind == "merged":
        state["positional_embedding"] = table
        del state["positional_embedding_res"]
    path = tmp_path / "long.safetensors"
    save_file({k: v.half() for k, v in state.items()} if kind == "half" else state, str(path))
    tower = CaptionTower(clip.model, path)
    tokens = clip.tokenizer(["she smiles", LONG], context_length=248)
    reference = load_clip(SMALL, "random", seed=5).model
    if kind == "half":
        reference, table = reference.half().float(), table.half().float()
    torch.testing.assert_close(tower(tokens), plain_texts(reference, tokens, table))
    torch.testing.assert_close(tower.tower.projection, reference.text_projection)
    assert not any(p.requires_grad for p in tower.parameters())


def test_longclip_starts_its_projection_and_is_part_of_the_checkpoint(clip: LoadedClip, tmp_path: Path) -> None:
    from fclip.models.checkpoint import load_model, save_checkpoint

    path, other = tmp_path / "long.safetensors", tmp_path / "other.safetensors"
    state = longclip_state(clip)
    save_file(state, str(path))
    save_file({**state, "ln_final.bias": state["ln_final.bias"] + 1}, str(other))
    model = build("dagger", longclip_weights=path)
    assert torch.equal(model.trainable_state()["proj.caption"], state["text_projection"])
    save_checkpoint(tmp_path / "model.safetensors", model)
    assert load_model(tmp_path / "model.safetensors").longclip_sha256 == model.longclip_sha256
    with pytest.raises(FclipError, match="longclip_sha256 differs"):
        load_model(tmp_path / "model.safetensors", longclip_weights=other)


def test_files_that_are_not_longclip_are_refused(clip: LoadedClip, tmp_path: Path) -> None:
    with pytest.raises(FclipError, match="no positional table of 248 rows"):
        merge_longclip(clip.model.state_dict())
    state = longclip_state(clip)
    del state["ln_final.bias"]
    save_file(state, str(tmp_path / "x.safetensors"))
    with pytest.raises(FclipError, match=r"Long-CLIP weights .*lacks 1 tensor\(s\): ln_final.bias"):
        CaptionTower(clip.model, tmp_path / "x.safetensors")


def test_a_caption_longer_than_the_table_is_refused(clip: LoadedClip) -> None:
    tokens = clip.tokenizer([LONG * 4], context_length=300)
    with pytest.raises(FclipError, match="a caption has 300 tokens, more than 248"):
        CaptionTower(clip.model)(tokens)
