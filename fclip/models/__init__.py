"""Models: CLIP towers, adapters, encoders, fusion, and the registry that `create_model` builds variants from."""

from __future__ import annotations

from fclip.models.base import ExpressionModel, ModelOutput, Preprocess, Recipe
from fclip.models.checkpoint import load_model
from fclip.models.registry import create_model, variants

__all__ = ["ExpressionModel", "ModelOutput", "Preprocess", "Recipe", "create_model", "load_model", "variants"]
