"""Frames and texts through the towers of an image-text model, without any work that the result does not need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fclip.errors import UsageError
from fclip.models.backbone.attention import plain_block, readout_block
from fclip.models.backbone.building import tower_refusal
from fclip.models.backbone.native import NativeImageTower
from fclip.models.backbone.texts import TextTower
from fclip.models.backbone.towers import ImageTower, project


def image_tower(visual: Any) -> ImageTower:
    """The view on an image tower; UsageError if it is not a vision transformer whose blocks are known."""
    if reason := tower_refusal(visual):
        raise UsageError(f"adapters cannot stand in this image tower: {reason}")
    if hasattr(visual, "transformer"):
        return NativeImageTower(visual)
    from fclip.models.backbone.timm_vit import TimmImageTower

    return TimmImageTower(visual)


def text_tower(clip: Any) -> TextTower:
    """The view on the text tower of an image-text model."""
    return TextTower(clip)


def joint_width(clip: Any) -> int:
    """E, the width of image and text features alike."""
    tower = text_tower(clip)
    return tower.width if tower.projection is None else tower.projection.shape[1]


def encode_frames(visual: Any, images: Tensor) -> Tensor:
    """Image features, not normalised: (N, 3, H, W) -> (N, E). Equal to `visual(images)`.

    Where one token is read, the last block computes no other; a tower of other blocks computes what it computes.
    """
    if tower_refusal(visual):
        features: Tensor = visual(images)
        return features
    tower = image_tower(visual)
    x = tower.enter(tower.embed(images))
    *blocks, last = tower.blocks
    for block in blocks:
        x = plain_block(block, x)
    if tower.reads_class:
        x = readout_block(last, x, torch.zeros(len(x), dtype=torch.long, device=x.device)).unsqueeze(1)  # (N, 1, D)
    else:
        x = plain_block(last, x)
    return project(tower.read(x), tower.projection, tower.bias)


def encode_text(clip: Any, tokens: Tensor) -> Tensor:
    """Text features, not normalised: token ids (N, L) -> (N, E); only tokens up to the longest text are computed."""
    tower = text_tower(clip)
    tokens = tower.cut(tokens)
    return tower.project(tower.encode(tower.embed(tokens), tower.end(tokens)))
