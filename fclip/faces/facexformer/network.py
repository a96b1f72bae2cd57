"""The FaceXFormer network: Swin-B, fusion of its four maps, decoder. State dict as the public checkpoint.

505 tensors, 91,985,943 parameters. Every task is computed for every image in one pass.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fclip.faces.facexformer.decoder import DIM, TASKS, FaceDecoder
from fclip.faces.facexformer.swin import WIDTHS, SwinFeatures

IMAGE_SIZE = 224
GRID = IMAGE_SIZE // 4


class Projection(nn.Module):
    """Brings a stage's map to the common width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, DIM)


class FourierPosition(nn.Module):
    """Positional encoding by random Fourier features (Tancik et al., 2020); the matrix is part of the weights."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(2, DIM // 2))

    def forward(self, side: int) -> Tensor:
        """Encoding of a grid's cells, (side*side, 256), always computed in float32."""
        matrix = self.positional_encoding_gaussian_matrix.float()
        axis = 2 * (torch.arange(side, device=matrix.device) + 0.5) / side - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        angles = 2 * math.pi * torch.stack([x, y], -1).flatten(0, 1) @ matrix  # (side*side, 128)
        return torch.cat([angles.sin(), angles.cos()], -1)


class FaceXFormer(nn.Module):
    """Images -> landmarks, pose, attributes, visibility, age, gender, race and segmentation."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleList([SwinFeatures(), nn.LayerNorm(WIDTHS[-1])])  # the norm is there, but not used
        self.pe_layer = FourierPosition()
        self.face_decoder = FaceDecoder()
        self.linear_c = nn.ModuleList(Projection(width) for width in WIDTHS)
        self.linear_fuse = nn.Conv2d(4 * DIM, DIM, 1, bias=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, 224, 224), ImageNet-normalised -> the decoder's outputs.

        `landmarks` (B, 136): 68 x, y in [-1, 1] of the image, not bounded; `pose` (B, 3): radians; `segmentation`
        (B, 11, 224, 224) logits.
        """
        fused = self.fuse(self.backbone[0](images))
        position = self.pe_layer(GRID).to(fused.dtype)
        return self.face_decoder(fused.flatten(1, 2), position)

    def fuse(self, maps: list[Tensor]) -> Tensor:
        """The four maps (B, S_i, S_i, C_i) -> (B, 56, 56, 256).

        Defined as: project each, enlarge each, concatenate the deepest first, mix linearly. As enlarging and mixing
        are both linear, each map is projected and mixed at its own size and enlarged last, for a quarter of the work.
        """
        mixing = self.linear_fuse.weight.flatten(1).chunk(4, dim=1)[::-1]  # four times (256, 256), shallow first
        parts = []
        for x, projection, mix in zip(maps, self.linear_c, mixing, strict=True):
            layer = cast(Projection, projection).proj
            part = F.linear(x, mix @ layer.weight, mix @ layer.bias).permute(0, 3, 1, 2)  # (B, 256, S_i, S_i)
            parts.append(F.interpolate(part, (GRID, GRID), mode="bilinear", align_corners=False))
        return sum(parts[1:], parts[0]).permute(0, 2, 3, 1).contiguous()

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Compute in `dtype`, but for the heads that read numbers off the tokens."""
        self.to(dtype)
        self.pe_layer.float()
        for task in TASKS:
            getattr(self.face_decoder, f"{task}_prediction_head").float()
