"""Features of frozen encoders, computed once and kept in HDF5 parts: frame features and caption embeddings.

`<folder>/<encoder>-<fingerprint>/<shard>.h5` holds the features of one shard's clips. The fingerprint stands for the
weights, the preprocessing and fclip's version; a row is found by the sha256 of what was encoded (film strip and json,
or the caption's text). So whatever changes, a stale row is never found: it is computed again. Clips are seen as in
evaluation, whole and at the segments' centres; training on cached frame features has no augmentation.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fclip import __version__
from fclip.config import canonical_json, hash_of
from fclip.data.storage.packed import parse_text
from fclip.data.storage.parts import read_features, write_features
from fclip.data.storage.shards import need_field, parse_info
from fclip.data.training.access import PackedClips, View
from fclip.data.training.loader import ClipLoader
from fclip.data.training.order import Plan
from fclip.engine.batches.prepare import InputPreparer
from fclip.engine.batches.team import Team
from fclip.errors import FclipError
from fclip.models.base import ExpressionModel
from fclip.runner.progress import progress_bar

log = logging.getLogger(__name__)

CLIPS_AT_ONCE, TEXTS_AT_ONCE = 8, 64  # fixed: features do not depend on who fills the cache
Rows = dict[str, np.ndarray]  # sha256 of the input -> (rows, width) float32


@dataclass
class Clips:
    """What batches say about the clips of shards, beside the features; and where each clip's input is."""

    keys: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    captions: list[str | None] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    sha256s: list[str] = field(default_factory=list)  # of json and film strip
    shards: list[Path] = field(default_factory=list)


class FeatureCache:
    """The features of a model's frozen encoders in `folder`; what is missing there is computed on the model's device.

    The processes of a team share the work.
    """

    def __init__(self, folder: Path, model: ExpressionModel, workers: int = 0, team: Team | None = None) -> None:
        self.folder, self.model, self.workers, self.team = folder, model, workers, team or Team()

    def frames(self, clips: Clips) -> Tensor:
        """Frame features (N, T, E) of the clips. FclipError if the folder has some of another shape."""
        indices = _by_shard(clips)
        wanted = {shard: {clips.sha256s[i] for i in group} for shard, group in indices.items()}
        names = dict(zip(clips.keys, clips.sha256s, strict=True))

        def encode(shard: Path, _: Collection[str]) -> Rows:
            return {names[key]: row for key, row in encode_clips(self.model, shard, self.workers)}

        features = torch.empty(0)
        for shard, rows in self._rows("frames", wanted, encode):  # one shard's rows at a time beside the result
            for index in indices[shard]:
                row = torch.from_numpy(rows[clips.sha256s[index]])  # (T, E)
                if not len(features):
                    features = torch.empty(len(clips.keys), *row.shape)
                if row.shape != features.shape[1:]:
                    raise FclipError(
                        f"{self.folder}: features of clip {clips.keys[index]} have shape {tuple(row.shape)}, others "
                        f"{tuple(features.shape[1:])}; delete this folder, it is made again"
                    )
                features[index] = row
        return features

    def captions(self, clips: Clips) -> dict[str, Tensor]:
        """Caption features (D,) by text."""
        texts = {text_sha256(text): text for text in clips.captions if text}
        wanted = {
            shard: {text_sha256(text) for i in group if (text := clips.captions[i])}
            for shard, group in _by_shard(clips).items()
        }

        def encode(_: Path, sha256s: Collection[str]) -> Rows:
            return encode_texts(self.model, {sha256: texts[sha256] for sha256 in sorted(sha256s)})

        rows = {name: row for _, found in self._rows("captions", wanted, encode) for name, row in found.items()}
        return {text: torch.from_numpy(rows[sha256][0]) for sha256, text in texts.items()}

    def _rows(
        self, kind: str, wanted: dict[Path, set[str]], encode: Callable[[Path, Collection[str]], Rows]
    ) -> Iterator[tuple[Path, Rows]]:
        """The wanted rows, shard by shard: this process computes its share of the missing ones, then reads all."""
        facts = {"encoder": kind, "fclip": __version__, **self.model.frozen_encoders()[kind].facts}
        part = _Parts(self.folder, facts)
        mine = list(wanted)[self.team.rank :: self.team.size]
        missing = [shard for shard in mine if not wanted[shard] <= part.read(shard).keys()]
        if missing:
            log.warning("%s: encoding the %s of %d of %d shards", part.folder, kind, len(missing), len(wanted))
        with progress_bar(len(missing), f"{kind} features", "shard") as bar:
            for shard in missing:
                part.write(shard, encode(shard, wanted[shard]))
                bar.update()
        self.team.wait()
        for shard, sha256s in wanted.items():
            found = part.read(shard)
            if not sha256s <= found.keys():  # the team's other machines have their own disks
                part.write(shard, found := encode(shard, sha256s))
            yield shard, found


class _Parts:
    """The part files of one encoder."""

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.fingerprint = hash_of(facts)
        self.folder = folder / f"{facts['encoder']}-{self.fingerprint[:16]}"
        self._attributes = {
            name: value if isinstance(value, str | int) else canonical_json(value) for name, value in facts.items()
        }

    def read(self, shard: Path) -> Rows:
        """The rows of a shard's part; none where it is not there, is of another model, or is damaged."""
        try:
            return read_features(self._path(shard), self.fingerprint)
        except FclipError as error:
            log.warning("%s; it is made again now", error)
            return {}

    def write(self, shard: Path, rows: Rows) -> None:
        write_features(self._path(shard), rows, self.fingerprint, self._attributes)

    def _path(self, shard: Path) -> Path:
        return self.folder / f"{shard.stem}.h5"


class FeatureLoader:
    """Batches of cached frame features, in the order in which ClipLoader would give the clips' frames.

    A batch is ClipLoader's, with `frame_features` float32 (B, T, E) in place of frames. All features are in memory:
    32 kB for a clip of 16 frames and E = 512, so 0.4 GB for the 12,000 clips of DFEW, 1.3 GB for the 39,000 of FERV39k.
    """

    def __init__(self, clips: Clips, features: Tensor, plan: Plan) -> None:
        self.clips, self.features, self._plan = clips, features, plan

    @property
    def steps_per_epoch(self) -> int:
        """Number of this rank's batches in every epoch."""
        return len(self._plan.steps(0))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the batches of an epoch from `start_step` on."""
        clips = self.clips
        for step in self._plan.steps(epoch)[start_step:]:
            lists = {name: [getattr(clips, name)[i] for i in step] for name in ("keys", "labels", "captions", "infos")}
            yield {**lists, "frame_features": self.features[torch.from_numpy(step)]}


class WithCaptionFeatures:
    """A loader's batches with `caption_features`: each caption's feature (D,), None for a clip without a caption."""

    def __init__(self, loader: Any, features: dict[str, Tensor]) -> None:
        self._loader, self._features = loader, features

    @property
    def steps_per_epoch(self) -> int:
        """The loader's."""
        return int(self._loader.steps_per_epoch)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the loader's batches of an epoch, with caption features."""
        for batch in self._loader.epoch(epoch, start_step):
            found = [self._features[text] if text else None for text in batch["captions"]]
            yield {**batch, "caption_features": found}


def read_clips(shards: Sequence[Path], frames: bool, captions: bool) -> Clips:
    """Read what identifies the clips of shards: with `frames` their film strips' hashes, with `captions` the texts."""
    packed = PackedClips(shards, View(1), ("caption",) if captions else ())
    fields = {"json", *(["frames.jpg"] if frames else []), *(["caption.txt"] if captions else [])}
    clips = Clips()
    for index, key in enumerate(packed.keys):
        found = packed.read(index, fields)
        clips.keys.append(key)
        clips.infos.append(info := parse_info(key, found))
        clips.labels.append(info["label"])
        clips.shards.append(packed.shard(index))
        text = found.get("caption.txt")
        clips.captions.append(None if text is None else parse_text(f"{key}.caption.txt", text))
        if frames:
            digest = hashlib.sha256(hashlib.sha256(found["json"]).digest())
            digest.update(need_field(key, found, "frames.jpg"))
            clips.sha256s.append(digest.hexdigest())
    if not clips.keys:
        raise FclipError("the shards hold no clip; check the fold and the stage that made them")
    return clips


@torch.inference_mode()
def encode_clips(model: ExpressionModel, shard: Path, workers: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Frame features (T, E) of each clip of a shard by key, seen as in evaluation, in float32."""
    loader = ClipLoader(
        [shard],
        CLIPS_AT_ONCE,
        train=False,
        image_size=model.preprocess.image_size,
        frames=model.frames,
        resize=model.preprocess.resize,
        workers=workers,
        wanted=(),
    )
    prepare = InputPreparer(model, next(model.parameters()).device)
    encode = model.frozen_encoders()["frames"].encode
    for batch in loader.epoch(0):
        [(_, inputs)] = prepare.groups({**batch, "labels": None})
        rows = encode(inputs["frames"]).float().cpu().numpy()
        yield from zip(batch["keys"], rows, strict=True)


@torch.inference_mode()
def encode_texts(model: ExpressionModel, texts: dict[str, str]) -> Rows:
    """Caption features (1, D) of texts by their names, in float32."""
    device, names = next(model.parameters()).device, list(texts)
    encode = model.frozen_encoders()["captions"].encode
    rows: Rows = {}
    for start in range(0, len(names), TEXTS_AT_ONCE):
        chosen = names[start : start + TEXTS_AT_ONCE]
        tokens = model.tokenizer([texts[name] for name in chosen], context_length=model.caption_context).to(device)
        features = encode(tokens).float().cpu().numpy()
        rows.update(zip(chosen, features[:, None], strict=True))
    return rows


def cut_captions(model: ExpressionModel, shards: Sequence[Path]) -> int:
    """How many clips have a caption longer than the model reads, so that its end was cut; 0 without captions."""
    if "caption" not in model.modalities:
        return 0
    opening, closing, _ = model.tokenizer.frame
    room = model.caption_context - len(opening) - len(closing)
    texts = [text for text in read_clips(shards, frames=False, captions=True).captions if text]
    return sum(len(text.encode()) > room and len(model.tokenizer.words(text)) > room for text in texts)


def text_sha256(text: str) -> str:
    """The sha256 that a caption's row is found by."""
    return hashlib.sha256(text.encode()).hexdigest()


def _by_shard(clips: Clips) -> dict[Path, list[int]]:
    """{shard: indices of its clips}, shards in order of appearance."""
    groups: dict[Path, list[int]] = {}
    for index, shard in enumerate(clips.shards):
        groups.setdefault(shard, []).append(index)
    return groups
