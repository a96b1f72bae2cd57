"""The temporal transformer over frame features of DFER-CLIP (Zhao & Patras, BMVC 2023, section 3.2) and EmoCLIP.

A learned class token is put before the T frame features, learned positions are added, and pre-norm transformer blocks
without a final norm follow; the class token is the video feature.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fclip.errors import FclipError


class TemporalBlock(nn.Module):
    """Pre-norm attention and MLP (tanh-approximated GELU) with residuals; query, key and value have no bias."""

    def __init__(self, width: int, heads: int, head_width: int, mlp_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, mlp_width)
        self.down = nn.Linear(mlp_width, width)

    def attend(self, tokens: Tensor, queries: int) -> Tensor:
        """Attention of the first `queries` tokens over all tokens (B, N, D) -> (B, queries, D)."""
        inner = self.out.in_features
        weight_q, weight_kv = self.qkv.weight.split([inner, 2 * inner])
        query = F.linear(tokens[:, :queries], weight_q)
        key, value = F.linear(tokens, weight_kv).chunk(2, dim=-1)
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        # (B, heads, N or queries, head width)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out(attended.transpose(1, 2).flatten(2))  # (B, queries, D)

    def forward(self, tokens: Tensor, queries: int | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D), or only the first `queries` tokens of the result."""
        queries = tokens.shape[1] if queries is None else queries
        kept = tokens[:, :queries] + self.attend(self.norm_attention(tokens), queries)
        return kept + self.down(F.gelu(self.up(self.norm_mlp(kept)), approximate="tanh"))


class TemporalTransformer(nn.Module):
    """Frame features (B, T, E) -> video feature (B, E); T may be anything up to `positions` - 1.

    Class token and positions start as N(0, 1), as in the released code. The class token's row is all that the last
    block computes, since nothing else is read.
    """

    def __init__(
        self,
        width: int,
        positions: int = 17,
        depth: int = 1,
        heads: int = 8,
        head_width: int = 64,
        mlp_width: int = 1024,
    ) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, positions, width))
        self.blocks = nn.ModuleList(TemporalBlock(width, heads, head_width, mlp_width) for _ in range(depth))

    def embed(self, frames: Tensor) -> Tensor:
        """(B, T, E) -> tokens (B, T+1, E) with class token and positions. Raises FclipError if T is too long."""
        if frames.shape[1] >= self.positions.shape[1]:
            raise FclipError(
                f"clip of {frames.shape[1]} frames, but the temporal model has positions for "
                f"{self.positions.shape[1] - 1}; sample fewer frames (--frames)"
            )
        tokens = torch.cat([self.class_token.expand(len(frames), -1, -1), frames], dim=1)
        return tokens + self.positions[:, : tokens.shape[1]]

    def tokens(self, frames: Tensor) -> Tensor:
        """All tokens after the last block, (B, T, E) -> (B, T+1, E)."""
        tokens = self.embed(frames)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, E) -> (B, E): the class token after the last block."""
        tokens = self.embed(frames)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, queries=1 if index == len(self.blocks) - 1 else None)
        return tokens[:, 0]
