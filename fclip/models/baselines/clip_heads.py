"""Baselines of the DFER-CLIP paper on CLIP: zero-shot, linear probe and full fine-tuning.

All but `finetune` keep both towers frozen and can train on cached frame features (see `frozen.py`). CoOp, CoCoOp and
EmoCLIP have modules of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fclip.errors import FclipError
from fclip.models.backbone.encode import encode_frames, encode_text, joint_width
from fclip.models.base import ExpressionModel, ModelOutput, ModelSpec
from fclip.models.baselines.descriptions import set_class_texts
from fclip.models.baselines.frozen import FrozenTowers
from fclip.models.baselines.options import FinetuneOptions, LinearProbeOptions, ZeroshotOptions
from fclip.models.baselines.temporal import TemporalTransformer
from fclip.models.heads import classify, cosine_logits, linear_logits
from fclip.models.recipes import PAPER, Recipe
from fclip.registry import register

HEAD_LR = 1000.0  # fine-tuning: learning rate of the new layers over that of the image tower, as in DFER-CLIP


class LinearProbe(FrozenTowers):
    """Mean frame feature, layer-normalised without weights, into one linear layer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.classifier = nn.Linear(joint_width(self.clip), len(self.classes))

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        video = self.read_features(batch).mean(dim=1)  # (B, E)
        return classify(linear_logits(video, self.classifier, normalize=True), video, batch.get("labels"))


@register(
    LinearProbeOptions,
    recipes={
        PAPER: Recipe(lr=1e-2, epochs=50, batch_size=48),
        "tiny": Recipe("adamw", lr=1e-2, epochs=50, batch_size=8),
    },
)
def linear_probe(spec: ModelSpec) -> LinearProbe:
    """A linear classifier on the mean of frozen CLIP frame features."""
    return LinearProbe(spec)


class Finetune(ExpressionModel):
    """The whole image tower trained with a linear classifier, without or with a temporal transformer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        options: FinetuneOptions = spec.options
        self.image_encoder = self.clip.visual.requires_grad_(True)
        width = joint_width(self.clip)
        del self.clip  # no text side
        layers = options.temporal_layers
        self.temporal_net = TemporalTransformer(width, spec.frames + 1, layers) if options.temporal else None
        self.classifier = nn.Linear(width, len(self.classes))

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        frames = batch["frames"]
        features = encode_frames(self.image_encoder, frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, T, E)
        video = features.mean(dim=1) if self.temporal_net is None else self.temporal_net(features)
        return classify(linear_logits(video, self.classifier, normalize=True), video, batch.get("labels"))

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Image tower at `lr`, the new layers at 1000 lr; weight decay on everything, as in DFER-CLIP."""
        tower = list(self.image_encoder.parameters())
        new = [p for name, p in self.named_parameters() if not name.startswith("image_encoder.")]
        return [
            {"params": tower, "lr": lr, "weight_decay": weight_decay},
            {"params": new, "lr": lr * HEAD_LR, "weight_decay": weight_decay},
        ]


# as DFER-CLIP, with which it is compared
_TUNED = Recipe(lr=1e-5, epochs=50, batch_size=48, schedule="multistep", milestones=(30, 40), augment="full")


@register(FinetuneOptions, needs_vit=True, recipes={PAPER: _TUNED})
def finetune(spec: ModelSpec) -> Finetune:
    """Full fine-tuning of CLIP's image tower as a classifier; `temporal=True` adds the temporal transformer."""
    return Finetune(spec)


class Zeroshot(FrozenTowers):
    """Plain CLIP: cosine of the mean frame feature and each class's text, times CLIP's scale. Nothing to train."""

    open_classes = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        texts = set_class_texts(self, spec.options.text_mode, spec.options.descriptions)
        with torch.no_grad():
            self.register_buffer("texts", encode_text(self.clip, self.tokenizer(texts)), persistent=False)

    texts: Tensor

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        video = self.read_features(batch).mean(dim=1)  # (B, E)
        return classify(cosine_logits(video, self.texts, self.clip.logit_scale.exp()), video, batch.get("labels"))

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Raises FclipError: there is nothing to train."""
        test = f"fclip zeroshot --test DATASET --variant {self.variant}"
        raise FclipError(f"variant {self.variant} has no trainable parameter; test it as it is: {test}")


@register(ZeroshotOptions, trains=False, recipes={})
def zeroshot_clip(spec: ModelSpec) -> Zeroshot:
    """CLIP without training, "an expression of {class}"."""
    return Zeroshot(spec)


@register(ZeroshotOptions, trains=False, recipes={}, clip_weights="FaRL")
def zeroshot_farl(spec: ModelSpec) -> Zeroshot:
    """The same with FaRL's weights (Zheng et al., CVPR 2022), CLIP ViT-B/16 pre-trained on faces."""
    return Zeroshot(spec)
