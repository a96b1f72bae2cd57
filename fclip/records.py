"""The records that fclip's parts exchange: clips, frames, face tracks, captions. Plain data, numpy only.

This is the one module that data, faces, captions and models may all import.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from fclip.errors import FclipError
from fclip.schema import JsonObject

PARSING_CLASSES = (
    "background",
    "skin",
    "left_brow",
    "right_brow",
    "left_eye",
    "right_eye",
    "nose",
    "upper_lip",
    "inner_mouth",
    "lower_lip",
    "hair",
)  # LaPa order, as FaceXFormer; left and right are the person's own
LANDMARKS = 68  # iBUG / 300-W order
RENDERED = ("demo7", "demo11")  # the data sets of rendered faces (fclip synth)
BLENDSHAPES = 52  # ARKit-style coefficients, MediaPipe's order

_KEY = re.compile(r"[A-Za-z0-9_-]+")


def check_key(key: str) -> str:
    """Return `key` if it can name a sample in a WebDataset shard (`[A-Za-z0-9_-]+`), else raise FclipError.

    A dot in a key would split the sample's name at the wrong place and merge samples silently.
    """
    if not _KEY.fullmatch(key):
        raise FclipError(f"clip key {key!r} has characters outside A-Z a-z 0-9 _ -; rename the clip")
    return key


def make_key(text: str) -> str:
    """Turn any text (a relative path) into a valid key: other characters become `_`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "_"


def fold_name(name: str) -> str:
    """A name as names are told apart: without case, Unicode form and blanks around it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def check_class_names(names: Any, where: str = "classes", error: type[FclipError] = FclipError) -> tuple[str, ...]:
    """Class names as a tuple; `error` in one line, beginning with `where`, for names that cannot name classes.

    That is one text in place of a list, a name that is no text, is empty or has unprintable characters, and two that
    differ in case or Unicode form alone. How long a name may be depends on the text tower (see create_model).
    """
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise error(f"{where}: class names are a list of texts, not {names!r:.60}")
    found, seen = tuple(names), dict[str, str]()
    for name in found:
        if not isinstance(name, str):
            raise error(f"{where}: {name!r:.60} is no class name, as it is no text")
        if not name.strip() or not name.strip().isprintable():
            raise error(f"{where}: {name!r:.60} is no class name, as it is empty or unprintable")
        other = seen.setdefault(fold_name(name), name)
        if other != name:
            raise error(f"{where}: {ascii(other)} and {ascii(name)} differ in case or Unicode form alone; rename one")
    if len(seen) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise error(f"{where}: class {twice!r} comes twice")
    return found


@dataclass(frozen=True)
class Clip:
    """One labelled clip of a data set before decoding.

    `source` is a video file or a folder of frames; `label` is a class name, never an index; `part` names the group
    that folds are made of ("part1".."part5", or "train" and "test").
    """

    key: str
    source: str
    label: str
    part: str
    caption: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass
class FrameSample:
    """Sampled frames of a clip: `frames` uint8 (T, H, W, 3) RGB and the shard's json field as `info`.

    `seen` (T, N) float32: what the face back end with the fingerprint `seen_by` knows of the face already (see
    fclip.faces.seen), or None.
    """

    key: str
    frames: np.ndarray
    info: dict[str, Any]
    seen: np.ndarray | None = None
    seen_by: dict[str, str] | None = None


@dataclass
class FaceTrack:
    """Face analysis of one clip, in the coordinates of its frames.

    parsing (T, H, W) uint8 ids of PARSING_CLASSES; landmarks (T, 68, 2) float32, x then y in [0, 1] of the frame;
    confidence (T,) float32, 0 where no face was found; blendshapes (T, 52) float32 or None; pose (T, 3) float32
    pitch, yaw, roll in degrees or None; filled (T,) bool, True where values were interpolated over a short gap;
    signals (T, S) float32, 0 in frames without a face, with their names and units, or None; mesh (T, 478, 3) float32,
    MediaPipe's points in units of the frame's width, height and width, or None: it is not stored.
    """

    parsing: np.ndarray
    landmarks: np.ndarray
    confidence: np.ndarray
    blendshapes: np.ndarray | None = None
    pose: np.ndarray | None = None
    filled: np.ndarray | None = None
    signals: np.ndarray | None = None
    signal_names: tuple[str, ...] = ()
    signal_units: tuple[str, ...] = ()
    mesh: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> FaceTrack:
        """The track of some of its frames: `rows` are indices or a mask (T,)."""
        arrays: dict[str, Any] = {name: values[rows] for name, values in self._arrays()}
        return FaceTrack(**arrays, **self._others())

    def joined(self, other: FaceTrack | None, frames: int) -> FaceTrack:
        """This track with `other`, of the same back end, after it; None stands for `frames` frames without a face."""
        later = dict(other._arrays()) if other is not None else {}
        arrays: dict[str, Any] = {}
        for name, values in self._arrays():
            after = later.get(name, np.zeros((frames, *values.shape[1:]), values.dtype))
            arrays[name] = np.concatenate([values, after])
        return FaceTrack(**arrays, **self._others())

    def _arrays(self) -> list[tuple[str, np.ndarray]]:
        """The fields that hold a row for each frame."""
        pairs = [(each.name, getattr(self, each.name)) for each in fields(self)]
        return [(name, values) for name, values in pairs if isinstance(values, np.ndarray)]

    def _others(self) -> dict[str, Any]:
        """The fields that do not."""
        of_frames = {name for name, _ in self._arrays()}
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in of_frames}


@dataclass(frozen=True)
class CaptionRecord:
    """One caption: a line of a captions/ or refined/ JSONL file, with all that is needed to make it again.

    `label_shown` says whether the label was part of the prompt, or known to the person who wrote the caption;
    `removed` lists (text, reason) pairs cut by refine.
    """

    key: str
    text: str
    model: str
    revision: str
    prompt_sha256: str
    frames: list[int]
    decoding: dict[str, Any]
    label_shown: bool
    removed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class CaptionSource:
    """Where captions come from: the model that wrote them (None: there are none); whether it was shown the label."""

    model: str | None = None
    label_shown: bool = False

    @property
    def kind(self) -> str | None:
        """Whose captions they are, as results are told apart by it and published figures are matched."""
        if self.model is None:
            return None
        if self.model == "human":
            return "people"
        return "model that saw the label" if self.label_shown else "label-blind model"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint of format fclip-1 says about itself in its header: all that its model is built from, and
    what training adds (`captions`: those of the training data, which a model may not read)."""

    format: str
    variant: str
    clip: str
    clip_sha256: str | None
    classes: tuple[str, ...]
    frames: int
    prompts: dict[str, list[str]]
    options: JsonObject
    modalities: tuple[str, ...] = ("caption",)  # what it reads; a file that does not say may have read captions
    clip_weights: str | None = None
    clip_activation: str | None = None
    longclip_sha256: str | None = None
    longclip_weights: str | None = None
    seed: int = 0
    selection: str = "unknown"
    captions: CaptionSource | None = None
    without: tuple[str, ...] = ()

    @property
    def clip_read(self) -> str | None:
        """The CLIP that the model is made from; None where it is made from none."""
        return None if self.clip == "none" else self.clip

    @property
    def captions_read(self) -> CaptionSource | None:
        """The captions of the training data where the training read them; None where it read none."""
        reads = "caption" in self.modalities and "caption" not in self.without
        return self.captions if reads and self.captions and self.captions.model else None
