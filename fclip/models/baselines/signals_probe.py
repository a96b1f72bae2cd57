"""Expression signals and a frozen CLIP's frame features into one logistic regression.

The signals say what moves in a face, the image tower what it looks like: on real people each helps the other. The
tower is not trained, so its features are computed once (and cached) and the fit takes seconds.

Shape letters: B clips, T frames, E joint width.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from fclip.models.backbone.encode import joint_width
from fclip.models.base import ModelOutput, ModelSpec
from fclip.models.baselines.frozen import FrozenTowers
from fclip.models.baselines.options import SignalsOptions
from fclip.models.baselines.signals import Signals
from fclip.registry import register


class SignalsProbe(Signals, FrozenTowers):
    """`signals` with the normalised frame features, averaged over the frames with a face, as E further features."""

    def __init__(self, spec: ModelSpec) -> None:
        extra = joint_width(spec.clip.model)
        super().__init__(spec, ("frames", "signals"), None, extra)

    def read_extra(self, batch: dict[str, Tensor]) -> Tensor:
        """The mean frame feature of each clip, (B, E); 0 for a clip without a face."""
        features = functional.normalize(self.read_features(batch).double(), dim=-1)  # (B, T, E)
        face = batch["signals"].any(-1, keepdim=True)  # (B, T, 1)
        return (features * face).sum(1) / face.sum(1).clamp(min=1)

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        output = super().forward(batch)
        return replace(output, modalities=self.modalities, weights=None)  # one classifier of both


@register(SignalsOptions, recipes={})
def signals_probe(spec: ModelSpec) -> SignalsProbe:
    """Statistics of the expression signals and frozen frame features, and logistic regression."""
    return SignalsProbe(spec)
