"""FineCLIPER (Chen et al., ACM MM 2024, arXiv 2407.02157): the model and its four variants.

A frozen CLIP with adapters looks at a clip on three levels: video frames (low), face parsing and landmarks (middle), a
description of the facial movements (high). Each is compared with positive and negative label texts; the similarities
weigh the levels, and the weighted sum is classified.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn

from fclip.errors import FclipError, UsageError
from fclip.files import resource_json
from fclip.models.backbone.clip import weights_source
from fclip.models.backbone.encode import encode_frames, image_tower, text_tower
from fclip.models.backbone.towers import project
from fclip.models.base import MODALITIES, ExpressionModel, FrozenEncoder, ModelOutput, ModelSpec
from fclip.models.finecliper.frames import FrameEncoder
from fclip.models.finecliper.fusion import fuse, fusion_loss
from fclip.models.finecliper.options import TEXTS, Options
from fclip.models.finecliper.signals import SignalEncoder
from fclip.models.finecliper.texts import CaptionTower, TextAdapters, encode_label_texts
from fclip.models.heads import contrastive_chance, contrastive_loss, same_text
from fclip.models.recipes import PAPER, Recipe
from fclip.registry import register

logger = logging.getLogger(__name__)

FACES = ("parsing", "landmarks")  # the middle level: both through one encoder
RECIPES = {PAPER: Recipe(), "tiny": Recipe("adamw", 2e-3, batch_size=8)}


@register(Options, recipes=RECIPES, needs_vit=True)
def base(spec: ModelSpec) -> ExpressionModel:
    """FineCLIPER with the low level only: video frames through adapted CLIP (Eqs. 5-7), PN texts (Eqs. 1-3)."""
    return FineCliper(spec, ("frames",))


@register(Options, recipes=RECIPES, needs_vit=True)
def star(spec: ModelSpec) -> ExpressionModel:
    """FineCLIPER*: low and middle level, frames with face parsing and landmarks through a shared encoder (Sec. 3.3)."""
    return FineCliper(spec, ("frames", "parsing", "landmarks"))


@register(Options, recipes=RECIPES, needs_vit=True)
def dagger(spec: ModelSpec) -> ExpressionModel:
    """FineCLIPER with dagger: low and high level, frames with a refined caption through Long-CLIP's text tower."""
    return FineCliper(spec, ("frames", "caption"))


@register(Options, recipes=RECIPES, needs_vit=True)
def star_dagger(spec: ModelSpec) -> ExpressionModel:
    """FineCLIPER*, dagger: all three levels, fused by their similarity to the label texts (Eqs. 8-11)."""
    return FineCliper(spec, MODALITIES)


class FineCliper(ExpressionModel):
    """The model with any subset of the modalities. All that trains is in `adapters`."""

    label_tokens: Tensor
    explainable = True
    open_classes = True

    def __init__(self, spec: ModelSpec, modalities: tuple[str, ...]) -> None:
        super().__init__(spec, _kept_modalities(spec, modalities))
        self.settings: Options = spec.options
        _check_settings(self.settings, self.modalities)
        self.fixed_weights = self.settings.fixed_weights(self.modalities)
        prompts = label_prompts(spec.classes, self.settings.negative_word)
        self.prompts = {name: prompts[name] for name in TEXTS[self.settings.texts]}
        tokens = self.tokenizer([text for texts in self.prompts.values() for text in texts])  # (P*C, L)
        self.register_buffer("label_tokens", text_tower(self.clip).cut(tokens), persistent=False)
        self.caption_tower = CaptionTower(self.clip, spec.longclip_weights) if "caption" in self.modalities else None
        if self.caption_tower is not None:
            self.caption_context = self.caption_tower.context
        self.longclip_weights = weights_source(spec.longclip_weights)
        self.longclip_sha256 = self.caption_tower.sha256 if self.caption_tower else None
        if "signals" in self.modalities:
            self.signal_names = tuple(resource_json("signal_names.json")[self.settings.signals])
        self.adapters: Any = self._build_adapters()
        self._label_features: dict[tuple[Any, ...], tuple[Tensor, Tensor | None]] = {}  # eval only; `label_features`
        self._reported: set[str] = set()

    def _build_adapters(self) -> nn.ModuleDict:
        s, image, text = self.settings, image_tower(self.clip.visual), text_tower(self.clip)

        def encoder(ratio: int) -> FrameEncoder:
            before, both = s.frame_adapter_position == "before", s.temporal_adapters == "both"
            width, layers = image.width, len(image.blocks)
            return FrameEncoder(width, layers, self.frames, width // ratio, s.scale, s.checkpointing, before, both)

        parts: dict[str, nn.Module] = {}
        if "frames" in self.modalities and s.video_adapters:
            parts["frames"] = encoder(s.frame_adapter_ratio)
        if any(name in self.modalities for name in FACES):
            parts["faces"] = encoder(s.face_adapter_ratio)
        hidden = text.width // s.text_adapter_ratio
        parts["text"] = nn.ModuleDict(
            {name: TextAdapters(text.width, len(text.blocks), hidden) for name in s.adapted_texts}
        )
        start = dict.fromkeys(FACES, image.trainable_projection())
        if self.caption_tower is not None:
            start["caption"] = self.caption_tower.tower.trainable_projection()
        parts["proj"] = nn.ParameterDict(
            {name: nn.Parameter(matrix.clone()) for name, matrix in start.items() if name in self.modalities}
        )
        if "signals" in self.modalities:
            parts["signals"] = SignalEncoder(self.signal_names, image.trainable_projection().shape[1])
        return nn.ModuleDict(parts)

    def public_name(self, name: str) -> str:
        return name.removeprefix("adapters.")

    def trainable_state(self) -> dict[str, Tensor]:
        """As of any model, and the mean and deviation of the signals, which training finds."""
        return super().trainable_state() | {self.public_name(n): b for n, b in self.adapters.named_buffers("adapters")}

    def train(self, mode: bool = True) -> FineCliper:
        """As the base's, and cached label features are dropped."""
        super().train(mode)
        self._label_features = {}
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> FineCliper:  # .to(), .cuda(), .half()
        self._label_features = {}
        super()._apply(fn, recurse)
        return self

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        encoded = self.encode(batch)
        positive, negative = self.label_features()
        names = tuple(encoded)
        features = torch.stack(list(encoded.values()), dim=1)  # (B, M, E)
        s = self.settings
        weights = self.fixed_weights
        fixed = None if weights is None else [weights[self.modalities.index(n)] for n in names]
        with torch.autocast(features.device.type, enabled=False):
            fused = fuse(features, positive, negative, s.tau, fixed, s.fusion_normalize, s.fusion_detach_weights)
            if s.objective == "captions":
                loss, chance = self._caption_loss(encoded, batch)
            else:
                loss = fusion_loss(fused, batch["labels"], s.single_loss) if "labels" in batch else None
                terms = 1 if len(names) == 1 and s.single_loss == "once" else 2  # Eq. 11: of v_mm and of each m
                chance = terms * math.log(len(self.classes))
        return ModelOutput(
            logits=fused.logits,
            modality_logits=dict(zip(names, fused.modality_logits.unbind(1), strict=True)),
            weights=fused.weights,
            features={**dict(zip(names, features.unbind(1), strict=True)), "fused": fused.feature},
            modalities=names,
            loss=loss,
            chance=chance,
        )

    def _caption_loss(self, encoded: dict[str, Tensor], batch: dict[str, Tensor]) -> tuple[Tensor | None, float | None]:
        """Symmetric InfoNCE between v and f at temperature tau, and at chance; None for a batch only classified."""
        if "caption" not in encoded or "frames" not in encoded:
            if self.training:
                raise FclipError("objective captions trains on frames and captions; this batch lacks one of them")
            return None, None
        given = batch.get("caption_features", batch.get("captions"))
        assert given is not None
        groups = same_text(given)
        loss = contrastive_loss(encoded["frames"], encoded["caption"], 1 / self.settings.tau, groups)
        return loss, contrastive_chance(groups)

    def encode(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features (B, E) in float32, not normalised, of each modality that the batch holds.

        A modality of the variant that the batch lacks is left out, with one warning.
        """
        encoded: dict[str, Tensor] = {}
        if "frames" in self.modalities and "frames" in batch:
            encoded["frames"] = self._encode_frames(self._checked(batch, "frames"))
        faces = [name for name in FACES if name in self.modalities and name in batch]
        if faces:
            images = torch.cat([self._checked(batch, name) for name in faces])  # (2*B, T, 3, H, W)
            tokens = self.adapters["faces"](self.clip.visual, images).chunk(len(faces))  # (B, D) each
            for name, token in zip(faces, tokens, strict=True):
                encoded[name] = self._project(token, self.adapters["proj"][name], image_tower(self.clip.visual).bias)
        given = batch.get("caption_features", batch.get("captions"))
        if self.caption_tower is not None and given is not None:
            features = given if "caption_features" in batch else self.caption_features(given)
            matrix, bias = self.adapters["proj"]["caption"], self.caption_tower.tower.bias
            encoded["caption"] = self._project(features, matrix, bias)
        if "signals" in self.modalities and "signals" in batch:
            with torch.autocast(batch["signals"].device.type, enabled=False):
                encoded["signals"] = self.adapters["signals"](batch["signals"])
        self._report_missing(tuple(encoded))
        return encoded

    def label_features(self) -> tuple[Tensor, Tensor | None]:
        """c_P and c_N (C, E) in float32, None without negative texts: computed at each call in training, once per run
        in eval without gradients."""
        reuse = not (self.training or torch.is_grad_enabled())
        device = self.label_tokens.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        key = (precision, *(p._version for p in self.adapters["text"].parameters()))  # changes with every update
        if reuse and key in self._label_features:
            return self._label_features[key]
        before = self.settings.text_adapter_position == "before"
        found = encode_label_texts(self.clip, self.label_tokens, self.adapters["text"], before, tuple(self.prompts))
        positive, *negative = (each.to(self.clip.logit_scale.dtype) for each in found)
        texts = positive, negative[0] if negative else None
        if reuse:
            self._label_features = {key: texts}
        return texts

    def frozen_encoders(self) -> dict[str, FrozenEncoder]:
        """The caption tower before h_F, where the variant reads captions; the rest has adapters, which train."""
        if self.caption_tower is None:
            return {}
        stretched = "clip, positions stretched" if text_tower(self.clip).is_clips else "clip"
        tower = "long-clip" if self.longclip_sha256 else stretched
        sha256 = self.longclip_sha256 or self.clip_sha256
        facts = {"tower": tower, "clip": self.clip_name, "sha256": sha256, "activation": self.clip_activation}
        return {"captions": FrozenEncoder(self.caption_features, facts)}

    def caption_features(self, tokens: Tensor) -> Tensor:
        """Token ids (B, L) -> features (B, D) of the frozen caption tower before h_F: what a cache may keep."""
        if self.caption_tower is None:
            raise FclipError(f"variant {self.variant} with these options takes no captions")
        return self.caption_tower(tokens)

    def _encode_frames(self, clips: Tensor) -> Tensor:
        """The low level, (B, T, 3, H, W) -> v (B, E)."""
        visual = self.clip.visual
        if "frames" in self.adapters:
            tower = image_tower(visual)
            return self._project(self.adapters["frames"](visual, clips), tower.projection, tower.bias)
        features = encode_frames(visual, clips.flatten(0, 1)).to(self.clip.logit_scale.dtype)  # (B*T, E)
        return features.unflatten(0, clips.shape[:2]).mean(dim=1)

    def _project(self, features: Tensor, matrix: Tensor | None, bias: Tensor | None) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return project(features.to(self.clip.logit_scale.dtype), matrix, bias)

    def _checked(self, batch: dict[str, Tensor], name: str) -> Tensor:
        images, size = batch[name], self.preprocess.image_size
        wanted = (self.frames, 3, size, size)
        if images.ndim != 5 or images.shape[1:] != wanted:
            expected = f"(B, {', '.join(map(str, wanted))})"
            raise FclipError(f"batch[{name!r}] has shape {tuple(images.shape)}, expected {expected}")
        return images

    def _report_missing(self, used: tuple[str, ...]) -> None:
        if not used:
            raise FclipError(f"the batch holds none of {', '.join(self.modalities)}, the modalities of {self.variant}")
        for name in set(self.modalities) - set(used) - self._reported:
            logger.warning("no %s in the batch: it is left out of the fusion, which uses %s", name, ", ".join(used))
            self._reported.add(name)


def label_prompts(classes: tuple[str, ...], negative_word: str = "no") -> dict[str, list[str]]:
    """The paper's positive and negative label texts (resources/prompts.json) for these classes."""
    templates = resource_json("prompts.json")
    return {name: [text.format(cls=cls, word=negative_word) for cls in classes] for name, text in templates.items()}


def _kept_modalities(spec: ModelSpec, modalities: tuple[str, ...]) -> tuple[str, ...]:
    """The variant's modalities less those switched off; UsageError for one switched on that the variant has not."""
    switches = {"frames": spec.options.frames_level, **{name: getattr(spec.options, name) for name in FACES}}
    for name, on in switches.items():
        if on and name not in modalities:
            raise UsageError(f"variant {spec.variant} has no {name} to switch on, only {', '.join(modalities)}")
    kept = tuple(name for name in modalities if switches.get(name) is not False)
    if not kept:
        raise UsageError(f"the options switch off all modalities of variant {spec.variant}: {', '.join(modalities)}")
    return kept if spec.options.signals == "none" else (*kept, "signals")


def _check_settings(s: Options, modalities: tuple[str, ...]) -> None:
    if s.objective not in ("labels", "captions"):
        raise UsageError(f"option objective must be labels or captions, got {s.objective!r}")
    if s.objective == "captions" and not {"frames", "caption"} <= set(modalities):
        raise UsageError("objective captions needs a variant with frames and captions: dagger or star-dagger")
    if s.temporal_adapters == "both" and s.frame_adapter_position == "before":
        raise UsageError("temporal_adapters=both is AIM's block, whose others are frame_adapter_position=after")
    for name in ("tau", "frame_adapter_ratio", "face_adapter_ratio", "text_adapter_ratio"):
        if getattr(s, name) <= 0:
            raise UsageError(f"option {name} must be greater than 0, got {getattr(s, name)}")
