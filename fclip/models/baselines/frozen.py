"""The base of the variants that never change CLIP's image tower, so that its frame features can be cached."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor

from fclip.models.backbone.encode import encode_frames
from fclip.models.base import ExpressionModel, FrozenEncoder


class FrozenTowers(ExpressionModel):
    """Base of the variants that read CLIP's frame features and never change the image tower."""

    def frozen_encoders(self) -> dict[str, FrozenEncoder]:
        """CLIP's image tower on these frames; the same for all variants of this base, which so share a cache."""
        facts = {
            "clip": self.clip_name,
            "clip_sha256": self.clip_sha256,
            "activation": self.clip_activation,
            "frames": self.frames,
            "preprocess": asdict(self.preprocess),
        }
        return {"frames": FrozenEncoder(self.frame_features, facts)}

    @torch.no_grad()
    def frame_features(self, frames: Tensor) -> Tensor:
        """Per-frame image features, not normalised: (B, T, 3, H, W) -> (B, T, E)."""
        return encode_frames(self.clip.visual, frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def read_features(self, batch: dict[str, Tensor]) -> Tensor:
        """The cached frame features of the batch (B, T, E), or those of its frames."""
        cached = batch.get("frame_features")
        return self.frame_features(batch["frames"]) if cached is None else cached
