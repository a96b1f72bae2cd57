"""How a variant is trained where nothing else is asked for: its paper's recipe, or another one for a backbone.

A variant says so where it is registered: `@register(Options, recipes={PAPER: Recipe(...), "tiny": Recipe(...)})`.
Without `recipes` it is trained as FineCLIPER is; with none, `{}`, it is not trained by gradients. The papers' rates
are for CLIP's own models: with them the bundled "tiny" learns next to nothing. Its own were chosen with 8 epochs on
held-out training parts of demo7, never on test parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from fclip.registry import VARIANTS

PAPER = "paper"  # of every backbone without a recipe of its own


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are FineCLIPER's. `milestones` are epochs, for schedule "multistep" only.

    augment: name of a change of the training clips (data.training.augment), DFER-CLIP's is "full"; random_frames: of
    clips with more frames than the model takes, random ones of each segment. Both without effect on cached features.
    """

    optimizer: str = "sgd"
    lr: float = 3e-4
    epochs: int = 30
    batch_size: int = 16
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    augment: str = "crop-flip"
    random_frames: bool = True


def recipe_of(variant: str, clip: str = PAPER) -> Recipe | None:
    """The recipe of a variant on a backbone, None if gradients do not train it; UsageError for an unknown variant."""
    recipes = VARIANTS.property(variant, "recipes", {PAPER: Recipe()})
    found: Recipe | None = recipes.get(clip.partition("@")[0], recipes.get(PAPER))
    return found
