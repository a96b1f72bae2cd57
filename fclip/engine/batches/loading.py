"""The loader that a model needs: frames, or cached features where its encoders are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fclip.data.training.augment import Augmentation
from fclip.data.training.loader import ClipLoader
from fclip.data.training.order import Plan
from fclip.engine.batches.features import FeatureCache, FeatureLoader, WithCaptionFeatures, read_clips
from fclip.engine.batches.team import Team
from fclip.models.base import ExpressionModel


def clip_loader(
    shards: Sequence[Path],
    model: ExpressionModel,
    batch_size: int,
    *,
    train: bool,
    features: Path | None = None,
    seed: int = 0,
    workers: int = 0,
    without: Sequence[str] = (),
    augmentation: Augmentation | None = None,
    random_frames: bool = True,
    balance: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> ClipLoader | FeatureLoader | WithCaptionFeatures:
    """Batches of the clips of `shards` as `model` sees them; only what it uses is read from the shards.

    train: new order each epoch, `augmentation` (its defaults when None) and, of clips with more frames than the model
    takes, random ones of each segment (`random_frames`); else the shards' order, whole frames, the segments' centres.
    features: folder of cached features; those of the model's frozen encoders come from there and are computed now if
    they are not there, but frames that are read with maps or signals are not cached. Without it, the model encodes
    frames and captions anew in every step.
    """
    wanted = [name for name in model.modalities if name != "frames" and name not in without]
    encoders = model.frozen_encoders() if features else {}
    of_frames = "frames" in encoders and set(wanted) <= {"caption"}  # maps and signals are read with frames
    of_captions = "captions" in encoders and "caption" in wanted
    team = Team(rank, world_size) if train else Team()
    if of_frames or of_captions:
        assert features is not None
        clips = read_clips(shards, of_frames, of_captions)
        cache = FeatureCache(features, model, workers, team)
    if of_frames:
        labels = clips.labels if balance else None
        plan = Plan(len(clips.keys), batch_size, train, seed, rank, world_size, labels)
        loader: ClipLoader | FeatureLoader = FeatureLoader(clips, cache.frames(clips), plan)
    else:
        loader = ClipLoader(
            shards,
            batch_size,
            train=train,
            image_size=model.preprocess.image_size,
            frames=model.frames,
            augmentation=augmentation,
            random_frames=random_frames,
            resize=model.preprocess.resize,
            seed=seed,
            workers=workers,
            wanted=wanted,
            allow_missing=not train,
            balance=balance,
            rank=rank,
            world_size=world_size,
        )
    return WithCaptionFeatures(loader, cache.captions(clips)) if of_captions else loader
