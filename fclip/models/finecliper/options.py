"""FineCLIPER's options: the switches of the paper's ablations; the defaults are the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fclip.config import option
from fclip.errors import UsageError
from fclip.models.options import FrameOptions

TEXTS = {"none": (), "positive": ("positive",), "both": ("positive", "negative")}


@dataclass(frozen=True)
class Options(FrameOptions):
    """Switches of base, star, dagger and star-dagger."""

    text_adapters: Literal["none", "positive", "both"] = option(
        "both", "label texts that get adapters, of those that are used", output=True
    )
    text_adapter_position: Literal["before", "after"] = option("before", "of a block's attention", output=True)
    texts: Literal["positive", "both"] = option(
        "both", "label texts; without the negative ones sim = cos(c_P, m) (Table 6)", output=True
    )
    negative_word: str = option("no", "word of the negative label texts", output=True)
    frame_adapter_position: Literal["after", "before"] = option(
        "after", "of a block's attention, in frames, parsing and landmarks; Eqs. 5-6 as printed: before", output=True
    )
    temporal_adapters: Literal["after", "both"] = option(
        "after", "adapters of the attention over time: after it, or before it, too (AIM's num_tadapter=2)", output=True
    )
    video_adapters: bool = option(True, "adapters for the frames; else plain CLIP", output=True)
    scale: float = option(0.5, "s of Eq. 7", output=True)
    frames_level: bool | None = option(
        None, "False leaves the frames out (one level only: less the others)", output=True
    )
    parsing: bool | None = option(None, "False leaves face parsing out", output=True)
    landmarks: bool | None = option(None, "False leaves the landmarks out", output=True)
    signals: Literal["none", "mesh", "landmarks"] = option(
        "none",
        "expression signals as a further modality, which the paper has not: those of the back end mediapipe (mesh), or "
        "of back ends that find 68 landmarks",
        output=True,
    )
    fusion_normalize: bool = option(False, "normalise the fused features", output=True)
    fusion_detach_weights: bool = option(False, "no gradient through the fusion weights", output=True)
    fusion_weights: list[float] | str | None = option(
        None,
        "fixed fusion weights: a number for each of the model's modalities in order, or video=0.3 and the rest evenly",
        output=True,
    )
    single_loss: Literal["once", "printed"] = option(
        "once", "Eq. 11 of one modality: its cross-entropy once, or twice as the formula reads", output=True
    )
    objective: Literal["labels", "captions"] = option(
        "labels", "what is learned: labels, or clips against captions, without labels", output=True
    )
    tau: float = option(0.01, "temperature of the cosine", output=True)
    frame_adapter_ratio: int = option(4, "tower width / adapter width of the frames", output=True)
    face_adapter_ratio: int = option(8, "the same of parsing and landmarks", output=True)
    text_adapter_ratio: int = option(4, "the same of the texts", output=True)
    checkpointing: bool = option(False, "recompute blocks in the backward pass: less memory", output=True)

    @property
    def adapted_texts(self) -> tuple[str, ...]:
        """The label texts that get adapters: of those that are used."""
        return tuple(name for name in TEXTS[self.text_adapters] if name in TEXTS[self.texts])

    def fixed_weights(self, modalities: tuple[str, ...]) -> list[float] | None:
        """A fixed weight for each of a model's modalities, None for adaptive ones; UsageError where they do not fit.

        `video=0.3` (or `frames=0.3`, `caption=0.3` ...) gives the others equal shares of what is left (Fig. 8).
        """
        given = self.fusion_weights
        if isinstance(given, str):
            given = _one_fixed(given, modalities)
        if given is not None and (len(given) != len(modalities) or min(given) < 0 or sum(given) <= 0):
            names = ", ".join(modalities)
            raise UsageError(f"fusion_weights must be {len(modalities)} numbers >= 0, not all 0, for {names}")
        return given


def _one_fixed(given: str, modalities: tuple[str, ...]) -> list[float]:
    """The weights of all modalities where that of one is fixed, `given` as modality=share."""
    name, _, share = given.partition("=")
    name = "frames" if name == "video" else name
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if name not in modalities or len(modalities) < 2 or not 0 <= value <= 1:
        known = ", ".join(modalities)
        raise UsageError(
            f"fusion_weights={given}: write MODALITY=SHARE, of several modalities ({known}), "
            "with a share between 0 and 1, such as video=0.3"
        )
    return [value if each == name else (1 - value) / (len(modalities) - 1) for each in modalities]
