"""Why a clip was classified as it was, for reports: similarities to positive and negative texts (the paper's Fig. 5),
fusion weights, and where the class token of each frame looks (Fig. 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fclip.errors import FclipError
from fclip.models.backbone.encode import image_tower
from fclip.models.finecliper.frames import FrameEncoder
from fclip.models.finecliper.model import FineCliper


@dataclass(frozen=True)
class Explanation:
    """Of one batch: cosines `positive` and `negative` (B, M, C; nan without negative texts) in the order of
    `modalities`, `weights` (B, M), `logits` (B, C), and `attention` (B, T, Hp, Wp) over the patches of each frame, or
    None without the low level."""

    modalities: tuple[str, ...]
    positive: Tensor
    negative: Tensor
    weights: Tensor
    logits: Tensor
    attention: Tensor | None


@torch.no_grad()
def explain(model: FineCliper, batch: dict[str, Tensor]) -> Explanation:
    """Explain what `model` makes of a batch. FclipError for a model that has no positive and negative texts."""
    if not isinstance(model, FineCliper):
        raise FclipError(f"variant {model.variant} has no positive and negative texts to explain its choice with")
    output = model(batch)
    features = torch.stack([output.features[name] for name in output.modalities], dim=1)  # (B, M, E)
    unit, (texts, opposites) = F.normalize(features, dim=-1), model.label_features()
    positive = unit @ F.normalize(texts, dim=-1).T  # (B, M, C)
    negative = torch.full_like(positive, torch.nan) if opposites is None else unit @ F.normalize(opposites, dim=-1).T
    if output.weights is None:
        raise FclipError(f"variant {model.variant} returned no fusion weights")
    attention = frame_attention(model, batch["frames"]) if "frames" in output.modalities else None
    return Explanation(output.modalities, positive, negative, output.weights, output.logits, attention)


@torch.no_grad()
def frame_attention(model: FineCliper, clips: Tensor) -> Tensor:
    """Where the class token, or what reads in its place, looks, mean over heads: (B, T, 3, H, W) -> (B, T, Hp, Wp)."""
    visual: Any = model.clip.visual
    tower = image_tower(visual)
    if "frames" in model.adapters:
        encoder = model.adapters["frames"]
    else:  # video_adapters off: adapters at zero are plain CLIP
        encoder = FrameEncoder(tower.width, len(tower.blocks), model.frames, hidden=1).to(clips.device)
    return encoder.attention(visual, clips).unflatten(-1, tower.grid)  # (B, T, Hp, Wp)
