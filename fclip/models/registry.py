"""The one constructor path: variants are functions, registered under their own name ("-" for "_").

A module registers its functions with `@register(Options)`; `Options` is a dataclass of the variant's options with
plain JSON values. Modules are imported when one of their variants is first asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fclip.errors import UsageError
from fclip.models.backbone.clip import NO_CLIP, load_clip
from fclip.models.base import ExpressionModel, ModelSpec

Build = Callable[[ModelSpec], ExpressionModel]

MODULES = {  # module of fclip.models -> the variants that it registers
    "finecliper.model": ("base", "star", "dagger", "star-dagger"),
    "baselines.dfer_clip": ("dfer-clip",),
    "baselines.clip_heads": ("linear-probe", "finetune", "zeroshot-clip", "zeroshot-farl"),
    "baselines.coop": ("coop", "cocoop"),
    "baselines.emoclip": ("emoclip",),
    "baselines.video_networks": ("r3d-18", "r2plus1d-18", "mc3-18", "s3d", "resnet18-lstm", "resnet18-vit"),
}


@dataclass(frozen=True)
class Variant:
    """A registered variant: the function that builds it, the dataclass of its options, whether it is made from CLIP."""

    build: Build
    options: type
    clip: bool = True


_VARIANTS: dict[str, Variant] = {}


def register(options: type, clip: bool = True) -> Callable[[Build], Build]:
    """Register the decorated function `build(spec: ModelSpec) -> ExpressionModel` under its own name.

    `clip` False: the variant has no part of CLIP; none is loaded, and its spec holds NO_CLIP.
    """

    def decorate(build: Build) -> Build:
        _VARIANTS[build.__name__.replace("_", "-")] = Variant(build, options, clip)
        return build

    return decorate


def variants() -> list[str]:
    """Names of all variants, in the order of MODULES, then those registered from outside."""
    names = [name for module in MODULES.values() for name in module]
    return names + sorted(_VARIANTS.keys() - set(names))


def find_variant(name: str) -> Variant:
    """The variant of this name; UsageError lists the names there are."""
    if name not in _VARIANTS:
        module = next((m for m, names in MODULES.items() if name in names), None)
        if module is None:
            known = variants()
            raise UsageError(f"unknown variant {name!r}{suggest(name, known)}; variants: {', '.join(known)}")
        importlib.import_module(f"fclip.models.{module}")
    return _VARIANTS[name]


def create_model(
    variant: str,
    clip: str = "ViT-B-16",
    classes: Sequence[str] = (),
    frames: int = 16,
    clip_weights: str | Path | None = None,
    longclip_weights: str | Path | None = None,
    **options: Any,
) -> ExpressionModel:
    """Build a model: the one constructor of all variants, untrained (adapters at zero) on frozen CLIP weights.

    `clip`: tiny, ViT-B-16, ViT-B-32, ViT-L-14 or another open_clip model with native towers; `classes`: class names in
    the order of the outputs; `frames`: T; `clip_weights`: see `load_clip`; `options`: the variant's own switches.
    Raises UsageError for an unknown variant, CLIP model, option or option value.
    """
    found = find_variant(variant)
    names = tuple(classes)
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"classes must be two or more different names, got {list(names)}")
    if frames < 1:
        raise UsageError(f"frames must be at least 1, got {frames}")
    values = found.options(**check_options(options, found.options, variant))
    loaded = load_clip(clip, clip_weights) if found.clip else NO_CLIP
    return found.build(ModelSpec(variant, loaded, names, frames, values, longclip_weights))


def check_options(options: dict[str, Any], options_class: type, variant: str) -> dict[str, Any]:
    """Return `options` if each is a field of `options_class`, of its type; else UsageError (with close matches)."""
    types = get_type_hints(options_class)
    for name, value in options.items():
        if name not in types:
            listed = ", ".join(types) or "none"
            raise UsageError(f"variant {variant} has no option {name!r}{suggest(name, types)}; options: {listed}")
        if not fits(value, types[name]):
            raise UsageError(f"option {name} of variant {variant} must be {type_name(types[name])}, got {value!r}")
    return options


def fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a field's type: bool, int, float, str, None, Literal, list[...] or a union of them."""
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return value in arguments
    if get_origin(kind) in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def type_name(kind: Any) -> str:
    """A field's type for an error message: "float", "list[float] | None", "one of none, both"."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    return str(kind) if get_args(kind) else str(kind.__name__)


def suggest(name: str, known: Iterable[str]) -> str:
    """' (did you mean a or b?)' for the names close to `name`, or the empty string."""
    close = difflib.get_close_matches(name, list(known))
    return f" (did you mean {' or '.join(close)}?)" if close else ""
