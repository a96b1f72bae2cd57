"""open_clip's own vision transformer, and the block of its transformers of images and of texts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fclip.models.backbone.attention import Block
from fclip.models.backbone.towers import ImageTower


class NativeBlock(Block):
    """open_clip's ResidualAttentionBlock (ln_1, attn, ls_1, ln_2, mlp, ls_2), of either tower."""

    def __init__(self, block: Any) -> None:
        self.block, self.attn, self.heads = block, block.attn, block.attn.num_heads
        self.quick = type(block.mlp.gelu).__name__ == "QuickGELU"

    def norm_1(self, x: Tensor) -> Tensor:
        return self.block.ln_1(x)

    def weights(self) -> tuple[Tensor, Tensor | None]:
        return self.attn.in_proj_weight, self.attn.in_proj_bias

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
