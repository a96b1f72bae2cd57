"""A transformer block taken apart, so that adapters can stand between its pieces, and what is computed with it.

What a block's pieces are, each kind of network says once (`native.py`, `timm_vit.py`); all else is written against
`Block`, without any work that the result does not need. A frozen weight has requires_grad False, so autograd keeps no
activation for its gradient. Shape letters: N sequences, L tokens, D width, H heads of d.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor


class Block(ABC):
    """The block x + merge(attention(norm_1(x))), then x + mlp(norm_2(x)), and its frozen weights.

    A residual branch ends with all that belongs to it: layer scale, and the norm of a block that has it there.
    """

    heads: int

    @abstractmethod
    def norm_1(self, x: Tensor) -> Tensor:
        """What the attention reads of x, (..., D)."""

    @abstractmethod
    def weights(self) -> tuple[Tensor, Tensor | None]:
        """Weight (3*H*d, D) and bias of query, key and value, one below the other."""

    def project(self, y: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value of y: (..., D) -> three (..., H*d)."""
        return F.linear(y, *self.weights()).chunk(3, dim=-1)

    def project_apart(self, query: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Query of `query` (N, 1, D), key and value of y (N, L, D), as in `project`."""
        weight, bias = self.weights()
        width = len(weight) // 3
        q_bias, kv_bias = (None, None) if bias is None else (bias[:width], bias[width:])
        q = F.linear(query, weight[:width], q_bias)  # (N, 1, H*d)
        return q, *F.linear(y, weight[width:], kv_bias).chunk(2, dim=-1)

    def norm_heads(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Query and key after their own norms, (..., d); most blocks have none."""
        return q, k

    def rotate(self, x: Tensor) -> Tensor:
        """Query or key of all tokens of an image (N, H, L, d) with its rotary position, where there is one."""
        return x

    @abstractmethod
    def merge(self, heads: Tensor) -> Tensor:
        """The rest of the branch after the heads, (..., H*d) -> (..., D)."""

    @abstractmethod
    def norm_2(self, x: Tensor) -> Tensor:
        """What the MLP reads of x, (..., D)."""

    @abstractmethod
    def mlp(self, y: Tensor) -> Tensor:
        """The whole branch of the MLP, (..., D) -> (..., D)."""


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(N, L, H*d) -> (N, H, L, d), a view."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(N, H, L, d) -> (N, L, H*d)."""
    return x.transpose(1, 2).flatten(2)


def attend(block: Block, y: Tensor, causal: bool = False) -> Tensor:
    """The branch of self-attention: y = norm_1(x) (N, L, D) -> (N, L, D)."""
    q, k, v = (split_heads(part, block.heads) for part in block.project(y))  # (N, H, L, d) each
    q, k = block.norm_heads(q, k)
    out = F.scaled_dot_product_attention(block.rotate(q), block.rotate(k), v, is_causal=causal)  # (N, H, L, d)
    return block.merge(merge_heads(out))


def attend_over_time(block: Block, y: Tensor) -> Tensor:
    """The same attention, in both directions, along the first axis: (T, S, D) -> (T, S, D), S sequences of T tokens.

    Each sequence is one position of the picture over time. A rotary position turns all its tokens alike, which no
    product of query and key sees, so it is left out. The heads are put back in order before the output projection: on a
    tensor with gaps between its rows that product would become one small product a sequence, with the weight repeated
    for each.
    """
    q, k, v = (
        part.unflatten(-1, (block.heads, -1)).permute(1, 2, 0, 3)  # (S, H, T, d), a view
        for part in block.project(y)
    )
    q, k = block.norm_heads(q, k)
    out = F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3).reshape(*y.shape[:2], -1)  # (T, S, H*d)
    return block.merge(out)


def project_query(block: Block, query: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q (N, H, 1, d) of one token `query` (N, D) per sequence; k, v (N, H, L, d) of all tokens `y` (N, L, D).

    The token is one without a place in the picture: a class token, or one of a text. It is not rotated.
    """
    q, k, v = (split_heads(part, block.heads) for part in block.project_apart(query.unsqueeze(1), y))
    q, k = block.norm_heads(q, k)
    return q, block.rotate(k), v


def attend_from(block: Block, query: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of one token per sequence over all tokens: query (N, D), y (N, L, D) -> (N, D).

    `mask` (N, L) bool is True where the token may look. Equal to that token's row of `attend`.
    """
    q, k, v = project_query(block, query, y)
    mask = None if mask is None else mask[:, None, None]  # (N, 1, 1, L)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (N, H, 1, d)
    return block.merge(merge_heads(out).squeeze(1))


def softmax_weights(q: Tensor, k: Tensor) -> Tensor:
    """Softmax weights, mean over heads: q (N, H, n, d), k (N, H, L, d) -> (N, n, L)."""
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1).mean(dim=1)


def attention_map(block: Block, query: Tensor, y: Tensor) -> Tensor:
    """Softmax weights of one token over all tokens, mean over heads: query (N, D), y (N, L, D) -> (N, L)."""
    q, k, _ = project_query(block, query, y)
    return softmax_weights(q, k).squeeze(1)


def plain_block(block: Block, x: Tensor, causal: bool = False) -> Tensor:
    """The block as it is: (N, L, D) -> (N, L, D)."""
    x = x + attend(block, block.norm_1(x), causal)
    return x + block.mlp(block.norm_2(x))


def readout_block(block: Block, x: Tensor, position: Tensor, mask: Tensor | None = None) -> Tensor:
    """A last block for the one token per sequence that is read: x (N, L, D), position (N,) -> (N, D)."""
    rows = torch.arange(x.shape[0], device=x.device)
    normed = block.norm_1(x)
    token = x[rows, position] + attend_from(block, normed[rows, position], normed, mask)
    return token + block.mlp(block.norm_2(token))
