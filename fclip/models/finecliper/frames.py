"""The frame encoder: a frozen CLIP image tower with temporal, spatial and MLP adapters.

FineCLIPER Eqs. 5-7; the block is that of AIM (Yang et al., ICLR 2023, arXiv 2302.03024). The same class encodes video
frames (low level) and, with a second adapter set, face parsing and landmarks (middle level).

Clips are laid out frame first, (T, B, N, D) with N = M+1 tokens: then the tokens of a frame and the tokens at one
position over time are both plain views, and neither attention copies its input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fclip.models.backbone.attention import Block, attend, attend_from, attend_over_time
from fclip.models.backbone.encode import image_tower
from fclip.models.backbone.towers import ImageTower
from fclip.models.finecliper.adapters import Adapter


class FrameAdapters(nn.Module):
    """The three adapters of one block; `both`: a fourth, before the attention over time (AIM's `T_Adapter_in`)."""

    def __init__(self, width: int, hidden: int, both: bool = False) -> None:
        super().__init__()
        self.temporal_in = Adapter(width, hidden) if both else None
        self.temporal = Adapter(width, hidden)
        self.spatial = Adapter(width, hidden)
        self.mlp = Adapter(width, hidden)


class FrameEncoder(nn.Module):
    """Adapters and temporal embedding for one frozen image tower, which is handed to `forward`, not owned.

    (B, T, 3, H, W) -> (B, P): the mean over frames of what the tower reads (CLIP: ln_post(class token)), before any
    projection. With adapters at zero this is exactly the mean of plain CLIP's frame features. `scale` is s of Eq. 7.

    before: both attentions get their input through their adapter with inner skip, MSA(y + A(y)), y = ln_1(x), as
    Eqs. 5-6 are printed; the block of AIM adapts what comes out. With adapters at zero it is then not plain CLIP: the
    frozen attention over time takes part from the start. both: AIM with two temporal adapters (num_tadapter = 2): that
    over time gets its input through a fourth adapter with inner skip, and its output through the first as ever.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        frames: int,
        hidden: int,
        scale: float = 0.5,
        checkpointing: bool = False,
        before: bool = False,
        both: bool = False,
    ) -> None:
        super().__init__()
        self.temporal_embedding = nn.Parameter(torch.zeros(1, frames, width))
        self.blocks: Any = nn.ModuleList(FrameAdapters(width, hidden, both) for _ in range(layers))
        self.scale = scale
        self.checkpointing = checkpointing
        self.before = before

    def forward(self, visual: Any, clips: Tensor) -> Tensor:
        tower = image_tower(visual)
        x = self._before_readout(tower, clips)  # (T, B, N, D)
        x = self._readout(tower.blocks[-1], x, tower.reads_class)  # (T, B, 1 or N, D)
        return tower.read(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(dim=0)

    def attention(self, visual: Any, clips: Tensor) -> Tensor:
        """Where each frame's class token looks in the last block's spatial attention: (B, T, 3, H, W) -> (B, T, M).

        Softmax weights over the patches, mean over heads; what is missing to a sum of 1 is the class token's own. Of a
        tower with a pooling head the weights are those of the head.
        """
        tower = image_tower(visual)
        x = self._before_readout(tower, clips)  # (T, B, N, D)
        weights = tower.pool_map(lambda: self._readout(tower.blocks[-1], x, False).flatten(0, 1))
        if weights is None:
            y = self._spatial_input(tower.blocks[-1], self.blocks[-1], x)
            weights = tower.looks_at(y.flatten(0, 1))  # (T*B, M)
        return weights.unflatten(0, (clips.shape[1], clips.shape[0])).transpose(0, 1)  # (B, T, M)

    def _before_readout(self, tower: ImageTower, clips: Tensor) -> Tensor:
        """All blocks but the last, and of the last its temporal step: (B, T, 3, H, W) -> (T, B, N, D)."""
        batch, frames = clips.shape[:2]
        x = tower.embed(clips.transpose(0, 1).flatten(0, 1))  # (T*B, N, D)
        time = self.temporal_embedding.to(x.dtype).reshape(frames, 1, 1, -1)  # (T, 1, 1, D)
        x = tower.enter(x.unflatten(0, (frames, batch)) + time)  # (T, B, N, D)
        *blocks, last = zip(tower.blocks, self.blocks, strict=True)
        for block, adapters in blocks:
            x = self._run(self._block, block, adapters, x)
        return self._run(self._temporal, *last, x)

    def _run(self, step: Any, block: Block, adapters: FrameAdapters, x: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(step, block, adapters, x, use_reentrant=False)
        return step(block, adapters, x)

    def _block(self, block: Block, adapters: FrameAdapters, x: Tensor) -> Tensor:
        """One block, Eqs. 5-7, x (T, B, N, D)."""
        x = self._temporal(block, adapters, x)
        y = self._spatial_input(block, adapters, x).flatten(0, 1)
        y = attend(block, y).view_as(x)  # attention within (T*B, N, D)
        return self._mlp(block, adapters, self._add_spatial(adapters, x, y))

    def _spatial_input(self, block: Block, adapters: FrameAdapters, x: Tensor) -> Tensor:
        """What the spatial attention looks at: ln_1(x), through the adapter if that is before it; same shape."""
        y = block.norm_1(x)
        return y + adapters.spatial(y) if self.before else y

    def _add_spatial(self, adapters: FrameAdapters, x: Tensor, y: Tensor) -> Tensor:
        """x with what the spatial attention gives, through the adapter with inner skip if that is after it."""
        return x + y if self.before else x + y + adapters.spatial(y)

    def _temporal(self, block: Block, adapters: FrameAdapters, x: Tensor) -> Tensor:
        """x + A_tem(attention over time at each of the B*N token positions), x (T, B, N, D). No inner skip."""
        y = block.norm_1(x).flatten(1, 2)  # (T, B*N, D)
        if self.before:
            return x + attend_over_time(block, y + adapters.temporal(y)).view_as(x)
        if adapters.temporal_in is not None:
            y = y + adapters.temporal_in(y)
        return x + adapters.temporal(attend_over_time(block, y)).view_as(x)

    def _mlp(self, block: Block, adapters: FrameAdapters, x: Tensor) -> Tensor:
        """x + MLP(ln_2(x)) + s A_mlp(ln_2(x)), Eq. 7; x (..., D)."""
        y = block.norm_2(x)
        return x + block.mlp(y) + self.scale * adapters.mlp(y)

    def _readout(self, block: Block, x: Tensor, class_only: bool = True) -> Tensor:
        """The last block's spatial attention and MLP, for the class tokens only or for all: (T, B, 1 or N, D)."""
        adapters = self.blocks[-1]
        normed = self._spatial_input(block, adapters, x)
        if class_only:
            y = attend_from(block, normed[:, :, 0].flatten(0, 1), normed.flatten(0, 1))  # (T*B, D)
            x = x[:, :, :1]
        else:
            y = attend(block, normed.flatten(0, 1))  # (T*B, N, D)
        return self._mlp(block, adapters, self._add_spatial(adapters, x, y.view_as(x)))
