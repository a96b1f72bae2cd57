"""Similarity to positive and negative texts, adaptive fusion and the loss: FineCLIPER Eqs. 1, 8-11.

Shape letters: B clips, M modalities, C classes, E joint width. All in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Fused:
    """weights (B, M), the fused representation (B, E), and logits sim/tau: of it (B, C), of each modality (B, M, C)."""

    weights: Tensor
    feature: Tensor
    logits: Tensor
    modality_logits: Tensor


def similarity(features: Tensor, positive: Tensor, negative: Tensor | None) -> Tensor:
    """cos(c_P_i, m) - cos(c_N_i, m) (Eqs. 1, 8), without the second term where there are no negative texts (Table 6,
    "positive"): features (..., E), texts (C, E) -> (..., C)."""
    contrast = F.normalize(positive, dim=-1)  # (C, E)
    if negative is not None:
        contrast = contrast - F.normalize(negative, dim=-1)
    return F.normalize(features, dim=-1) @ contrast.T


def fusion_weights(similarities: Tensor) -> Tensor:
    """Softmax over the modalities of each one's largest similarity (Eq. 9): (B, M, C) -> (B, M)."""
    return similarities.amax(dim=-1).softmax(dim=-1)


def fixed_weights(values: list[float], similarities: Tensor) -> Tensor:
    """The same given weights (M,) for all clips, scaled to sum 1 over these modalities: (B, M)."""
    weights = similarities.new_tensor(values)
    return (weights / weights.sum()).expand(len(similarities), -1)


def fuse(
    features: Tensor,
    positive: Tensor,
    negative: Tensor | None,
    tau: float = 0.01,
    fixed: list[float] | None = None,
    normalize: bool = False,
    detach: bool = False,
) -> Fused:
    """v_mm = sum_m w_m m (Eq. 10) and all logits: features (B, M, E), texts (C, E).

    `fixed` replaces the adaptive weights, `normalize` sums unit vectors, `detach` stops gradients through the weights.
    """
    similarities = similarity(features, positive, negative)  # (B, M, C)
    weights = fusion_weights(similarities) if fixed is None else fixed_weights(fixed, similarities)
    weights = weights.detach() if detach else weights
    summands = F.normalize(features, dim=-1) if normalize else features
    fused = (weights.unsqueeze(-1) * summands).sum(dim=1)  # (B, E)
    return Fused(weights, fused, similarity(fused, positive, negative) / tau, similarities / tau)


def fusion_loss(fused: Fused, labels: Tensor, single: str = "once") -> Tensor:
    """Mean over the batch of CE(v_mm) + sum_m w_m CE(m) (Eq. 11).

    With one modality, v_mm is m and w_m is 1: read literally the loss is twice the same cross-entropy (`single`
    "printed"). Once is the default: a factor of the whole loss trains nothing else, it only doubles the learning rate,
    and the paper gives one learning rate for models with one modality and with four.
    """
    loss = F.cross_entropy(fused.logits, labels)
    batch, modalities, classes = fused.modality_logits.shape
    if modalities == 1:
        return loss if single == "once" else 2 * loss
    each = F.cross_entropy(
        fused.modality_logits.flatten(0, 1), labels.repeat_interleave(modalities), reduction="none"
    ).view(batch, modalities)  # (B, M)
    return loss + (fused.weights * each).sum(dim=1).mean()
