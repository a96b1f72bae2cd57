"""What adapters, temporal attention and explanations need of an image tower, whoever built it.

A tower is a view on the modules that hold the weights, made where it is needed; it owns nothing. Shape letters: N
images, L tokens, M patches, D width of the tower, P width of what is read, E joint width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fclip.models.backbone.attention import Block, attention_map, softmax_weights, split_heads


class ImageTower(ABC):
    """A vision transformer: `read(blocks(enter(embed(images)))) @ projection + bias`.

    `prefix` tokens (class token, registers) stand before the `grid` of patches. `reads_class` says that nothing but the
    first token is read, so that a last block need compute no other. `projection` (P, E) and `bias` (E,) are frozen;
    None: what is read is the feature.
    """

    blocks: Sequence[Block]
    width: int
    grid: tuple[int, int]
    prefix: int
    reads_class: bool
    projection: Tensor | None
    bias: Tensor | None

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Tokens with their positions, before any norm: (N, 3, H, W) -> (N, L, D)."""

    @abstractmethod
    def enter(self, x: Tensor) -> Tensor:
        """The norm before the blocks, (..., D)."""

    @abstractmethod
    def read(self, x: Tensor) -> Tensor:
        """Norms and pooling after the blocks: (N, L, D) -> (N, P); L may be 1 where `reads_class`."""

    def trainable_projection(self) -> Tensor:
        """What a trained projection starts from (P, E): the tower's own, or the identity where it has none."""
        return starting_projection(self.projection, self.width)

    def pool_map(self, tokens: Callable[[], Tensor]) -> Tensor | None:
        """Where a pooling head looks, mean over heads: of tokens after the blocks (N, L, D) over patches (N, M).

        None without such a head; the tokens are then not asked for.
        """
        return None

    def looks_at(self, y: Tensor) -> Tensor:
        """Where that which is read looks over patches in the last block's attention: y = norm_1(x) (N, L, D) -> (N, M).

        The class token's weights; or, of a mean of patches, the mean of theirs.
        """
        last = self.blocks[-1]
        if self.reads_class:
            return attention_map(last, y[:, 0], y)[:, self.prefix :]
        q, k, _ = (split_heads(part, last.heads) for part in last.project(y))
        q, k = last.norm_heads(q, k)
        return softmax_weights(last.rotate(q), last.rotate(k))[:, self.prefix :, self.prefix :].mean(dim=1)


def starting_projection(matrix: Tensor | None, width: int) -> Tensor:
    """A projection's matrix for training, detached; the identity (width, width) for a tower without one."""
    return torch.eye(width) if matrix is None else matrix.detach().contiguous()


def project(x: Tensor, matrix: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """x @ matrix + bias, (..., P) -> (..., E); without a matrix x itself."""
    x = x if matrix is None else x @ matrix
    return x if bias is None else x + bias
