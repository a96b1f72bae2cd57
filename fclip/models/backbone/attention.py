"""CLIP's transformer block on open_clip's parameters, without any work that the result does not need.

The functions take a block (ln_1, attn, ls_1, ln_2, mlp, ls_2) and read its weights. A frozen weight has
requires_grad False, so autograd keeps no activation for its gradient. Shape letters: N sequences, L tokens,
D width, H heads of d.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(N, L, H*d) -> (N, H, L, d), a view."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(N, H, L, d) -> (N, L, H*d)."""
    return x.transpose(1, 2).flatten(2)


def attend(attn: Any, x: Tensor, causal: bool = False) -> Tensor:
    """Self-attention of an nn.MultiheadAttention's weights: (N, L, D) -> (N, L, D)."""
    q, k, v = F.linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)  # (N, L, D) each
    heads = attn.num_heads
    out = F.scaled_dot_product_attention(
        split_heads(q, heads), split_heads(k, heads), split_heads(v, heads), is_causal=causal
    )  # (N, H, L, d)
    return F.linear(merge_heads(out), attn.out_proj.weight, attn.out_proj.bias)


def project_query(attn: Any, query: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q (N, H, 1, d) of one token `query` (N, D) per sequence; k, v (N, H, L, d) of all tokens `x` (N, L, D)."""
    width = x.shape[-1]
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    q = F.linear(query.unsqueeze(1), weight[:width], bias[:width])  # (N, 1, D)
    k, v = F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)  # (N, L, D) each
    return split_heads(q, attn.num_heads), split_heads(k, attn.num_heads), split_heads(v, attn.num_heads)


def attend_from(attn: Any, query: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of one token per sequence over all tokens: query (N, D), x (N, L, D) -> (N, D).

    `mask` (N, L) bool is True where the token may look. Equal to that token's row of `attend`.
    """
    q, k, v = project_query(attn, query, x)
    mask = None if mask is None else mask[:, None, None]  # (N, 1, 1, L)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (N, H, 1, d)
    return F.linear(merge_heads(out).squeeze(1), attn.out_proj.weight, attn.out_proj.bias)


def attention_map(attn: Any, query: Tensor, x: Tensor) -> Tensor:
    """Softmax weights of one token over all tokens, mean over heads: query (N, D), x (N, L, D) -> (N, L)."""
    q, k, _ = project_query(attn, query, x)
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1).mean(dim=1).squeeze(1)


def mlp(block: Any, x: Tensor) -> Tensor:
    """The block's MLP, (..., D) -> (..., D). QuickGELU goes through silu, which keeps one tensor, not two."""
    x = block.mlp.c_fc(x)
    x = F.silu(1.702 * x) / 1.702 if type(block.mlp.gelu).__name__ == "QuickGELU" else block.mlp.gelu(x)
    return block.mlp.c_proj(x)


def plain_block(block: Any, x: Tensor, causal: bool = False) -> Tensor:
    """CLIP's pre-norm residual block: (N, L, D) -> (N, L, D)."""
    x = x + block.ls_1(attend(block.attn, block.ln_1(x), causal))
    return x + block.ls_2(mlp(block, block.ln_2(x)))


def readout_block(block: Any, x: Tensor, position: Tensor, mask: Tensor | None = None) -> Tensor:
    """A last block for the one token per sequence that is read: x (N, L, D), position (N,) -> (N, D)."""
    rows = torch.arange(x.shape[0], device=x.device)
    normed = block.ln_1(x)
    token = x[rows, position] + block.ls_1(attend_from(block.attn, normed[rows, position], normed, mask))
    return token + block.ls_2(mlp(block, block.ln_2(token)))
