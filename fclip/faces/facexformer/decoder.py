"""FaceXFormer's decoder: 18 task tokens and the image attend to each other; heads read the tokens.

The two-way transformer is that of Segment Anything (Kirillov et al., 2023). Parameter names follow the public
checkpoint.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM, HEADS, MLP = 256, 8, 2048
CLASSES = 11
TASKS = {"landmarks": 136, "pose": 3, "attribute": 40, "visibility": 29, "age": 8, "gender": 2, "race": 5}


class Attention(nn.Module):
    """Multi-head attention whose inner width is DIM / `downsample`."""

    def __init__(self, downsample: int = 1) -> None:
        super().__init__()
        inner = DIM // downsample
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(DIM, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, DIM)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query (B, N, 256), key and value (B, M, 256) -> (B, N, 256)."""
        projected = (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        heads = [x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in projected]  # (B, heads, N or M, inner/heads)
        x = F.scaled_dot_product_attention(*heads)
        return self.out_proj(x.transpose(1, 2).flatten(2))  # (B, N, 256)


class Mlp(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        """(..., first width) -> (..., last width)."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


class TwoLayer(nn.Module):
    """The transformer's feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(DIM, MLP), nn.Linear(MLP, DIM)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 256) -> the same shape."""
        return self.lin2(self.lin1(x).relu())


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves, then to the image, then the image to the tokens; post-norm."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention()
        self.cross_attn_token_to_image, self.cross_attn_image_to_token = Attention(2), Attention(2)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(DIM) for _ in range(4))
        self.mlp = TwoLayer()

    def forward(self, tokens: Tensor, image: Tensor, token_position: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B, 18, 256), image (B, 3136, 256) and their positional encodings -> new tokens and image.

        The first block's self-attention has neither positions nor a residual connection.
        """
        if self.first:
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            placed = tokens + token_position
            tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens))
        placed_image = image + position
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_position, placed_image, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(placed_image, tokens + token_position, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Two blocks and a last look of the tokens at the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(first=index == 0) for index in range(2))
        self.final_attn_token_to_image = Attention(2)
        self.norm_final_attn = nn.LayerNorm(DIM)

    def forward(self, tokens: Tensor, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B, 18, 256), which are their own positional encoding, image (B, 3136, 256) -> both, processed."""
        token_position = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_position, position)
        look = self.final_attn_token_to_image(tokens + token_position, image + position, image)
        return self.norm_final_attn(tokens + look), image


class FaceDecoder(nn.Module):
    """Fused image features -> the outputs of all tasks at once."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        for task, outputs in TASKS.items():
            setattr(self, f"{task}_token", nn.Embedding(1, DIM))
            setattr(self, f"{task}_prediction_head", Mlp(DIM, DIM, DIM, outputs))
        self.mask_tokens = nn.Embedding(CLASSES, DIM)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(DIM, 64, 2, 2), nn.LayerNorm(64, eps=1e-6), nn.GELU(), nn.ConvTranspose2d(64, 32, 2, 2)
        )
        self.output_hypernetwork_mlps = Mlp(DIM, DIM, DIM, 32)

    def forward(self, image: Tensor, position: Tensor) -> dict[str, Tensor]:
        """image (B, S*S, 256), position (S*S, 256) -> each task's outputs (B, n), and `segmentation` (B, 11, 4S, 4S).

        The heads compute in float32 whatever the rest does: bfloat16 would round a landmark by a third of a pixel.
        """
        tokens = torch.cat([getattr(self, f"{task}_token").weight for task in TASKS] + [self.mask_tokens.weight])
        tokens = tokens.expand(len(image), -1, -1).to(image.dtype)  # (B, 18, 256)
        tokens, image = self.transformer(tokens, image, position)
        outputs = {
            task: getattr(self, f"{task}_prediction_head")(tokens[:, index].float()) for index, task in enumerate(TASKS)
        }
        kernels = self.output_hypernetwork_mlps(tokens[:, len(TASKS) :])  # (B, 11, 32)
        return outputs | {"segmentation": self._segment(image, kernels)}

    def _segment(self, image: Tensor, kernels: Tensor) -> Tensor:
        """image (B, S*S, 256), kernels (B, 11, 32) -> logits (B, 11, 4S, 4S).

        Each transposed convolution makes 2 x 2 pixels of one and is computed as a matrix product on (..., channels),
        so that pixels are put in their places once, at the end, for 11 channels in place of 64 and 32.
        """
        first, norm, activation, second = self.output_upscaling
        x = activation(norm(_split_pixels(image, first)))  # (B, S*S, 4, 64)
        x = F.gelu(_split_pixels(x, second)).flatten(1, 3)  # (B, S*S*16, 32)
        logits = kernels @ x.transpose(1, 2)  # (B, 11, S*S*16)
        side = math.isqrt(image.shape[1])
        logits = logits.view(len(image), CLASSES, side, side, 2, 2, 2, 2)  # y, x, then halves and quarters: y, x, y, x
        return logits.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(len(image), CLASSES, 4 * side, 4 * side)


def _split_pixels(x: Tensor, module: nn.Module) -> Tensor:
    """A transposed convolution with kernel and stride 2: (..., C) -> (..., 4, D), the 2 x 2 pixels row by row."""
    layer = cast(nn.ConvTranspose2d, module)
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (4*D, C)
    bias = layer.bias.repeat(4) if layer.bias is not None else None
    return F.linear(x, weight, bias).unflatten(-1, (4, layer.out_channels))
