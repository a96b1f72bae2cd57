"""The text side: positive and negative label texts with their adapters, and captions (2.5)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from fclip.catalogue import listed, require
from fclip.errors import FclipError, UsageError
from fclip.models.backbone.attention import plain_block, readout_block
from fclip.models.backbone.encode import text_tower
from fclip.models.backbone.texts import TextTower
from fclip.models.finecliper.adapters import Adapter
from fclip.models.weights import check_state, read_state_dict, weights_sha256

KEPT_POSITIONS = 20  # Long-CLIP keeps the first rows of CLIP's positional table as they are
STRETCH = 4  # and spreads the others over four times as many positions


class TextAdapters(nn.Module):
    """One adapter per block of the text tower, for the texts of one polarity."""

    def __init__(self, width: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Adapter(width, hidden) for _ in range(layers))


def encode_label_texts(
    clip: Any,
    tokens: Tensor,
    adapters: Any,
    before: bool = True,
    polarities: tuple[str, ...] = ("positive", "negative"),
) -> tuple[Tensor, ...]:
    """Label texts of each polarity through the frozen text tower, each with its own adapters (Eq. 3).

    tokens (P*C, L): the C texts of each of the P polarities, cut to the longest; `adapters` holds TextAdapters for
    none, one or both of them. z_j = E_j(A_j(z_{j-1})) if `before`, else A_j(E_j(z_{j-1})), A with inner skip. All
    go through the frozen blocks as one batch. Returns c_P (and c_N), (C, E) each, not normalised.
    """

    def adapt(x: Tensor, j: int) -> Tensor:  # (P*C, ..., D)
        halves = zip(polarities, x.chunk(len(polarities)), strict=True)
        return torch.cat([z + adapters[name].blocks[j](z) if name in adapters else z for name, z in halves])

    tower, end = text_tower(clip), text_tower(clip).end(tokens)  # end (P*C,)
    x = tower.embed(tokens)  # (P*C, L, D)
    *blocks, last = tower.blocks
    for j, block in enumerate(blocks):
        x = plain_block(block, adapt(x, j) if before else x, causal=tower.causal)
        x = x if before else adapt(x, j)
    x = readout_block(last, adapt(x, len(blocks)) if before else x, end, tower.mask(end, tokens.shape[1]))  # (P*C, D)
    x = x if before else adapt(x, len(blocks))
    return tower.project(tower.module.ln_final(x)).chunk(len(polarities))


class CaptionTower(nn.Module):
    """The frozen text tower of captions, up to its projection: token ids (B, L), L <= `context`, -> (B, D).

    With Long-CLIP weights it has its own copy of the text tower, made with QuickGELU, as they were trained; without, it
    is CLIP's own one with the positional table stretched to 248, as Long-CLIP's. A text tower that is not CLIP's
    (SigLIP's) takes captions at its own length.
    """

    def __init__(self, clip: Any, weights: str | Path | None = None) -> None:
        super().__init__()
        self._shared: tuple[Any, ...] = (clip,)  # in a tuple: not registered a second time
        like_clip = text_tower(clip).is_clips
        if weights and not like_clip:
            raise UsageError("Long-CLIP's weights are for a text tower of CLIP's form; leave longclip_weights out")
        self.own = _read_longclip(clip, weights) if weights else None
        self.sha256 = weights_sha256(self.own.state_dict()) if self.own else None
        table = self.tower.positions.detach()
        if like_clip and not self.own:
            table = stretch_positions(table)
        self.register_buffer("positions", table, persistent=False)

    positions: Tensor

    def copy_activation(self) -> None:
        """Give Long-CLIP's blocks CLIP's activation: as checkpoints were trained that do not say which they had."""
        if self.own is not None:
            theirs = text_tower(self._shared[0]).module.transformer.resblocks
            for own, block in zip(self.own.transformer.resblocks, theirs, strict=True):
                own.mlp.gelu = block.mlp.gelu

    @property
    def tower(self) -> TextTower:
        """The tower that encodes: the own one after Long-CLIP, or CLIP's."""
        return text_tower(self.own or self._shared[0])

    @property
    def context(self) -> int:
        """How many tokens a caption may have."""
        return len(self.positions)

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        tower = self.tower
        tokens = tower.cut(tokens)
        if tokens.shape[1] > self.context:
            raise FclipError(
                f"a caption has {tokens.shape[1]} tokens, more than {self.context}; cut it in the tokenizer"
            )
        return tower.encode(tower.embed(tokens, self.positions), tower.end(tokens))


class LongTextModules(nn.Module):
    """A copy of CLIP's text modules under CLIP's names, to hold Long-CLIP's weights."""

    def __init__(self, clip: Any, positions: int) -> None:
        super().__init__()
        modules = text_tower(clip).module
        self.token_embedding = copy.deepcopy(modules.token_embedding)
        self.transformer = copy.deepcopy(modules.transformer)
        for block in self.transformer.resblocks:
            block.mlp.gelu = QuickGELU()
        self.ln_final = copy.deepcopy(modules.ln_final)
        self.text_projection = copy.deepcopy(modules.text_projection)
        width = modules.positional_embedding.shape[1]
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))


def _read_longclip(clip: Any, path: str | Path) -> LongTextModules:
    path = require(str(path)) if str(path) in listed() else path
    state = merge_longclip(read_state_dict(path), str(path))
    tower = LongTextModules(clip, len(state["positional_embedding"]))
    check_state(state, tower.state_dict(), f"Long-CLIP weights {path}")
    tower.load_state_dict(state)
    return tower.requires_grad_(False).eval()


def merge_longclip(state: Mapping[str, Tensor], what: str = "Long-CLIP weights") -> dict[str, Tensor]:
    """The text tower of a Long-CLIP state dict with its two positional tables made one, in float32.

    Rows below 20 come from `positional_embedding`, the others from `positional_embedding_res` (the trained ones).
    A file without the second table must be merged already: 248 rows. FclipError for a table of CLIP's length.
    """
    text = {k: v.float() for k, v in state.items() if not k.startswith("visual.") and k != "logit_scale"}
    trained = text.pop("positional_embedding_res", None)
    first = text.get("positional_embedding")
    if first is None or len(first) <= 77:
        raise FclipError(f"{what}: no positional table of 248 rows; this is not a Long-CLIP checkpoint")
    if trained is not None:
        text["positional_embedding"] = torch.cat([first[:KEPT_POSITIONS], trained[KEPT_POSITIONS:]])
    return text


def stretch_positions(table: Tensor) -> Tensor:
    """Long-CLIP's stretch of CLIP's positional table: (77, D) -> (248, D).

    The first 20 rows stay; row p >= 20 samples source position 20 + (p - 20)/4 linearly, the last ones
    extrapolate.
    """
    rows = len(table)
    source = KEPT_POSITIONS + torch.arange((rows - KEPT_POSITIONS) * STRETCH, device=table.device) / STRETCH
    low = source.long().clamp(max=rows - 2)  # the last rows continue the slope between the last two
    part = (source - low).unsqueeze(1).to(table.dtype)
    return torch.cat([table[:KEPT_POSITIONS], table[low] * (1 - part) + table[low + 1] * part])
