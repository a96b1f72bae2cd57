"""The frame encoder: a frozen CLIP image tower with temporal, spatial and MLP adapters.

FineCLIPER Eqs. 5-7; the block is that of AIM (Yang et al., ICLR 2023, arXiv 2302.03024). The same class encodes video
frames (low level) and, with a second adapter set, face parsing and landmarks (middle level).

Clips are laid out frame first, (T, B, N, D) with N = M+1 tokens: then the tokens of a frame and the tokens at one
position over time are both plain views, and neither attention copies its input.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fclip.models.backbone.attention import attend, attend_from, attention_map, mlp
from fclip.models.backbone.clip import embed_images
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

    (B, T, 3, H, W) -> (B, D): the mean over frames of ln_post(class token), before any projection. With adapters at
    zero this is exactly the mean of plain CLIP's per-frame features. `scale` is s of Eq. 7.

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
        x = self._before_readout(visual, clips)  # (T, B, N, D)
        token = self._readout(visual.transformer.resblocks[-1], x)  # (T, B, D)
        return visual.ln_post(token).mean(dim=0)

    def attention(self, visual: Any, clips: Tensor) -> Tensor:
        """Where each frame's class token looks in the last block's spatial attention: (B, T, 3, H, W) -> (B, T, M).

        Softmax weights over the patches, mean over heads; what is missing to a sum of 1 is the class token's own.
        """
        block = visual.transformer.resblocks[-1]
        normed = self._spatial_input(block, self.blocks[-1], self._before_readout(visual, clips).flatten(0, 1))
        weights = attention_map(block.attn, normed[:, 0], normed)[:, 1:]  # (T*B, M)
        return weights.unflatten(0, (clips.shape[1], clips.shape[0])).transpose(0, 1)  # (B, T, M)

    def _before_readout(self, visual: Any, clips: Tensor) -> Tensor:
        """All blocks but the last, and of the last its temporal step: (B, T, 3, H, W) -> (T, B, N, D)."""
        batch, frames = clips.shape[:2]
        x = embed_images(visual, clips.transpose(0, 1).flatten(0, 1))  # (T*B, N, D)
        time = self.temporal_embedding.to(x.dtype).reshape(frames, 1, 1, -1)  # (T, 1, 1, D)
        x = visual.ln_pre(x.unflatten(0, (frames, batch)) + time)  # (T, B, N, D)
        *blocks, last = zip(visual.transformer.resblocks, self.blocks, strict=True)
        for block, adapters in blocks:
            x = self._run(self._block, block, adapters, x)
        return self._run(self._temporal, *last, x)

    def _run(self, step: Any, block: Any, adapters: FrameAdapters, x: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(step, block, adapters, x, use_reentrant=False)
        return step(block, adapters, x)

    def _block(self, block: Any, adapters: FrameAdapters, x: Tensor) -> Tensor:
        """One block, Eqs. 5-7, x (T, B, N, D)."""
        x = self._temporal(block, adapters, x)
        y = self._spatial_input(block, adapters, x).flatten(0, 1)
        y = block.ls_1(attend(block.attn, y)).view_as(x)  # attention within (T*B, N, D)
        return self._mlp(block, adapters, self._add_spatial(adapters, x, y))

    def _spatial_input(self, block: Any, adapters: FrameAdapters, x: Tensor) -> Tensor:
        """What the spatial attention looks at: ln_1(x), through the adapter if that is before it; same shape."""
        y = block.ln_1(x)
        return y + adapters.spatial(y) if self.before else y

    def _add_spatial(self, adapters: FrameAdapters, x: Tensor, y: Tensor) -> Tensor:
        """x with what the spatial attention gives, through the adapter with inner skip if that is after it."""
        return x + y if self.before else x + y + adapters.spatial(y)

    def _temporal(self, block: Any, adapters: FrameAdapters, x: Tensor) -> Tensor:
        """x + A_tem(attention over time at each of the B*N token positions), x (T, B, N, D). No inner skip."""
        y = block.ln_1(x).flatten(1, 2)  # (T, B*N, D)
        if self.before:
            return x + block.ls_1(attend_over_time(block.attn, y + adapters.temporal(y))).view_as(x)
        if adapters.temporal_in is not None:
            y = y + adapters.temporal_in(y)
        return x + adapters.temporal(block.ls_1(attend_over_time(block.attn, y))).view_as(x)

    def _mlp(self, block: Any, adapters: FrameAdapters, x: Tensor) -> Tensor:
        """x + MLP(ln_2(x)) + s A_mlp(ln_2(x)), Eq. 7; x (..., D)."""
        y = block.ln_2(x)
        return x + block.ls_2(mlp(block, y)) + self.scale * adapters.mlp(y)

    def _readout(self, block: Any, x: Tensor) -> Tensor:
        """The last block's spatial attention and MLP for the class tokens only: (T, B, N, D) -> (T, B, D)."""
        adapters = self.blocks[-1]
        normed = self._spatial_input(block, adapters, x)
        y = block.ls_1(attend_from(block.attn, normed[:, :, 0].flatten(0, 1), normed.flatten(0, 1)))  # (T*B, D)
        y = y.view(x.shape[0], x.shape[1], -1)  # (T, B, D)
        return self._mlp(block, adapters, self._add_spatial(adapters, x[:, :, 0], y))


def attend_over_time(attn: Any, x: Tensor) -> Tensor:
    """Bidirectional attention along the first axis: (T, S, D) -> (T, S, D), S sequences of T tokens.

    The heads are put back in order before the output projection: on a tensor with gaps between its rows that product
    would become one small product a sequence, with the weight repeated for each.
    """
    q, k, v = (
        part.unflatten(-1, (attn.num_heads, -1)).permute(1, 2, 0, 3)  # (S, H, T, d), a view
        for part in F.linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    )
    out = F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3).reshape(x.shape)  # (T, S, D)
    return F.linear(out, attn.out_proj.weight, attn.out_proj.bias)
