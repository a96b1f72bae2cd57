"""open_clip's own transformers, of images and of texts: CLIP's blocks, and what stands before and after them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fclip.models.backbone.attention import Block, plain_block, readout_block
from fclip.models.backbone.towers import ImageTower, project, starting_projection


class NativeBlock(Block):
    """open_clip's ResidualAttentionBlock (ln_1, attn, ls_1, ln_2, mlp, ls_2), of either tower."""

    def __init__(self, block: Any) -> None:
        self.block, self.attn, self.heads = block, block.attn, block.attn.num_heads
        self.quick = type(block.mlp.gelu).__name__ == "QuickGELU"

    def norm_1(self, x: Tensor) -> Tensor:
        return self.block.ln_1(x)

    def project(self, y: Tensor) -> tuple[Tensor, ...]:
        return F.linear(y, self.attn.in_proj_weight, self.attn.in_proj_bias).chunk(3, dim=-1)

    def project_apart(self, query: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        width = y.shape[-1]
        weight, bias = self.attn.in_proj_weight, self.attn.in_proj_bias
        q = F.linear(query, weight[:width], bias[:width])  # (N, 1, D)
        return q, *F.linear(y, weight[width:], bias[width:]).chunk(2, dim=-1)

    def merge(self, heads: Tensor) -> Tensor:
        return self.block.ls_1(F.linear(heads, self.attn.out_proj.weight, self.attn.out_proj.bias))

    def norm_2(self, x: Tensor) -> Tensor:
        return self.block.ln_2(x)

    def mlp(self, y: Tensor) -> Tensor:
        """QuickGELU goes through silu, which keeps one tensor, not two."""
        mlp = self.block.mlp
        y = mlp.c_fc(y)
        y = F.silu(1.702 * y) / 1.702 if self.quick else mlp.gelu(y)
        return self.block.ls_2(mlp.c_proj(y))


class NativeImageTower(ImageTower):
    """open_clip's VisionTransformer, which reads its class token (CLIP) or the mean of its patches (CLIPA)."""

    def __init__(self, visual: Any) -> None:
        self.visual = visual
        self.blocks = [NativeBlock(block) for block in visual.transformer.resblocks]
        self.width, self.grid, self.prefix = visual.conv1.out_channels, visual.grid_size, 1
        self.reads_class = visual.pool_type == "tok"
        self.projection, self.bias = visual.proj, None

    def embed(self, images: Tensor) -> Tensor:
        visual = self.visual
        x = visual.conv1(images).flatten(2).transpose(1, 2)  # (N, M, D)
        token = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)  # (N, 1, D)
        return torch.cat([token, x], dim=1) + visual.positional_embedding.to(x.dtype)

    def enter(self, x: Tensor) -> Tensor:
        return self.visual.ln_pre(x)

    def read(self, x: Tensor) -> Tensor:
        if self.reads_class:
            return self.visual.ln_post(x[:, 0])
        if self.visual.final_ln_after_pool:
            return self.visual.ln_post(x[:, 1:].mean(dim=1))
        return self.visual.ln_post(x[:, 1:]).mean(dim=1)


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
