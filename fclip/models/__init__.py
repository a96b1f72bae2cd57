"""Models: CLIP towers, adapters, encoders, fusion. Names are loaded when first used, so this imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "ExpressionModel": "base",
    "ModelOutput": "base",
    "ModelSpec": "base",
    "Preprocess": "base",
    "Recipe": "recipes",
    "create_model": "build",
    "load_model": "checkpoint",
}
__all__ = ["ExpressionModel", "ModelOutput", "ModelSpec", "Preprocess", "Recipe", "create_model", "load_model"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"fclip.models.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'fclip.models' has no attribute {name!r}")
