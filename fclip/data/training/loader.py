"""The training loader: packed shards in, batches of augmented clips out, in an order known beforehand.

Shards are indexed once (name -> offset, size), so that clips are shuffled over all shards and read at random,
which streaming readers can only approximate; remote shards are fetched into a cache when they are first used.
A batch is a function of (shards, seed, epoch, step) alone: the number of workers and resuming do not change
it, and the ranks of a distributed run share the global batch that one process would see.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from fclip.data.storage.packed import OPTIONAL_FIELDS
from fclip.data.training.access import FACE_FIELDS, PackedClips, View
from fclip.data.training.augment import Augmentation
from fclip.data.training.order import Plan
from fclip.errors import FclipError

Batch = dict[str, Any]
Step = list[tuple[int, int]]  # (epoch, index) of each clip of a batch


class ClipLoader:
    """Batches of clips for one rank: `for batch in loader.epoch(3, start_step=10)`.

    A batch is a dict of `frames` uint8 (B, T, 3, S, S); `parsing` uint8 (B, T, S, S), `landmarks` float32
    (B, T, 68, 2) and `signals` float32 (B, T, signals), where the clips have them; `captions` list[str | None],
    `labels` list[str], `keys` list[str], `infos` list[dict].

    shards: local paths or fsspec URLs. image_size: S. frames: T, where clips hold more; None takes all.
    train: a new order every epoch (`balance`: all classes equally often), random changes by `augmentation`, one random
    frame of each of T segments (`random_frames`), the same number of full batches for every rank. Otherwise the
    shards' order, each clip once over all ranks, the segments' centres, and whole frames, squashed to a
    square or cropped to it (`resize`). wanted: what to read beside frames, of "parsing", "landmarks",
    "signals", "caption". only: the keys to restrict to. allow_missing: clips without a face track get background maps
    and landmarks outside the frame, not an error.
    """

    def __init__(
        self,
        shards: Sequence[str | Path],
        batch_size: int,
        *,
        train: bool,
        image_size: int,
        frames: int | None = None,
        augmentation: Augmentation | None = None,
        random_frames: bool = True,
        resize: str = "squash",
        seed: int = 0,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        balance: bool = False,
        wanted: Collection[str] = tuple(OPTIONAL_FIELDS),
        only: Collection[str] | None = None,
        allow_missing: bool = False,
    ) -> None:
        change = (augmentation or Augmentation()) if train else None
        view = View(image_size, frames, resize, change, seed, train and random_frames)
        self.clips = PackedClips(shards, view, wanted, only, allow_missing)
        if not len(self.clips):
            raise FclipError("the shards hold no clip; check the fold and the stage that made them")
        labels = self.clips.labels() if balance else None
        self._plan = Plan(len(self.clips), batch_size, train, seed, rank, world_size, labels)
        self._upcoming: list[Step] = []
        self._batches = DataLoader(
            _Batches(self.clips),
            batch_sampler=_Upcoming(self._upcoming),
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # else each pass takes a number from torch's global generator
        )

    @property
    def steps_per_epoch(self) -> int:
        """Number of this rank's batches in every epoch."""
        return len(self._plan.steps(0))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `start_step` on; those before it are not read."""
        steps = self._plan.steps(epoch)[start_step:]
        self._upcoming[:] = [[(epoch, int(index)) for index in step] for step in steps]
        for batch in self._batches:
            if isinstance(batch, FclipError):
                raise FclipError(str(batch))  # a new one: its traceback must not form a cycle with `batch`
            yield batch


class _Upcoming:
    """The steps that the DataLoader's next pass goes through; ClipLoader.epoch fills the list."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[Step]:
        return iter(list(self._steps))


class _Batches(Dataset):
    """Makes whole batches, in the worker if there is one; returns an FclipError, so that it stays one line."""

    def __init__(self, clips: PackedClips) -> None:
        self._clips = clips

    def __getitems__(self, step: Step) -> Batch | FclipError:
        try:
            return join_clips([self._clips.load(index, epoch) for epoch, index in step])
        except FclipError as error:
            return error


def join_clips(clips: list[dict[str, Any]]) -> Batch:
    """Stack the tensors of clips and list the rest."""
    batch: Batch = {name + "s": [clip[name] for clip in clips] for name in ("key", "label", "caption", "info")}
    for name in ("frames", *FACE_FIELDS):
        if name in clips[0]:
            if len({clip[name].shape for clip in clips}) > 1:
                counts = ", ".join(f"{clip['key']} {len(clip[name])}" for clip in clips[:4])
                raise FclipError(f"clips of one batch have different frame counts ({counts}, ...); set --frames")
            batch[name] = torch.stack([clip[name] for clip in clips])
    batch["frames"] = batch["frames"].permute(0, 1, 4, 2, 3)  # (B, T, 3, S, S), channels last in memory
    return batch


def _unchanged(batch: Any) -> Any:
    return batch
