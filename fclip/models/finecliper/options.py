"""FineCLIPER's options: the switches of the paper's ablations; the defaults are the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fclip.config import option


@dataclass(frozen=True)
class Options:
    """Switches of base, star, dagger and star-dagger."""

    text_adapters: Literal["none", "positive", "both"] = option("both", "label texts that get adapters", output=True)
    text_adapter_position: Literal["before", "after"] = option("before", "of a block's attention", output=True)
    negative_word: str = option("no", "word of the negative label texts", output=True)
    video_adapters: bool = option(True, "adapters for the frames; else plain CLIP", output=True)
    scale: float = option(0.5, "s of Eq. 7", output=True)
    frames_level: bool | None = option(
        None, "False leaves the frames out (one level only: less the others)", output=True
    )
    parsing: bool | None = option(None, "False leaves face parsing out", output=True)
    landmarks: bool | None = option(None, "False leaves the landmarks out", output=True)
    fusion_normalize: bool = option(False, "normalise the fused features", output=True)
    fusion_detach_weights: bool = option(False, "no gradient through the fusion weights", output=True)
    fusion_weights: list[float] | None = option(
        None, "fixed fusion weights, in the order of the model's modalities", output=True
    )
    objective: Literal["labels", "captions"] = option(
        "labels", "what is learned: labels, or clips against captions, without labels", output=True
    )
    tau: float = option(0.01, "temperature of the cosine", output=True)
    frame_adapter_ratio: int = option(4, "tower width / adapter width of the frames", output=True)
    face_adapter_ratio: int = option(8, "the same of parsing and landmarks", output=True)
    text_adapter_ratio: int = option(4, "the same of the texts", output=True)
    checkpointing: bool = option(False, "recompute blocks in the backward pass: less memory", output=True)
