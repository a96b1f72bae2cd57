"""DFER-CLIP (Zhao & Patras, BMVC 2023, arXiv 2308.13382): tuned image tower, temporal transformer, learned prompts.

Public names of the trainable tensors: `image_encoder.*` (CLIP's visual names), `temporal_net.*`, `prompt_learner.ctx`.
An image tower that is no vision transformer (ResNet, ConvNeXt) stays frozen, batch statistics and all. The text tower
is frozen CLIP, so `clip_sha256` of this variant covers the text side alone (see `text_sha256`).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from torch import Tensor

from fclip.models.backbone.building import tower_refusal
from fclip.models.backbone.encode import encode_frames, joint_width
from fclip.models.base import ExpressionModel, ModelOutput, ModelSpec, Preprocess
from fclip.models.baselines.descriptions import set_class_texts
from fclip.models.baselines.options import DferClipOptions
from fclip.models.baselines.prompt_learner import PromptLearner
from fclip.models.baselines.temporal import TemporalTransformer
from fclip.models.heads import classify, cosine_logits
from fclip.models.recipes import PAPER, Recipe
from fclip.models.weights import weights_sha256
from fclip.registry import register

logger = logging.getLogger(__name__)

TAU = 0.01  # temperature of the cosine, a constant; CLIP's logit_scale is not used
TEMPORAL_LR, PROMPT_LR = 1000.0, 100.0  # times the image tower's 1e-5: 1e-2 and 1e-3


class DferClip(ExpressionModel):
    """Frames -> image tower -> temporal transformer; prompts -> text tower; logits = cosine / 0.01, in float32."""

    def __init__(self, spec: ModelSpec) -> None:
        options: DferClipOptions = spec.options
        clip = spec.clip
        unscaled = options.normalize == "none"
        mean, std = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)) if unscaled else (clip.mean, clip.std)
        super().__init__(spec, preprocess=Preprocess(clip.image_size, mean, std, options.resize))
        reason = tower_refusal(self.clip.visual)
        self.image_encoder = self.clip.visual.requires_grad_(not reason)
        del self.clip.visual  # it is this model's own now, under its public name
        if reason:  # it stays as it is, and a checkpoint, which does not hold it, needs it unchanged
            logger.warning("dfer-clip: the image tower of %s is not trained: %s", clip.name, reason)
        else:
            self.clip_sha256 = text_sha256(self.clip.state_dict())
        texts = set_class_texts(self, options.text_mode, options.descriptions)
        self.prompt_learner = PromptLearner(
            self.clip, self.tokenizer, texts, options.context, options.class_specific, options.position
        )
        self.open_classes = not options.class_specific
        width = joint_width(self.clip)
        layers = options.temporal_layers
        self.temporal_net = TemporalTransformer(width, spec.frames + 1, layers) if layers else None

    def frame_features(self, frames: Tensor) -> Tensor:
        """Per-frame image features, not normalised: (B, T, 3, H, W) -> (B, T, E)."""
        return encode_frames(self.image_encoder, frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def video_features(self, features: Tensor) -> Tensor:
        """Frame features (B, T, E) -> (B, E): the temporal transformer's class token, or their mean without it."""
        return features.mean(dim=1) if self.temporal_net is None else self.temporal_net(features)

    def text_features(self) -> Tensor:
        """Features of the learned prompts, not normalised (C, E)."""
        return self.prompt_learner(self.clip)

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        video = self.video_features(self.frame_features(batch["frames"]))
        logits = cosine_logits(video, self.text_features(), 1 / TAU)
        return classify(logits, video, batch.get("labels"))

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Three groups: image tower at `lr`, temporal transformer at 1000 lr, prompts at 100 lr; decay on all."""
        parts = ((self.image_encoder, 1.0), (self.temporal_net, TEMPORAL_LR), (self.prompt_learner, PROMPT_LR))
        return [
            {"params": parameters, "lr": lr * factor, "weight_decay": weight_decay}
            for part, factor in parts
            if part is not None and (parameters := [p for p in part.parameters() if p.requires_grad])
        ]


def text_sha256(state: dict[str, Tensor]) -> str:
    """SHA-256 of the text side of a CLIP state dict: what a DFER-CLIP checkpoint does not hold and needs unchanged."""
    return weights_sha256({name: tensor.float() for name, tensor in state.items() if not name.startswith("visual.")})


_PAPER = Recipe(lr=1e-5, epochs=50, batch_size=48, schedule="multistep", milestones=(30, 40), augment="full")
_TINY = replace(_PAPER, lr=1e-4, batch_size=8, augment="crop-flip")


@register(DferClipOptions, recipes={PAPER: _PAPER, "tiny": _TINY})
def dfer_clip(spec: ModelSpec) -> DferClip:
    """DFER-CLIP; 89,988,352 trainable parameters for 7 classes on ViT-B/32 with 16 frames."""
    return DferClip(spec)
