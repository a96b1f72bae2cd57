"""EmoCLIP (Foteinopoulou & Patras, FG 2024): clips and captions contrasted, classes chosen by their texts.

Public names of the trainable tensors: `temporal.*` and `logit_scale`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fclip.errors import FclipError
from fclip.models.backbone.encode import encode_text, joint_width, text_tower
from fclip.models.base import FrozenEncoder, ModelOutput, ModelSpec
from fclip.models.baselines.descriptions import set_class_texts
from fclip.models.baselines.frozen import FrozenTowers
from fclip.models.baselines.options import EmoclipOptions
from fclip.models.baselines.temporal import TemporalTransformer
from fclip.models.heads import classify, contrastive_chance, contrastive_loss, cosine_logits, same_text
from fclip.models.recipes import PAPER, Recipe
from fclip.registry import register


class Emoclip(FrozenTowers):
    """EmoCLIP (FG 2024): frozen towers, a temporal transformer and a scale, trained by contrast with texts.

    Classes are chosen by their texts, so that a model trained on captions is tested on any classes.
    """

    open_classes = True
    texts: Tensor
    positions = 1024  # the released code's table; clips may be as long as this

    def __init__(self, spec: ModelSpec) -> None:
        options: EmoclipOptions = spec.options
        modalities = ("frames", "caption") if options.objective == "captions" else ("frames",)
        super().__init__(spec, modalities)
        self.caption_context = text_tower(self.clip).context
        self.temporal = TemporalTransformer(
            joint_width(self.clip),
            self.positions,
            options.temporal_layers,
            head_width=options.head_width,
            mlp_width=options.mlp_width,
        )
        self.logit_scale = nn.Parameter(self.clip.logit_scale.detach().clone())
        texts = set_class_texts(self, options.text_mode, options.descriptions)
        with torch.no_grad():
            self.register_buffer("texts", encode_text(self.clip, self.tokenizer(texts)), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        video = self.temporal(self.read_features(batch))  # (B, E)
        output = classify(cosine_logits(video, self.texts, self.logit_scale.exp()), video, None)
        pairs = self._pairs(batch)
        if pairs is not None:
            texts, groups, given = pairs
            output.loss = contrastive_loss(video[given], texts[given], self.logit_scale.exp(), groups[given])
            output.chance = contrastive_chance(groups[given])
        return output

    def frozen_encoders(self) -> dict[str, FrozenEncoder]:
        """CLIP's image tower, and its text tower with the projection where captions are the objective."""
        facts = {"clip": self.clip_name, "sha256": self.clip_sha256, "activation": self.clip_activation}
        facts["tower"] = "clip, projected"
        captions = {"captions": FrozenEncoder(self.caption_features, facts)}
        return super().frozen_encoders() | (captions if "caption" in self.modalities else {})

    @torch.no_grad()
    def caption_features(self, tokens: Tensor) -> Tensor:
        """Caption ids (B, L), cut to CLIP's context, -> text features (B, E), not normalised: what a cache may keep."""
        return encode_text(self.clip, cut_tokens(tokens, text_tower(self.clip).context))

    def _pairs(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor] | None:
        """Each clip's text feature (B, E), the group of equal texts (B,), and which clips have a text (B,).

        A row of zeros is a clip without a caption. None if the batch is only to be classified.
        """
        if self.options["objective"] == "labels":
            labels = batch.get("labels")
            return None if labels is None else (self.texts[labels], labels, torch.ones_like(labels, dtype=torch.bool))
        given = batch.get("caption_features", batch.get("captions"))
        if given is None and self.training:
            raise FclipError("emoclip trains on captions, and the batch has none; pack captions, or objective=labels")
        if given is None:
            return None
        texts = given if "caption_features" in batch else self.caption_features(given)
        return texts, same_text(given), given.any(dim=1)


def cut_tokens(tokens: Tensor, length: int) -> Tensor:
    """Token ids (B, L) cut to `length`, a cut text keeping its end token, as the tokenizer cuts."""
    if tokens.shape[1] <= length:
        return tokens
    long = tokens.argmax(dim=1) >= length
    cut = tokens[:, :length].clone()
    cut[long, -1] = tokens.amax(dim=1)[long]
    return cut


@register(
    EmoclipOptions,
    recipes={
        PAPER: Recipe(
            lr=1e-3, epochs=60, batch_size=64, weight_decay=5e-4, schedule="multistep", milestones=(15, 35, 50)
        )
    },
)
def emoclip(spec: ModelSpec) -> Emoclip:
    """EmoCLIP on frozen CLIP."""
    return Emoclip(spec)
