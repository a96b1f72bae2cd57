"""Swin-B image backbone (Liu et al., ICCV 2021) that yields the maps of its four stages. Images are 224 x 224.

Parameter names follow the public checkpoint: `0` patches, `1 3 5 7` stages, `2 4 6` merging. All maps are
channels-last (B, H, W, C).
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW = 7
WIDTHS, DEPTHS, HEADS = (128, 256, 512, 1024), (2, 2, 18, 2), (4, 8, 16, 32)


class WindowAttention(nn.Module):
    """Self-attention within windows of 7 x 7 tokens, optionally shifted by half a window, with a bias by offset."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.shifted = heads, shifted
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", _relative_position_index())

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, H, W, C) -> the same shape; H and W are multiples of the window."""
        batch, height, width, channels = x.shape
        shift = WINDOW // 2 if self.shifted and height > WINDOW else 0
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        rows, columns = height // WINDOW, width // WINDOW
        count, tokens = rows * columns, WINDOW * WINDOW
        windows = x.view(batch, rows, WINDOW, columns, WINDOW, channels).transpose(2, 3)
        qkv = self.qkv(windows.reshape(batch * count, tokens, channels))  # (B*windows, 49, 3C)
        qkv = qkv.view(batch, count, tokens, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        query, key, value = qkv.reshape(3, batch, count * self.heads, tokens, -1)  # (B, windows*heads, 49, C/heads)
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=self._bias(rows, columns, shift))
        x = x.view(batch, count, self.heads, tokens, -1).transpose(2, 3)  # (B, windows, 49, heads, C/heads)
        x = self.proj(x.reshape(batch, rows, columns, WINDOW, WINDOW, channels))
        x = x.transpose(2, 3).reshape(batch, height, width, channels)
        return torch.roll(x, (shift, shift), (1, 2)) if shift else x

    def _bias(self, rows: int, columns: int, shift: int) -> Tensor:
        """What is added to the attention logits, (windows*heads, 49, 49): bias by offset, and the mask of the shift."""
        bias = self.relative_position_bias_table[self.relative_position_index]  # (49*49, heads)
        bias = bias.view(WINDOW**2, WINDOW**2, self.heads).permute(2, 0, 1)  # (heads, 49, 49)
        if not shift:
            return bias.repeat(rows * columns, 1, 1)
        mask = _shift_mask(rows, columns, shift, bias.device, bias.dtype)  # (windows, 49, 49)
        return (bias[None] + mask[:, None]).flatten(0, 1)


class SwinBlock(nn.Module):
    """Pre-norm residual block: window attention, then a two-layer GELU network."""

    def __init__(self, width: int, heads: int, shifted: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, shifted)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """Four neighbouring tokens become one of twice the width: (B, H, W, C) -> (B, H/2, W/2, 2C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Neighbours are concatenated column by column: upper left, lower left, upper right, lower right."""
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class PatchEmbedding(nn.Sequential):
    """Patches of 4 x 4 pixels: (B, 3, H, W) -> (B, H/4, W/4, 128)."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, WIDTHS[0], 4, 4), nn.Identity(), nn.LayerNorm(WIDTHS[0]))

    def forward(self, images: Tensor) -> Tensor:
        """Convolve, move channels last, normalise."""
        return self[2](self[0](images).permute(0, 2, 3, 1))


class SwinFeatures(nn.ModuleList):
    """The backbone without its head."""

    def __init__(self) -> None:
        super().__init__([PatchEmbedding()])
        for stage, (width, depth, heads) in enumerate(zip(WIDTHS, DEPTHS, HEADS, strict=True)):
            if stage:
                self.append(PatchMerging(width // 2))
            self.append(nn.Sequential(*(SwinBlock(width, heads, shifted=block % 2 == 1) for block in range(depth))))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, 224, 224) -> maps after each stage, before merging: (B, 56, 56, 128) ... (B, 7, 7, 1024)."""
        maps, x = [], images
        for index, layer in enumerate(self):
            x = layer(x)
            if index % 2:
                maps.append(x)
        return maps


def _relative_position_index() -> Tensor:
    """For each pair of a window's tokens the row of the bias table that belongs to their offset, (49 * 49,)."""
    axis = torch.arange(WINDOW)
    y, x = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    dy, dx = (v[:, None] - v[None] + WINDOW - 1 for v in (y, x))  # (49, 49), 0 to 12
    return (dy * (2 * WINDOW - 1) + dx).flatten()


@cache
def _shift_mask(rows: int, columns: int, shift: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """-100 between tokens that only the roll of a shifted window brought together, else 0: (windows, 49, 49)."""
    bands = [  # 0: whole windows, 1 and 2: the two parts of the last one
        torch.cat([torch.zeros((n - 1) * WINDOW), torch.ones(WINDOW - shift), torch.full((shift,), 2.0)])
        for n in (rows, columns)
    ]
    region = 3 * bands[0][:, None] + bands[1][None]  # (H, W)
    region = region.view(rows, WINDOW, columns, WINDOW).transpose(1, 2).reshape(rows * columns, -1)  # (windows, 49)
    apart = region[:, :, None] != region[:, None, :]
    return (-100.0 * apart).to(device, dtype)
