"""Checkpoints of every kind on the small CLIP, as states under the names in which their authors distribute them."""

from __future__ import annotations

import torch
from distributed_files import EMOTIONS, token_buffers
from torch import Tensor


def temporal_state(prefix: str, frames: int, depth: int, inner: int, mlp: int, width: int = 128) -> dict[str, Tensor]:
    """A temporal transformer under the released names."""
    shapes = {"cls_token": (1, 1, width), "pos_embedding": (1, frames + 1, width)}
    for layer in range(depth):
        attention, net = (f"temporal_transformer.layers.{layer}.{part}.fn." for part in (0, 1))
        shapes |= {
            f"{attention}norm.weight": (width,),
            f"{attention}norm.bias": (width,),
            f"{attention}fn.to_qkv.weight": (3 * inner, width),
            f"{attention}fn.to_out.0.weight": (width, inner),
            f"{attention}fn.to_out.0.bias": (width,),
            f"{net}norm.weight": (width,),
            f"{net}norm.bias": (width,),
            f"{net}fn.net.0.weight": (mlp, width),
            f"{net}fn.net.0.bias": (mlp,),
            f"{net}fn.net.3.weight": (width, mlp),
            f"{net}fn.net.3.bias": (width,),
        }
    generator = torch.Generator().manual_seed(0)
    return {prefix + name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


def dfer_state(clip: dict[str, Tensor], texts: list[str], shared: bool = False) -> dict[str, Tensor]:
    visual = {k.removeprefix("visual."): v for k, v in clip.items() if k.startswith("visual.")}
    text = {k: v for k, v in clip.items() if not k.startswith(("visual.", "token_embedding", "logit_scale"))}
    ctx = torch.randn((8, 128) if shared else (len(texts), 8, 128), generator=torch.Generator().manual_seed(1)) * 0.1
    return {
        "prompt_learner.ctx": ctx,
        **token_buffers(clip["token_embedding.weight"], texts, 8),
        **{f"text_encoder.{k}": v for k, v in text.items()},
        **{f"image_encoder.{k}": v + 0.01 for k, v in visual.items()},
        **temporal_state("temporal_net.", 8, 1, 512, 1024),
        **{f"clip_model_.{k}": v for k, v in clip.items()},
    }


def emoclip_state(clip: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "logit_scale": torch.tensor(3.0),
        **{f"backbone.{k}": v for k, v in clip.items()},
        **temporal_state("temporal.", 1023, 2, 64, 32),
    }


def coop_state(clip: dict[str, Tensor], conditional: bool = False) -> dict[str, Tensor]:
    names = [f"{name}." for name in EMOTIONS]
    state = {"prompt_learner.ctx": torch.randn(4, 128), **token_buffers(clip["token_embedding.weight"], names, 4)}
    if conditional:
        shapes = {"linear1.weight": (8, 128), "linear1.bias": (8,), "linear2.weight": (128, 8), "linear2.bias": (128,)}
        state |= {f"prompt_learner.meta_net.{k}": torch.randn(shape) for k, shape in shapes.items()}
    return state


def aim_state(clip: dict[str, Tensor], both: bool = False) -> dict[str, Tensor]:
    """AIM's names, as mmcv saves them; `both`: with two temporal adapters a block."""
    visual = {k.removeprefix("visual."): v for k, v in clip.items() if k.startswith("visual.") and k != "visual.proj"}
    state = {"temporal_embedding": torch.randn(1, 8, 128), **visual}
    for block in range(4):
        for adapter in ("T_Adapter", "S_Adapter", "MLP_Adapter", *(["T_Adapter_in"] if both else [])):
            name = f"transformer.resblocks.{block}.{adapter}"
            state |= {
                f"{name}.D_fc1.weight": torch.randn(32, 128),
                f"{name}.D_fc1.bias": torch.randn(32),
                f"{name}.D_fc2.weight": torch.randn(128, 32),
                f"{name}.D_fc2.bias": torch.randn(128),
            }
    return {**{f"backbone.{k}": v for k, v in state.items()}, "cls_head.fc_cls.weight": torch.randn(7, 128)}
