"""FineCLIPER as one writes it down first, to compare the model with: tests for equal results, the benchmark for speed.

It uses open_clip's own modules (nn.MultiheadAttention, `x * sigmoid(1.702x)`), encodes texts over their whole context,
positive and negative ones one after the other, and runs frames, parsing and landmarks through three separate passes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fclip.models.finecliper.model import FineCliper


def plain_attention(block: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    return block.attn(x, x, x, need_weights=False, attn_mask=mask)[0]


def plain_frames(model: FineCliper, adapters: Any, clips: Tensor) -> Tensor:
    """Eqs. 5-7 as they read: (B, T, 3, H, W) -> (B, D)."""
    visual, (batch, frames) = model.clip.visual, clips.shape[:2]
    x = visual.conv1(clips.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B*T, M, D)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    x = x.unflatten(0, (batch, frames)) + adapters.temporal_embedding.unsqueeze(2)  # (B, T, N, D)
    x = visual.ln_pre(x).flatten(0, 1)
    tokens = x.shape[1]
    for block, own in zip(visual.transformer.resblocks, adapters.blocks, strict=True):
        xt = x.unflatten(0, (batch, frames)).transpose(1, 2).flatten(0, 1)  # (B*N, T, D)
        y = block.ln_1(xt)
        if adapters.before:
            xt = plain_attention(block, y + own.temporal(y))
        else:
            y = y if own.temporal_in is None else y + own.temporal_in(y)
            xt = own.temporal(plain_attention(block, y))
        x = x + xt.unflatten(0, (batch, tokens)).transpose(1, 2).flatten(0, 1)  # (B*T, N, D)
        y = block.ln_1(x)
        y = y + own.spatial(y) if adapters.before else y
        y = plain_attention(block, y)
        x = x + (y if adapters.before else y + own.spatial(y))
        y = block.ln_2(x)
        x = x + block.mlp(y) + adapters.scale * own.mlp(y)
    return visual.ln_post(x)[:, 0].unflatten(0, (batch, frames)).mean(dim=1)


def plain_texts(clip: Any, tokens: Tensor, positions: Tensor, adapters: Any = None) -> Tensor:
    """A text tower as it reads, over the whole context: (N, L) -> (N, D) before the projection."""
    x = clip.token_embedding(tokens) + positions
    mask = torch.full((tokens.shape[1],) * 2, float("-inf"), device=x.device, dtype=x.dtype).triu_(1)
    for j, block in enumerate(clip.transformer.resblocks):
        x = x if adapters is None else x + adapters.blocks[j](x)
        x = x + plain_attention(block, block.ln_1(x), mask)
        x = x + block.mlp(block.ln_2(x))
    return clip.ln_final(x)[torch.arange(len(x)), tokens.argmax(dim=-1)]


def plain_loss(model: FineCliper, batch: dict[str, Tensor]) -> Tensor:
    """Eqs. 8-11 as they read."""
    clip, own = model.clip, model.adapters
    tokens = F.pad(model.label_tokens, (0, 77 - model.label_tokens.shape[1])).chunk(2)
    positive, negative = (
        F.normalize(plain_texts(clip, ids, clip.positional_embedding, own["text"][name]) @ clip.text_projection)
        for name, ids in zip(("positive", "negative"), tokens, strict=True)
    )
    features = []
    for name in model.modalities:
        if name == "frames":
            features.append(plain_frames(model, own["frames"], batch[name]) @ clip.visual.proj)
        elif name == "caption":
            texts = plain_texts(model.caption_tower.tower.module, batch["captions"], model.caption_tower.positions)
            features.append(texts @ own["proj"][name])
        else:
            features.append(plain_frames(model, own["faces"], batch[name]) @ own["proj"][name])

    def compare(feature: Tensor) -> Tensor:
        feature = F.normalize(feature, dim=-1)
        return feature @ positive.T - feature @ negative.T

    similarities = [compare(feature) for feature in features]
    weights = torch.stack([s.max(dim=-1).values for s in similarities]).softmax(dim=0)  # (M, B)
    fused = sum(w.unsqueeze(-1) * f for w, f in zip(weights, features, strict=True))
    losses = [F.cross_entropy(s / 0.01, batch["labels"], reduction="none") for s in similarities]
    loss = F.cross_entropy(compare(fused) / 0.01, batch["labels"], reduction="none")  # (B,)
    if len(features) > 1:
        loss = loss + sum(w * one for w, one in zip(weights, losses, strict=True))
    return loss.mean()
