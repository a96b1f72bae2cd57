"""The loader that a model needs: its frame count, image size and modalities over packed shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fclip.data.augment import Augmentation
from fclip.data.loader import ClipLoader
from fclip.models.base import ExpressionModel


def clip_loader(
    shards: Sequence[Path],
    model: ExpressionModel,
    batch_size: int,
    *,
    train: bool,
    seed: int = 0,
    workers: int = 0,
    without: Sequence[str] = (),
    augmentation: Augmentation | None = None,
    balance: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> ClipLoader:
    """Batches of the clips of `shards` as `model` sees them; only what it uses is read from the shards.

    train: new order each epoch and `augmentation` (its defaults when None); else the shards' order, whole frames.
    """
    wanted = [name for name in model.modalities if name != "frames" and name not in without]
    return ClipLoader(
        shards,
        batch_size,
        train=train,
        image_size=model.preprocess.image_size,
        frames=model.frames,
        augmentation=augmentation,
        resize=model.preprocess.resize,
        seed=seed,
        workers=workers,
        wanted=wanted,
        allow_missing=not train,
        balance=balance,
        rank=rank,
        world_size=world_size,
    )
