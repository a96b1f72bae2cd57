"""The options of the baselines. They lie apart from the models, so that a command line can be read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fclip.config import option
from fclip.errors import UsageError
from fclip.models.options import FrameOptions

TextMode = Literal["description", "class-name", "a-photo-of", "an-expression-of"]
TextPosition = Literal["end", "middle", "front"]  # where the text stands, seen from the context
_DESCRIPTIONS = "JSON file {class: text} of facial behaviour, or that object [the built-in eleven]"


@dataclass(frozen=True)
class LinearProbeOptions(FrameOptions):
    """Options of linear-probe."""


@dataclass(frozen=True)
class FinetuneOptions(FrameOptions):
    """Options of finetune."""

    temporal: bool = option(False, "DFER-CLIP's temporal transformer over the frames, not their mean", output=True)
    temporal_layers: int = option(1, "its layers", output=True)


@dataclass(frozen=True)
class ZeroshotOptions(FrameOptions):
    """Options of zeroshot-clip and zeroshot-farl."""

    text_mode: TextMode = option("an-expression-of", "the class texts", output=True)
    descriptions: dict | str | None = option(None, _DESCRIPTIONS, output=True)


@dataclass(frozen=True)
class DferClipOptions(FrameOptions):
    """Switches of the paper's Tables 1, 3 and 4, and the released code's preprocessing."""

    context: int = option(8, "learned vectors a prompt; 0 = fixed prompts", output=True)
    class_specific: bool = option(True, "context vectors for each class", output=True)
    position: TextPosition = option("end", "where the text stands, seen from the context", output=True)
    temporal_layers: int = option(1, "layers of the temporal transformer; 0 = mean over frames", output=True)
    text_mode: TextMode = option("description", "the class texts", output=True)
    descriptions: dict | str | None = option(None, _DESCRIPTIONS, output=True)
    normalize: Literal["clip", "none"] = option(
        "clip", "clip = CLIP's mean and std; none = pixels in [0, 1], as the released checkpoints expect", output=True
    )

    def __post_init__(self) -> None:
        for name, low, high in (("context", 0, 32), ("temporal_layers", 0, 12)):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"option {name}={getattr(self, name)}; it must be {low} to {high}")


@dataclass(frozen=True)
class CoopOptions(FrameOptions):
    """Options of coop."""

    context: int = option(16, "learned vectors a prompt", output=True)
    class_specific: bool = option(False, "context vectors for each class", output=True)
    position: TextPosition = option("end", "where the text stands, seen from the context", output=True)
    init: str = option("", "words that a shared context starts from", output=True)

    def __post_init__(self) -> None:
        if not 1 <= self.context <= 64:
            raise UsageError(f"option context={self.context}; it must be 1 to 64")
        if self.init and self.class_specific:
            raise UsageError("option init starts a shared context; leave out class_specific")


@dataclass(frozen=True)
class CocoopOptions(FrameOptions):
    """Options of cocoop."""

    context: int = option(4, "learned vectors a prompt", output=True)
    init: str = option("a photo of a", 'words that they start from; "" = random', output=True)


@dataclass(frozen=True)
class EmoclipOptions(FrameOptions):
    """Options of emoclip; the widths are those of the released code."""

    objective: Literal["captions", "labels"] = option(
        "captions", "contrast with each clip's caption, or with its class's text", output=True
    )
    temporal_layers: int = option(2, "layers of the temporal transformer", output=True)
    head_width: int = option(2048, "its heads' width", output=True)
    mlp_width: int = option(512, "its hidden layers' width", output=True)
    text_mode: TextMode = option("description", "the class texts", output=True)
    descriptions: dict | str | None = option(None, _DESCRIPTIONS, output=True)


@dataclass(frozen=True)
class SignalsOptions:
    """Options of signals and signals-probe."""

    signals: tuple[str, ...] = option((), "names of the signals in order [those of the training clips]", output=True)
    strength: float = option(0.0, "C of the logistic regression; 0 = by cross-validation", output=True)

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise UsageError(f"option strength={self.strength}; it must be 0 or more")


@dataclass(frozen=True)
class VideoOptions:
    """Options of the video networks of torchvision."""

    weights: Literal["none", "pretrained"] = option(
        "none", "none = random start; pretrained = torchvision's (Kinetics-400 or ImageNet), downloaded", output=True
    )
    image_size: int = option(112, "side of the frames, as in the benchmarks of the data sets", output=True)

    def __post_init__(self) -> None:
        if not 16 <= self.image_size <= 512:
            raise UsageError(f"option image_size={self.image_size}; it must be 16 to 512")
