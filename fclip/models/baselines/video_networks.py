"""Video networks that both papers compare with, from torchvision: r3d-18, r2plus1d-18, mc3-18, s3d, resnet18-*.

They are trained on frames alone and have no text side; all their weights and batch statistics are in the checkpoint.
No part of CLIP is in them, and none is loaded. Tran et al., CVPR 2018; Xie et al., ECCV 2018.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fclip.catalogue import answers
from fclip.errors import FclipError, UsageError
from fclip.models.base import ExpressionModel, ModelOutput, ModelSpec, Preprocess
from fclip.models.baselines.options import VideoOptions
from fclip.models.baselines.temporal import TemporalTransformer
from fclip.models.heads import classify, linear_logits
from fclip.models.recipes import PAPER, Recipe
from fclip.models.weights import check_state
from fclip.registry import register

logger = logging.getLogger(__name__)

KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))  # mean and std of torchvision's video weights
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

RECIPES = {PAPER: Recipe(lr=1e-2, epochs=50)}


class VideoNetwork(ExpressionModel):
    """A network (B, T, 3, H, W) -> features (B, D) and a linear classifier."""

    def __init__(self, spec: ModelSpec, network: nn.Module, width: int, scaling: tuple[Any, Any]) -> None:
        super().__init__(spec, preprocess=Preprocess(spec.options.image_size, *scaling))
        self.network = network
        self.classifier = nn.Linear(width, len(self.classes))

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        video = self.network(batch["frames"])  # (B, D)
        return classify(linear_logits(video, self.classifier), video, batch.get("labels"))

    def trainable_state(self) -> dict[str, Tensor]:
        """All weights, and the running statistics of batch normalisation, which training changes as well."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        check_state(state, self.state_dict(), f"checkpoint of variant {self.variant}")
        self.load_state_dict(state)


class FramesToVolume(nn.Module):
    """A torchvision video network without its classifier, on clips with time first: (B, T, 3, H, W) -> (B, D)."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, frames: Tensor) -> Tensor:
        volume = self.layers(frames.transpose(1, 2))  # (B, D, t, h, w)
        return volume.mean(dim=(2, 3, 4))


class FramesThenTime(nn.Module):
    """ResNet-18 on every frame, then an LSTM or a transformer over time: (B, T, 3, H, W) -> (B, 512)."""

    def __init__(self, backbone: nn.Module, over_time: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.over_time = over_time

    def forward(self, frames: Tensor) -> Tensor:
        features = self.backbone(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, T, 512)
        out = self.over_time(features)
        return out[0].mean(dim=1) if isinstance(out, tuple) else out  # an LSTM returns (outputs, state)


def _torchvision(builder: str, options: VideoOptions) -> Any:
    """Build a torchvision network; its weights, if asked for, come through torchvision's own download.

    FclipError where torchvision cannot be loaded, or its weights are not there and the server does not answer.
    """
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise FclipError(f"torchvision cannot be loaded ({error}); install the build that fits torch") from None
    builders = models.video if hasattr(models.video, builder) else models
    weights = models.get_model_weights(builder).DEFAULT if options.weights == "pretrained" else None
    if weights:
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        if not place.is_file() and not answers(weights.url):
            raise FclipError(
                f"{builder}: {place.name} ({weights.meta['_file_size']:.0f} MB) is not in {place.parent}, and "
                f"{weights.url.split('/')[2]} does not answer; put it there from {weights.url}; without: --weights none"
            )
    return getattr(builders, builder)(weights=weights)


def _volume(spec: ModelSpec, builder: str) -> VideoNetwork:
    network = _torchvision(builder, spec.options)
    if builder == "s3d":
        return VideoNetwork(spec, FramesToVolume(network.features), 1024, KINETICS)
    layers = nn.Sequential(network.stem, network.layer1, network.layer2, network.layer3, network.layer4)
    return VideoNetwork(spec, FramesToVolume(layers), 512, KINETICS)


@register(VideoOptions, needs_clip=False, recipes=RECIPES)
def r3d_18(spec: ModelSpec) -> VideoNetwork:
    """18-layer ResNet of 3D convolutions."""
    return _volume(spec, "r3d_18")


@register(VideoOptions, needs_clip=False, recipes=RECIPES)
def r2plus1d_18(spec: ModelSpec) -> VideoNetwork:
    """18-layer ResNet of (2+1)D convolutions."""
    return _volume(spec, "r2plus1d_18")


@register(VideoOptions, needs_clip=False, recipes=RECIPES)
def mc3_18(spec: ModelSpec) -> VideoNetwork:
    """18-layer ResNet, 3D convolutions in its first stage only."""
    return _volume(spec, "mc3_18")


@register(VideoOptions, needs_clip=False, recipes=RECIPES)
def s3d(spec: ModelSpec) -> VideoNetwork:
    """Separable 3D Inception; it halves the frames three times and their sides five times, so it needs 5 of 32 pixels.

    Raises UsageError for fewer or smaller frames.
    """
    if spec.frames < 5:
        raise UsageError(f"s3d needs at least 5 frames, got {spec.frames} (--frames)")
    if spec.options.image_size < 32:
        raise UsageError(f"s3d needs frames of at least 32 pixels, got image_size={spec.options.image_size} (--set)")
    return _volume(spec, "s3d")


def _resnet18(spec: ModelSpec, over_time: nn.Module) -> VideoNetwork:
    backbone = _torchvision("resnet18", spec.options)
    backbone.fc = nn.Identity()
    return VideoNetwork(spec, FramesThenTime(backbone, over_time), 512, IMAGENET)


@register(VideoOptions, needs_clip=False, recipes=RECIPES)
def resnet18_lstm(spec: ModelSpec) -> VideoNetwork:
    """ResNet-18 per frame and an LSTM over them, mean of its outputs."""
    return _resnet18(spec, nn.LSTM(512, 512, batch_first=True))


@register(VideoOptions, needs_clip=False, recipes=RECIPES)
def resnet18_vit(spec: ModelSpec) -> VideoNetwork:
    """ResNet-18 per frame and a transformer over them, at its class token."""
    return _resnet18(spec, TemporalTransformer(512, spec.frames + 1, depth=2))
