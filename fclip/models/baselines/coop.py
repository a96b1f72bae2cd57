"""CoOp and CoCoOp: prompts learned in front of the class names, both towers of CLIP frozen.

Zhou et al., "Learning to prompt for vision-language models", IJCV 2022, and "Conditional prompt learning", CVPR 2022.
Public names of the trainable tensors: `prompt_learner.ctx`, `prompt_learner.meta_net.linear{1,2}.*`, as theirs.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fclip.models.backbone.encode import joint_width, text_tower
from fclip.models.base import ModelOutput, ModelSpec
from fclip.models.baselines.descriptions import set_class_texts
from fclip.models.baselines.frozen import FrozenTowers
from fclip.models.baselines.options import CocoopOptions, CoopOptions
from fclip.models.baselines.prompt_learner import PromptLearner
from fclip.models.heads import classify, cosine_logits
from fclip.models.recipes import PAPER, Recipe
from fclip.registry import register


class Coop(FrozenTowers):
    """CoOp (Zhou et al., IJCV 2022): learned context, class name, full stop; both towers frozen; CLIP's scale."""

    def __init__(self, spec: ModelSpec, **prompt: Any) -> None:
        super().__init__(spec)
        texts = set_class_texts(self, "class-name")
        self.prompt_learner = PromptLearner(self.clip, self.tokenizer, texts, ending=".", **prompt)
        self.open_classes = not prompt.get("class_specific")

    def text_features(self, video: Tensor) -> Tensor:
        """Text features (C, E), or (B, C, E) where they depend on the video (B, E); not normalised."""
        return self.prompt_learner(self.clip)

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        video = self.read_features(batch).mean(dim=1)  # (B, E)
        logits = cosine_logits(video, self.text_features(video), self.clip.logit_scale.exp())
        return classify(logits, video, batch.get("labels"))


@register(
    CoopOptions,
    recipes={
        PAPER: Recipe(lr=2e-3, epochs=50, batch_size=32, weight_decay=5e-4),
        "tiny": Recipe("adamw", lr=3e-3, epochs=50, batch_size=8, weight_decay=5e-4),
    },
)
def coop(spec: ModelSpec) -> Coop:
    """CoOp on the mean frame feature."""
    options: CoopOptions = spec.options
    return Coop(
        spec,
        context=options.context,
        class_specific=options.class_specific,
        position=options.position,
        init=options.init,
    )


class MetaNet(nn.Module):
    """CoCoOp's net from the normalised image feature (B, E) to a shift of every context vector (B, W)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width_in, width_in // 16)
        self.linear2 = nn.Linear(width_in // 16, width_out)

    def forward(self, video: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(F.normalize(video, dim=-1))))


class Cocoop(Coop):
    """CoCoOp (Zhou et al., CVPR 2022): CoOp whose context is shifted by a small net of the image feature."""

    def __init__(self, spec: ModelSpec, **prompt: Any) -> None:
        super().__init__(spec, **prompt)
        self.meta_net = MetaNet(joint_width(self.clip), text_tower(self.clip).width)

    def public_name(self, name: str) -> str:
        return f"prompt_learner.{name}" if name.startswith("meta_net.") else name

    def text_features(self, video: Tensor) -> Tensor:
        return self.prompt_learner(self.clip, self.meta_net(video))


@register(
    CocoopOptions,
    recipes={
        PAPER: Recipe(lr=2e-3, epochs=10, batch_size=1, weight_decay=5e-4),
        "tiny": Recipe("adamw", lr=3e-2, epochs=10, batch_size=8, weight_decay=5e-4),
    },
)
def cocoop(spec: ModelSpec) -> Cocoop:
    """CoCoOp on the mean frame feature."""
    return Cocoop(spec, context=spec.options.context, init=spec.options.init)
