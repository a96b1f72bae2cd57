"""The one way to make a model: `create_model(variant)`. A variant is a function ModelSpec -> ExpressionModel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from fclip.errors import UsageError
from fclip.models.backbone.building import adapter_refusal
from fclip.models.backbone.clip import NO_CLIP, clip_config, load_clip
from fclip.models.backbone.tokenizer import check_fits
from fclip.models.base import ExpressionModel, ModelSpec
from fclip.records import check_class_names
from fclip.registry import VARIANTS

FROZEN_ONLY = "linear-probe, signals-probe, zeroshot-clip, coop, cocoop, emoclip and dfer-clip read its frame features"


def create_model(
    variant: str,
    clip: str = "ViT-B-16",
    classes: Sequence[str] = (),
    frames: int = 16,
    clip_weights: str | Path | None = None,
    longclip_weights: str | Path | None = None,
    activation: str | None = None,
    **options: Any,
) -> ExpressionModel:
    """Build a model: the one constructor of all variants, untrained (adapters at zero) on frozen CLIP weights.

    `clip`: tiny, ViT-B-16, ViT-B-32, ViT-L-14 or another open_clip model; `classes`: class names in
    the order of the outputs; `frames`: T; `clip_weights`, `activation`: see `load_clip`; `options`: the variant's own
    switches. Raises UsageError for an unknown variant, CLIP model, option or option value, and for class names that
    cannot tell classes apart or whose texts are longer than the text tower's context.
    """
    build = VARIANTS.find(variant)
    names = check_class_names(classes, error=UsageError)
    if len(names) < 2:
        raise UsageError(f"classes must be two or more different names, got {list(names)}")
    if frames < 1:
        raise UsageError(f"frames must be at least 1, got {frames}")
    values = VARIANTS.make_options(variant, options)
    if clip_weights is None and clip != "tiny":
        clip_weights = getattr(build, "clip_weights", None)
    if getattr(build, "needs_vit", False) and (reason := adapter_refusal(clip_config(clip))):
        raise UsageError(f"variant {variant} works inside a vision transformer; of {clip}: {reason}; {FROZEN_ONLY}")
    loaded = load_clip(clip, clip_weights, activation=activation) if getattr(build, "needs_clip", True) else NO_CLIP
    model = cast(ExpressionModel, build(ModelSpec(variant, loaded, names, frames, values, longclip_weights)))
    for text in (text for texts in model.prompts.values() for text in texts):
        check_fits(model.tokenizer, text)  # a tokenizer cuts it without a word
    return model
