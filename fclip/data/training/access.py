"""Random access to the clips of packed shards, decoded and changed for the model: the loader's data set."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fclip.data.media.sampling import Timeline, centres_in_time, random_in_time
from fclip.data.storage.packed import OPTIONAL_FIELDS, PackedSample, parse_packed
from fclip.data.storage.shards import index_shard, parse_info, read_fields
from fclip.data.training.augment import (
    AUGMENTATIONS,
    Augmentation,
    change_frames,
    change_landmarks,
    change_parsing,
    clip_rng,
    draw_change,
    whole_frame,
)
from fclip.errors import FclipError
from fclip.records import LANDMARKS
from fclip.runner.remote import local_shard

FACE_FIELDS = ("parsing", "landmarks", "signals")


@dataclass(frozen=True)
class View:
    """How a clip is shown to the model.

    size: side of the frames; frames: T, None for as many as there are; resize: "squash" the whole frame to a square or
    "crop" it as CLIP does; augmentation: a random change instead, a function of (seed, epoch, key). random_frames: of
    a clip with more than T frames, one random frame of each of T segments, drawn likewise, not the segments' centres.
    """

    size: int
    frames: int | None = None
    resize: str = "squash"
    augmentation: Augmentation | None = None
    seed: int = 0
    random_frames: bool = False

    @property
    def decode_size(self) -> int:
        """Frames decoded at this size or above make no crop smaller than `size` (see decode_strip)."""
        share = self.augmentation.crop_area[0] if self.augmentation else 1.0
        return math.ceil(self.size / math.sqrt(share))


class PackedClips:
    """The clips of shards, in the shards' order: `keys`, and `load(index, epoch)` to get one as tensors.

    `wanted` names the optional fields to read; `only` restricts to these keys. Raises FclipError if a key
    comes twice in the shards, if a key of `only` is in none of them, or if some clips have face maps and
    others have not and `allow_missing` is off.
    """

    def __init__(
        self,
        shards: Sequence[str | Path],
        view: View,
        wanted: Collection[str] = tuple(OPTIONAL_FIELDS),
        only: Collection[str] | None = None,
        allow_missing: bool = False,
    ) -> None:
        _keep_freed_memory()
        self.view, self.wanted = view, tuple(wanted)
        self._where: dict[str, tuple[Path, dict[str, tuple[int, int]]]] = {}
        chosen = None if only is None else set(only)
        for shard in shards:
            path = local_shard(shard)
            for key, fields in index_shard(path).items():
                if key in self._where:
                    raise FclipError(f"{path}: clip {key} is also in {self._where[key][0]}; use each shard once")
                if chosen is None or key in chosen:
                    self._where[key] = (path, fields)
        self.keys = list(self._where)
        if chosen is not None and (lost := chosen - self._where.keys()):
            raise FclipError(f"clip {min(lost)} is in none of the {len(shards)} shards")
        self.modalities = tuple(name for name in FACE_FIELDS if self._has(name, allow_missing))

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int, fields: Collection[str] | None = None) -> dict[str, bytes]:
        """Return the undecoded fields (all, or those named) of a clip."""
        path, where = self._where[self.keys[index]]
        chosen = {name: place for name, place in where.items() if fields is None or name in fields}
        with open(path, "rb") as file:
            return read_fields(file, chosen)

    def shard(self, index: int) -> Path:
        """Return the shard that a clip lies in."""
        return self._where[self.keys[index]][0]

    def labels(self) -> list[str]:
        """Return the class names of all clips, reading the json of each."""
        return [parse_info(key, self.read(index, {"json"}))["label"] for index, key in enumerate(self.keys)]

    def load(self, index: int, epoch: int) -> dict[str, Any]:
        """Return a clip as a dict: frames uint8 (T, S, S, 3), label, key, info, caption (text or None), and if the
        shards have them parsing uint8 (T, S, S), landmarks float32 (T, 68, 2) and signals float32 (T, signals).
        """
        key, view = self.keys[index], self.view
        fields = {"frames.jpg", "json", *(OPTIONAL_FIELDS[name] for name in self.wanted)}
        sample = parse_packed(key, self.read(index, fields), self.wanted, size=view.decode_size)
        clip = show(sample, view, epoch)
        count = len(clip["frames"])
        for name, blank in (
            ("parsing", torch.zeros((count, view.size, view.size), dtype=torch.uint8)),
            ("landmarks", torch.full((count, LANDMARKS, 2), -1.0)),
            ("signals", torch.zeros((count, self._signals))),
        ):
            if name in self.modalities:
                clip.setdefault(name, blank)
            else:
                clip.pop(name, None)
        return clip

    @cached_property
    def _signals(self) -> int:
        """Number of signals a frame, by the first clip that has some."""
        if "signals" not in self.modalities:
            return 0
        index = next(i for i, key in enumerate(self.keys) if "signals.npy" in self._where[key][1])
        return len(parse_info(self.keys[index], self.read(index, {"json"})).get("signal_names", ()))

    def _has(self, name: str, allow_missing: bool) -> bool:
        """Whether the clips have this modality; raises FclipError if only some have it."""
        field = OPTIONAL_FIELDS[name]
        lacking = [key for key, (_, fields) in self._where.items() if field not in fields]
        if name not in self.wanted or len(lacking) == len(self):
            return False
        if lacking and not allow_missing:
            raise FclipError(
                f"{len(lacking)} of {len(self)} clips have no {name} ({lacking[0]} is one); fclip pack "
                "without --allow-missing leaves such clips out"
            )
        return True


def show(sample: PackedSample, view: View, epoch: int = 0) -> dict[str, Any]:
    """A sample as a model is shown it, as PackedClips.load says: the one way for training, evaluation and prediction.

    `parsing`, `landmarks` and `signals` are there if the sample has them. Its frames may be larger than the view.
    """
    _choose_frames(sample, view, epoch)
    key, (_, height, width, _) = sample.key, sample.frames.shape
    if view.augmentation and view.augmentation != AUGMENTATIONS["none"]:
        change = draw_change(view.augmentation, height, width, clip_rng(view.seed, epoch, key, "augment"))
    else:
        change = whole_frame(height, width, view.size, view.resize)
    clip: dict[str, Any] = {"key": key, "label": sample.info["label"], "caption": sample.caption, "info": sample.info}
    clip["frames"] = change_frames(sample.frames, change, view.size)
    if sample.parsing is not None:
        clip["parsing"] = change_parsing(sample.parsing, change, view.size)
    if sample.landmarks is not None:
        clip["landmarks"] = change_landmarks(sample.landmarks, change, height, width)
    if sample.signals is not None:  # those of a mirrored face differ in its sides only
        clip["signals"] = torch.from_numpy(sample.signals)
    return clip


def _choose_frames(sample: PackedSample, view: View, epoch: int) -> None:
    """Keep the frames to show: all, or one per segment (random in training, the centre else)."""
    if view.frames is None or view.frames == len(sample.frames):
        return
    timeline = _timeline(sample)
    if view.random_frames:
        chosen = random_in_time(timeline, view.frames, clip_rng(view.seed, epoch, sample.key, "frames"))
    else:
        chosen = centres_in_time(timeline, view.frames)
    sample.frames = sample.frames[chosen]
    sample.parsing = None if sample.parsing is None else sample.parsing[chosen]
    sample.landmarks = None if sample.landmarks is None else sample.landmarks[chosen]
    sample.signals = None if sample.signals is None else sample.signals[chosen]


def _timeline(sample: PackedSample) -> Timeline:
    """When the frames of a sample are shown, by its json; evenly spaced where that does not say so."""
    count, times, end = len(sample.frames), sample.info.get("times"), sample.info.get("end", "nan")
    try:
        seconds = np.asarray(times, np.float64)
        timeline = Timeline(seconds - seconds[0], float(end) - float(seconds[0]))
        if seconds.shape == (count,) and (np.diff(seconds) >= 0).all() and timeline.end > timeline.times[-1]:
            return timeline
    except (TypeError, ValueError, IndexError):
        pass  # shards of other programs
    return Timeline(np.arange(count, dtype=np.float64), float(count))


def _keep_freed_memory() -> None:
    """Let the C library keep what decoding frees, rather than have it faulted in anew for every clip.

    glibc raises its limits to the largest block that was freed, up to 32 MB; elsewhere this does nothing.
    """
    bytearray(31 << 20)


def clip_labels(shards: Sequence[Path]) -> dict[str, str]:
    """{key: label} of the clips of shards."""
    clips = PackedClips(list(shards), View(size=1), wanted=())
    return dict(zip(clips.keys, clips.labels(), strict=True))


def untrained_remark(tested: Collection[str], train: Sequence[Path]) -> str | None:
    """A line about the classes `tested` that no clip of the training shards has; None where there is none."""
    missing = sorted(set(tested) - set(clip_labels(train).values())) if tested else []
    if not missing:
        return None
    return f"class with test clips and no training clip: {', '.join(missing)}: its recall can only be 0"
