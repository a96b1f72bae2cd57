"""timm's vision transformers as image towers: SigLIP, EVA, PE-Core, ViTamin, MobileCLIP's ViTs.

Attention-pooling heads, rotary positions, SwiGLU, layer scale, norms of query and key, register tokens and blocks with
the norm at the end of each branch are what their modules say; stochastic depth and dropout are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from timm.layers import Attention, AttentionRope, apply_rot_embed_cat
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from fclip.models.backbone import attention
from fclip.models.backbone.attention import softmax_weights, split_heads
from fclip.models.backbone.towers import ImageTower

TRUNKS = (VisionTransformer, Eva)
BLOCKS = {Block: False, EvaBlock: False, EvaBlockPostNorm: True}  # whether the norms end the branches
ATTENTIONS = (Attention, EvaAttention, AttentionRope)
PASSES = (nn.Identity, nn.Dropout)


def projections(visual: Any) -> list[Any]:
    """What stands between the pooled tokens and the feature."""
    return [module for module in (visual.trunk.head, *visual.head) if type(module) not in PASSES]


class TimmBlock(attention.Block):
    """A block of timm's VisionTransformer or Eva; `rope` (M, d or 2d) is what turns query and key of the patches."""

    def __init__(self, block: Any, rope: Tensor | None = None) -> None:
        self.block, self.attn, self.heads, self.rope = block, block.attn, block.attn.num_heads, rope
        self.norms_end = BLOCKS[type(block)]

    def norm_1(self, x: Tensor) -> Tensor:
        return x if self.norms_end else self.block.norm1(x)

    def weights(self) -> tuple[Tensor, Tensor | None]:
        attn, q = self.attn, getattr(self.attn, "q_bias", None)
        return attn.qkv.weight, attn.qkv.bias if q is None else torch.cat([q, attn.k_bias, attn.v_bias])

    def project(self, y: Tensor) -> tuple[Tensor, ...]:
        return self.project_apart(y, y) if self.attn.qkv is None else super().project(y)

    def project_apart(self, query: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        if self.attn.qkv is not None:
            return super().project_apart(query, y)
        return self.attn.q_proj(query), self.attn.k_proj(y), self.attn.v_proj(y)

    def norm_heads(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return self.attn.q_norm(q), self.attn.k_norm(k)

    def rotate(self, x: Tensor) -> Tensor:
        if self.rope is None or x.shape[-2] == 1:  # one token: the class token, which has no place
            return x
        first, turned = x.split([self.attn.num_prefix_tokens, x.shape[2] - self.attn.num_prefix_tokens], dim=2)
        return torch.cat([first, apply_rot_embed_cat(turned, self.rope, half=self.attn.rotate_half)], dim=2).to(x.dtype)

    def merge(self, heads: Tensor) -> Tensor:
        return self._end(1, self.attn.proj(self.attn.norm(heads)))

    def norm_2(self, x: Tensor) -> Tensor:
        return x if self.norms_end else self.block.norm2(x)

    def mlp(self, y: Tensor) -> Tensor:
        return self._end(2, self.block.mlp(y))

    def _end(self, branch: int, y: Tensor) -> Tensor:
        """The norm or the layer scale at the end of a branch."""
        if end := getattr(self.block, f"norm{branch}" if self.norms_end else f"ls{branch}", None):
            return end(y)
        gamma = getattr(self.block, f"gamma_{branch}", None)
        return y if gamma is None else gamma * y


class TimmImageTower(ImageTower):
    """open_clip's TimmModel around a vision transformer: it reads the class token, all patches or a pooling head."""

    def __init__(self, visual: Any) -> None:
        self.trunk = trunk = visual.trunk
        self.width, self.grid, self.prefix = trunk.embed_dim, trunk.patch_embed.grid_size, trunk.num_prefix_tokens
        rope = getattr(trunk, "rope", None)
        turned: Any = None if rope is None else rope.get_embed()  # (M, 2d); of mixed: (layers, H, M, 2d)
        mixed = getattr(trunk, "rope_mixed", False)
        self.blocks = [TimmBlock(b, turned[j] if mixed else turned) for j, b in enumerate(trunk.blocks)]
        self.reads_class = trunk.global_pool == "token" and trunk.attn_pool is None
        linear = next(iter(projections(visual)), None)
        self.projection, self.bias = (None, None) if linear is None else (linear.weight.T, linear.bias)

    def embed(self, images: Tensor) -> Tensor:
        x = self.trunk._pos_embed(self.trunk.patch_embed(images))
        return x[0] if isinstance(x, tuple) else x  # Eva gives its rotary positions with them

    def enter(self, x: Tensor) -> Tensor:
        return self.trunk.norm_pre(x)

    def read(self, x: Tensor) -> Tensor:
        return self.trunk.fc_norm(self.trunk.pool(self.trunk.norm(x)))

    def pool_map(self, tokens: Callable[[], Tensor]) -> Tensor | None:
        pool = self.trunk.attn_pool
        if pool is None:
            return None
        x = self.trunk.norm(tokens())
        x = x if getattr(self.trunk, "pool_include_prefix", True) else x[:, self.prefix :]
        q = split_heads(pool.q(pool.latent.expand(len(x), -1, -1)), pool.num_heads)  # (N, H, 1, d)
        k = split_heads(pool.kv(x).chunk(2, dim=-1)[0], pool.num_heads)
        return softmax_weights(pool.q_norm(q), pool.k_norm(k))[:, 0, -prod(self.grid) :]  # (N, M)
