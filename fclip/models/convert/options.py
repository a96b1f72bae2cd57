"""What may be added to what a checkpoint's file says, by kind; apart from the converters, to be read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fclip.config import option


@dataclass(frozen=True)
class ClipOptions:
    """Options of CLIP's weights under OpenAI's names."""

    activation: Literal["quickgelu", "gelu"] = option(
        "quickgelu", "what they were trained with: OpenAI's quickgelu, LAION-2B's and DataComp's gelu"
    )


@dataclass(frozen=True)
class TrainedOptions:
    """Options of a trained model, whose file may tell neither its classes nor where its CLIP came from."""

    classes: tuple[str, ...] = option((), "class names in order, where the file does not tell them")
    clip_weights: str | None = option(None, "tag or file of the weights of the CLIP that SRC was trained on")


@dataclass(frozen=True)
class PositionOptions(TrainedOptions):
    """Options of learned contexts, whose file does not tell where among them the text stands."""

    position: Literal["end", "middle", "front"] | None = option(
        None, "where the text stands, seen from the learned context; released DFER-CLIP files: end"
    )


@dataclass(frozen=True)
class PromptOptions(PositionOptions):
    """Options of a learned prompt, whose file does not tell the CLIP that it was learned on."""

    clip: str | None = option(None, "CLIP model that SRC was trained on [its paper's]")
