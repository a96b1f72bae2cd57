"""From a video feature to logits and loss, for the variants with one modality; and the contrast of clips and captions.

The symmetric contrastive loss is EmoCLIP's (Foteinopoulou & Patras, FG 2024). All in float32, under autocast too.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fclip.models.base import ModelOutput


def classify(logits: Tensor, video: Tensor, labels: Tensor | None, modality: str = "frames") -> ModelOutput:
    """The output of a model with one modality: logits (B, C), video feature (B, E), cross-entropy with labels."""
    loss = None if labels is None else F.cross_entropy(logits.float(), labels)
    weights = logits.new_ones(len(logits), 1)
    chance = math.log(logits.shape[1])
    return ModelOutput(logits, {modality: logits}, weights, {modality: video}, (modality,), loss, chance)


def linear_logits(features: Tensor, classifier: nn.Linear, normalize: bool = False) -> Tensor:
    """Logits (B, C) of features (B, D), layer-normalised without weights first if `normalize`."""
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        return classifier(F.layer_norm(features, features.shape[-1:]) if normalize else features)


def cosine_logits(features: Tensor, texts: Tensor, scale: float | Tensor) -> Tensor:
    """scale * cos(feature, text): (B, E) and texts (C, E), or (B, C, E) if each clip has its own, -> (B, C)."""
    with torch.autocast(features.device.type, enabled=False):
        features, texts = F.normalize(features.float(), dim=-1), F.normalize(texts.float(), dim=-1)
        return scale * (features.unsqueeze(-2) @ texts.transpose(-1, -2)).squeeze(-2)


def same_text(texts: Tensor) -> Tensor:
    """Which rows are equal: ids (B, L) or cached features (B, E) -> group number of each row (B,)."""
    return torch.unique(texts, dim=0, return_inverse=True)[1]


def contrastive_loss(features: Tensor, texts: Tensor, scale: float | Tensor, groups: Tensor) -> Tensor:
    """Symmetric InfoNCE between clips (B, E) and their texts (B, E): mean of both directions, a scalar.

    Pairs of one group (B,) have the same text and are not negatives of each other. 0 for no pairs.
    """
    if not len(features):
        return features.sum()
    logits = cosine_logits(features, texts, scale)  # (B, B)
    pairs = torch.arange(len(logits), device=logits.device)
    logits = logits.masked_fill(_same_pairs(groups), float("-inf"))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def contrastive_chance(groups: Tensor) -> float:
    """The contrastive loss where a clip is as near to every text as to its own; `groups` (B,) as in the loss."""
    return float((~_same_pairs(groups)).sum(1).log().mean()) if len(groups) else 0.0


def _same_pairs(groups: Tensor) -> Tensor:
    """Which pairs (B, B) of different rows are of one group."""
    return (groups[:, None] == groups[None]) & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
