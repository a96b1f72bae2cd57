"""What every model of fclip is: what it is built from, the batch it takes, the output, the trainable weights.

Shape letters: B clips, T frames, C classes, E joint width, M modalities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from fclip.errors import FclipError
from fclip.models.backbone.clip import CLIP_MEAN, CLIP_STD, LoadedClip
from fclip.models.weights import check_state
from fclip.schema import JsonObject

MODALITIES = ("frames", "parsing", "landmarks", "caption")  # the order of weights and of fusion everywhere

TrainingBatches = Iterable[tuple[dict[str, Tensor], list[dict[str, Any]]]]  # model batch with labels, json of each clip


@dataclass(frozen=True)
class Preprocess:
    """How frames become input: size, (x - mean) / std on [0, 1] pixels, squash or crop (short side bicubic, centre)."""

    image_size: int = 224
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    resize: str = "squash"


@dataclass(frozen=True)
class ModelSpec:
    """What `create_model` hands to a variant's function: everything that the model is built from.

    `options` is an instance of the variant's own options dataclass (plain JSON values only).
    """

    variant: str
    clip: LoadedClip
    classes: tuple[str, ...]
    frames: int
    options: Any
    longclip_weights: str | Path | None = None


@dataclass
class ModelOutput:
    """What `forward` returns.

    logits (B, C) of the fused representation; modality_logits name -> (B, C); weights (B, M) in the order of
    `modalities`, those that this batch had; features by name (joint width E); loss, or None without labels; chance:
    what the loss would be if every answer were given the same probability, None where that is not known.
    """

    logits: Tensor
    modality_logits: dict[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None
    features: dict[str, Tensor] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    loss: Tensor | None = None
    chance: float | None = None


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder that training never changes: `encode` gives its features; `facts` are what they depend on beside the
    input."""

    encode: Callable[[Tensor], Tensor]
    facts: dict[str, Any]


class ExpressionModel(nn.Module, ABC):
    """Base of all variants: names, preprocessing, and reading and writing the trainable weights.

    `forward(batch)` takes "frames" (B, T, 3, H, W) normalised, optional "parsing" and "landmarks" of the same
    shape, optional "signals" (B, T, S), "captions" token ids (B, L) or "caption_features", "labels" (B,), and returns
    a ModelOutput. The public name of a trainable tensor is its module path (`public_name` may shorten it).
    `modalities` is what it reads of a clip; `explainable` says that `fclip report --explain` can show why it decides;
    `open_classes` that its weights do not belong to the classes of training, so that it can be tested on others;
    `fits_itself` that it is trained by `fit`, not by gradients; `signal_names` are those of the signals that it reads;
    `caption_context` is how many tokens of a caption.
    """

    explainable = False
    open_classes = False
    fits_itself = False
    signal_names: tuple[str, ...] = ()
    caption_context = 248  # Long-CLIP's

    def __init__(
        self,
        spec: ModelSpec,
        modalities: tuple[str, ...] = ("frames",),
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.variant = spec.variant
        self.classes = spec.classes
        self.frames = spec.frames
        self.modalities = modalities
        self.clip_name = spec.clip.name
        self.clip_sha256 = spec.clip.sha256
        self.clip_weights = spec.clip.weights
        self.clip_activation = spec.clip.activation
        self.options: dict[str, Any] = asdict(spec.options)
        resize = getattr(spec.options, "resize", Preprocess.resize)
        self.preprocess = preprocess or Preprocess(spec.clip.image_size, spec.clip.mean, spec.clip.std, resize)
        self.tokenizer = spec.clip.tokenizer
        self.prompts: dict[str, list[str]] = {}
        self.longclip_weights: str | None = None
        self.longclip_sha256: str | None = None
        self.clip = spec.clip.model

    def __call__(self, batch: dict[str, Tensor] | Tensor) -> ModelOutput:
        """`forward`; a plain tensor (B, T, 3, H, W) is taken as the frames."""
        output: ModelOutput = super().__call__({"frames": batch} if isinstance(batch, Tensor) else batch)
        return output

    def train(self, mode: bool = True) -> Self:
        """As nn.Module.train, but frozen towers stay in eval mode: no dropout, no new statistics of batches."""
        super().train(mode)
        for child in self.children():
            if {parameter.requires_grad for parameter in child.parameters()} == {False}:
                child.eval()
        return self

    def __repr__(self) -> str:
        trained = sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
        on = f" on {self.clip_name}" if self.clip_name != "none" else ""
        return f"{self.variant}{on}: {len(self.classes)} classes, {self.frames} frames, {trained:,} trained parameters"

    @abstractmethod
    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        """See the class."""

    def frozen_encoders(self) -> dict[str, FrozenEncoder]:
        """The encoders whose results can be cached; a batch may bring these in place of what was encoded.

        "frames": frames (B, T, 3, H, W) -> per-frame image features (B, T, E), not normalised, `frame_features` of a
        batch; "captions": token ids (B, L) -> features (B, D) in the form that `forward` takes, `caption_features`.
        """
        return {}

    def fit(self, batches: TrainingBatches, seed: int) -> JsonObject:
        """Train on all clips at once, where `fits_itself`; returns facts for the checkpoint, "loss" among them."""
        raise NotImplementedError(f"variant {self.variant} is trained by gradients")

    def public_name(self, name: str) -> str:
        """The name in checkpoints of the parameter whose module path is `name`."""
        return name

    def _trainable(self) -> dict[str, nn.Parameter]:
        return {self.public_name(name): p for name, p in self.named_parameters() if p.requires_grad}

    def trainable_state(self) -> dict[str, Tensor]:
        """The trainable tensors by their public names, detached, on their device."""
        return {name: p.detach() for name, p in self._trainable().items()}

    @torch.no_grad()
    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        """Copy `state` into the trainable tensors; FclipError names what is missing, unexpected or misshapen."""
        own = self.trainable_state()
        check_state(state, own, f"checkpoint of variant {self.variant}")
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimizer groups: weight decay, but not on biases and norms. FclipError if nothing is trainable."""
        trainable = list(self._trainable().values())
        if not trainable:
            raise FclipError(f"variant {self.variant} with these options has no trainable parameter")
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]
