"""open_clip's text transformer: CLIP's, or a longer, shorter or non-causal one (SigLIP, CLIPA, MetaCLIP 2).

Shape letters: N texts, L tokens, D width of the tower, E joint width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fclip.models.backbone.attention import plain_block, readout_block
from fclip.models.backbone.native import NativeBlock
from fclip.models.backbone.towers import project, starting_projection


class TextTower:
    """open_clip's text transformer: `read(blocks(embed(tokens))) @ projection + bias`, causal or not.

    The weights are CLIP's own attributes, or those of its `text` (CustomTextCLIP), under the same names.
    """

    def __init__(self, clip: Any) -> None:
        self.module = module = getattr(clip, "text", clip)
        self.blocks = [NativeBlock(block) for block in module.transformer.resblocks]
        self.positions: Tensor = module.positional_embedding  # (context, D)
        self.context, self.width = self.positions.shape
        self.causal = getattr(module, "attn_mask", True) is not None
        self.pool = getattr(module, "text_pool_type", getattr(module, "pool_type", "argmax"))
        self.end_id: int = getattr(module, "text_eos_id", getattr(module, "eos_id", -1))
        projection = module.text_projection
        linear = isinstance(projection, torch.nn.Linear)
        self.projection: Tensor | None = projection.weight.T if linear else projection  # (D, E)
        self.bias: Tensor | None = projection.bias if linear else None

    @property
    def is_clips(self) -> bool:
        """Whether it has the form of OpenAI's: causal, 77 positions, read at the end token."""
        return self.causal and self.pool == "argmax" and self.context == 77

    def end(self, tokens: Tensor) -> Tensor:
        """Which token is read of each text: ids (N, L) -> (N,). CLIP's end token is the largest id."""
        if self.pool == "last":
            return torch.full_like(tokens[:, 0], tokens.shape[1] - 1)
        return (tokens if self.pool == "argmax" else tokens.eq(self.end_id).int()).argmax(dim=-1)

    def cut(self, tokens: Tensor) -> Tensor:
        """The tokens that need to be computed (N, l): where attention is causal, up to the last that is read."""
        return tokens[:, : int(self.end(tokens).max()) + 1] if self.causal else tokens

    def embed(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """Token embeddings with positions, (N, L) -> (N, L, D)."""
        table = self.positions if positions is None else positions
        return self.module.token_embedding(tokens) + table[: tokens.shape[1]]

    def mask(self, end: Tensor, length: int) -> Tensor | None:
        """Where the token that is read may look, (N,) -> (N, L) bool; None: everywhere."""
        return torch.arange(length, device=end.device) <= end[:, None] if self.causal else None

    def encode(self, x: Tensor, end: Tensor) -> Tensor:
        """The blocks and the last norm for the token that is read: x (N, L, D) of `embed`, end (N,) -> (N, D)."""
        *blocks, last = self.blocks
        for block in blocks:
            x = plain_block(block, x, causal=self.causal)
        return self.module.ln_final(readout_block(last, x, end, self.mask(end, x.shape[1])))

    def trainable_projection(self) -> Tensor:
        """What h_F starts from (D, E): the tower's projection, or the identity where it has none."""
        return starting_projection(self.projection, self.width)

    def project(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., E)."""
        return project(x, self.projection, self.bias)
