"""The text side: positive and negative label texts with their adapters, and captions (2.5)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fclip.catalogue import listed, require
from fclip.errors import FclipError
from fclip.models.backbone.attention import plain_block, readout_block
from fclip.models.backbone.clip import text_length
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

    end = tokens.argmax(dim=-1)  # (P*C,)
    mask = torch.arange(tokens.shape[1], device=tokens.device) <= end[:, None]  # (P*C, L)
    x = clip.token_embedding(tokens) + clip.positional_embedding[: tokens.shape[1]]  # (P*C, L, D)
    *blocks, last = clip.transformer.resblocks
    for j, block in enumerate(blocks):
        x = plain_block(block, adapt(x, j) if before else x, causal=True)
        x = x if before else adapt(x, j)
    x = readout_block(last, adapt(x, len(blocks)) if before else x, end, mask)  # (P*C, D)
    x = x if before else adapt(x, len(blocks))
    return (clip.ln_final(x) @ clip.text_projection).chunk(len(polarities))


class CaptionTower(nn.Module):
    """The frozen Long-CLIP text tower up to its projection: token ids (B, L), L <= 248, -> (B, D).

    With Long-CLIP weights it has its own copy of the text tower; without, it is CLIP's own one with the
    positional table stretched. Only the tokens up to the longest caption are computed.
    """

    def __init__(self, clip: Any, weights: str | Path | None = None) -> None:
        super().__init__()
        self._shared: tuple[Any, ...] = (clip,)  # in a tuple: not registered a second time
        self.own = _read_longclip(clip, weights) if weights else None
        self.sha256 = weights_sha256(self.own.state_dict()) if self.own else None
        table = self.own.positional_embedding if self.own else stretch_positions(clip.positional_embedding)
        self.register_buffer("positions", table.detach(), persistent=False)

    positions: Tensor

    @property
    def tower(self) -> Any:
        """The modules that encode: own ones after Long-CLIP, or CLIP's."""
        return self.own or self._shared[0]

    @property
    def projection(self) -> Tensor:
        """The tower's text projection (D, E), from which h_F starts."""
        return self.tower.text_projection

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        length, limit = text_length(tokens), len(self.positions)
        if length > limit:
            raise FclipError(f"a caption has {length} tokens, more than {limit}; cut it in the tokenizer")
        tokens, end = tokens[:, :length], tokens.argmax(dim=-1)
        x = self.tower.token_embedding(tokens) + self.positions[:length]  # (B, L, D)
        *blocks, last = self.tower.transformer.resblocks
        for block in blocks:
            x = plain_block(block, x, causal=True)
        mask = torch.arange(length, device=x.device) <= end[:, None]  # (B, L)
        return self.tower.ln_final(readout_block(last, x, end, mask))


class TextTower(nn.Module):
    """A copy of CLIP's text modules under CLIP's names, to hold Long-CLIP's weights."""

    def __init__(self, clip: Any, positions: int) -> None:
        super().__init__()
        self.token_embedding = copy.deepcopy(clip.token_embedding)
        self.transformer = copy.deepcopy(clip.transformer)
        self.ln_final = copy.deepcopy(clip.ln_final)
        self.text_projection = copy.deepcopy(clip.text_projection)
        width = clip.positional_embedding.shape[1]
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))


def _read_longclip(clip: Any, path: str | Path) -> TextTower:
    path = require(str(path)) if str(path) in listed() else path
    state = merge_longclip(read_state_dict(path), str(path))
    tower = TextTower(clip, len(state["positional_embedding"]))
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
