"""`fclip face-analyze`: frames shards -> HDF5 caches with parsing, landmarks and confidence of every frame."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fclip.config import ShardConfig, option, options_of
from fclip.engine.fetching import provide
from fclip.errors import ClipFailure, FclipError
from fclip.registry import FACE_BACKENDS
from fclip.runner.report import StageReport
from fclip.runner.shards import run_shards
from fclip.runner.stage import ShardResult, ShardStage, ShardTask
from fclip.runner.tasks import batches, shard_tasks, take
from fclip.runner.workspace import stage_input, stage_output

if TYPE_CHECKING:
    from fclip.data.storage.packed import PackedSample
    from fclip.records import FaceTrack, FrameSample


log = logging.getLogger(__name__)

CLIPS_AT_ONCE = 16  # handed to a back end together, so that a network on a GPU sees full batches


@dataclass(frozen=True)
class Config(ShardConfig):
    """Find face parts (11 classes) and 68 landmarks in every frame of the frames shards.

    Back ends: facexformer (the paper's choice; needs its weights), mediapipe (CPU; pip install 'fclip[mediapipe]'),
    lite (bundled, small, learned from rendered faces and from MediaPipe on real ones). `--backend list` shows what is
    installed. Clips that preprocess has cropped with the same mediapipe or lite are not searched again: what it saw is
    in the shards.

    Example:  fclip face-analyze
              fclip face-analyze --backend lite
    """

    backend: str | None = option(
        None,
        "facexformer, mediapipe, lite, or one of another package; list = show them [the first of these that is ready]",
        output=True,
        registry=FACE_BACKENDS,
    )
    options: Any = options_of("backend")
    max_gap: int = option(3, "fill gaps of up to N frames without a face by interpolation", output=True)
    smooth: float = option(0.0, "steady landmarks and pose against jitter: 0 = off, 1 = usual strength", output=True)
    preview: int = option(0, "also write a contact sheet of the first N clips: frame, parsing, landmarks")


def run(config: Config) -> StageReport:
    """Analyse every shard."""
    folder = stage_input(config, "frames")
    if config.backend is None:
        config = dataclasses.replace(config, backend=FACE_BACKENDS.best(), options=None)
        log.warning("--backend %s: the best that is here; --backend list shows all", config.backend)
    provide(config.weights())
    from fclip.engine.batches.devices import device_for

    out = stage_output(config, "faces")
    tasks = shard_tasks(folder, ".tar", "frames", config)
    stage = FacesStage(config)
    device, words = device_for(FACE_BACKENDS, str(config.backend), config.device)
    log.warning("back end %s, device %s", stage.backend.name, words)
    if device != "cpu" and not config.workers:
        config = dataclasses.replace(config, workers=1)  # one process fills a GPU; more would share its memory
    report = run_shards(stage, tasks, out, config)
    if tally := report.values.get("tally"):
        share = 100 * tally["without_face"] / tally["frames"]
        report.lines.append(
            f"{tally['frames']} frames, {tally['without_face']} without a face ({share:.1f} %), "
            f"{tally['filled']} of these filled"
        )
        if tally.get("as_seen"):
            report.lines.append(
                f"{tally['as_seen']} clips as preprocess saw them with the same back end: not looked at again"
            )
    if config.preview:
        sheet = write_preview(folder, out, config.preview)
        report.lines.append(f"contact sheet: {sheet}")
    return report


class FacesStage(ShardStage[Config]):
    """Analyse the clips of a shard with one back end."""

    name, version, suffix = "face-analyze", 2, ".h5"

    def load(self) -> Any:
        """The face back end."""
        from fclip.engine.batches.devices import device_for
        from fclip.faces.base import create_backend

        device, _ = device_for(FACE_BACKENDS, str(self.config.backend), self.config.device)
        return create_backend(str(self.config.backend), device, **vars(self.config.options))

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the HDF5 part of a frames shard; a clip without any face fails."""
        from fclip.data.storage.parts import write_faces

        result = ShardResult()
        rows = list(self._tracks(task, result))
        if rows:
            keys, sha256s, tracks = zip(*rows, strict=True)
            settings = {"max_gap": self.config.max_gap, "smooth": self.config.smooth}
            attributes = {name: str(value) for name, value in (self.fingerprint() | settings).items()}
            write_faces(out, keys, sha256s, tracks, attributes)
            result.ok += keys
        return result

    def _tracks(self, task: ShardTask, result: ShardResult) -> Iterator[tuple[str, str, FaceTrack]]:
        """Yield (key, sha256 of the film strip, track) of each clip with a face; the others go into `result`."""
        import numpy as np

        from fclip.seeing.faces import analyse_clips, finish_track
        from fclip.seeing.preparation import Analysis

        analysis = Analysis(str(self.config.backend), self.config.max_gap, self.config.smooth)
        for group in batches(self._clips(task, result), CLIPS_AT_ONCE):
            times = [np.asarray(sample.info["times"]) for _, _, sample in group]
            samples = [sample for _, _, sample in group]
            seen = [sample.seen if sample.seen_by == self.backend.fingerprint else None for sample in samples]
            tracks = analyse_clips(self.backend, [sample.frames for sample in samples], times, seen)
            if handed := sum(rows is not None for rows in seen):
                result.tally["as_seen"] = result.tally.get("as_seen", 0) + handed
            for (key, sha256, sample), track, seconds in zip(group, tracks, times, strict=True):
                frames = len(sample.frames)
                if isinstance(track, ClipFailure):
                    result.failed.append((key, str(track)))
                    _count(result, frames, frames, 0)
                    continue
                if problem := _implausible(key, track):
                    result.failed.append((key, problem))
                    continue
                whole = finish_track(track, seconds, analysis)
                missing, left = (int((t.confidence == 0).sum()) for t in (track, whole))
                _count(result, frames, missing, missing - left)
                yield key, sha256, whole

    def _clips(self, task: ShardTask, result: ShardResult) -> Iterator[tuple[str, str, FrameSample]]:
        from fclip.data.storage.shards import parse_frame_sample, read_shard
        from fclip.files import sha256_bytes

        for key, fields in take(read_shard(task.inputs[0]), task.payload):
            try:
                yield key, sha256_bytes(fields["frames.jpg"]), parse_frame_sample(key, fields)
            except FclipError as failure:
                result.failed.append((key, str(failure)))


def _implausible(key: str, track: FaceTrack) -> str | None:
    """What is wrong with the values of a track, if anything is: a back end may answer with NaN."""
    from fclip.data.storage.arrays import RANGES, check_range

    try:
        for name in RANGES:
            check_range(f"face track of {key}", name, getattr(track, name))
    except FclipError as error:
        return str(error)
    return None


def _count(result: ShardResult, frames: int, without_face: int, filled: int) -> None:
    """Add a clip's frames to the shard's tally."""
    for name, number in (("frames", frames), ("without_face", without_face), ("filled", filled)):
        result.tally[name] = result.tally.get(name, 0) + number


def write_preview(frames: Path, faces: Path, clips: int) -> Path:
    """Write `<faces>/preview.png`: the first clips with their parsing and landmarks."""
    from fclip.data.storage.packed import packed_fields, parse_packed
    from fclip.data.storage.parts import FacesPart
    from fclip.data.storage.shards import read_shard
    from fclip.data.storage.sheet import draw_clips
    from fclip.files import atomic_write, sha256_bytes
    from fclip.runner.workspace import list_shards

    rows: list[PackedSample] = []
    for path, _ in list_shards(faces, ".h5", "faces"):
        with FacesPart(path) as part:
            for key, fields in read_shard(frames / f"{path.stem}.tar"):
                if key in part.keys and len(rows) < clips:
                    track = part.read(key, sha256_bytes(fields["frames.jpg"]))
                    rows.append(parse_packed(key, packed_fields(key, fields, track, None)))
        if len(rows) >= clips:
            break
    target = faces / "preview.png"
    with atomic_write(target) as temp:
        draw_clips(rows).save(temp, format="PNG")
    return target
