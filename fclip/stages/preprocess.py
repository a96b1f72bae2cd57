"""`fclip preprocess`: a data set's videos -> shards of sampled, cropped frames."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.config import ShardConfig, option
from fclip.errors import ClipFailure, FclipError, UsageError
from fclip.stages.result import StageReport
from fclip.stages.runner import ShardResult, ShardTask, run_shards

if TYPE_CHECKING:
    from fclip.data.datasets import Dataset
    from fclip.data.records import Clip, FrameSample


@dataclass(frozen=True)
class Config(ShardConfig):
    """Read a data set and write shards of sampled frames.

    Takes the rendered data sets (demo7, demo11), the official layouts, a folder of class folders, or a CSV with
    columns path,label[,part][,caption]. Every clip becomes one film strip of T frames; clips that cannot be read are
    listed with the reason, the rest goes on.

    Example:  fclip preprocess --dataset demo7 --crop lite
              fclip preprocess --dataset csv --source clips.csv --name mine --crop mediapipe
    """

    source: Path | None = option(None, "folder (or CSV file) of the data set [<root>/<dataset>/source]")
    name: str | None = option(None, "name in the workspace; for folder and csv the source's own name by default")
    frames: int = option(16, "frames a clip: centres of equal segments of its duration", output=True)
    size: int = option(224, "side of the square frames in pixels", output=True)
    crop: Literal["none", "lite", "mediapipe"] = option(
        "none", "how to find the face; none = the whole frame (clips that are face crops already)", output=True
    )
    margin: float = option(1.5, "side of the crop / larger extent of the face", output=True)
    quality: int = option(95, "JPEG quality of the film strips", output=True)
    shard_size: int = option(64, "clips a shard", output=True)
    classes: tuple[str, ...] = option((), "class names in order, for folder and csv", output=True)
    folds: int | None = option(None, "folds to draw where the data set has none of its own", output=True)
    view: Literal["faces", "full"] = option("faces", "official face crops, or full frames", output=True)
    media: str | None = option(None, "variant of the media folder, e.g. clip_224x224_16f", output=True)
    subset: Literal["single", "compound"] = option("single", "MAFW: single or compound labels", output=True)
    human_captions: bool = option(False, "MAFW: the lists with captions (drops most neutral clips)", output=True)
    splits: Path | None = option(None, "split lists of another code base, labelled by index", output=True)
    order: Literal["dferclip", "maedfer", "s2d"] | None = option(None, "class order of --splits", output=True)
    accept_mismatch: bool = option(False, "go on although the validation of the data set found errors")


def run(config: Config) -> StageReport:
    """Validate the data set, then sample, crop and pack its frames shard by shard."""
    _check(config)
    dataset = open_source(config)
    out = config.out or config.root / workspace_name(config) / "frames"
    clips = dataset.clips[: config.limit]
    if not clips:
        raise FclipError(f"{config.source or dataset.name}: the data set holds no clips")
    lines = _validate(dataset, config, out)
    tasks = list(_tasks(clips, config.shard_size))
    splits = {
        "dataset": workspace_name(config),
        "parts": {c.key: c.part for c in clips},
        "folds": _folds(dataset, clips),
    }
    extra = {"classes.json": list(dataset.classes), "splits.json": splits}
    report = run_shards(FramesStage(config), tasks, out, config, extra)
    report.lines += lines
    return report


def _folds(dataset: Dataset, clips: list[Clip]) -> dict[str, dict[str, list[str]]]:
    """The folds over the parts that have clips (--limit may leave some out)."""
    present = {clip.part for clip in clips}
    return {
        fold: {side: [part for part in parts if part in present] for side, parts in sides.items()}
        for fold, sides in dataset.folds.items()
    }


def _check(config: Config) -> None:
    if not 1 <= config.frames <= 512 or not 16 <= config.size <= 1024:
        raise UsageError(f"--frames {config.frames} --size {config.size}: frames 1 to 512, size 16 to 1024")
    if config.frames * config.size > 65_000:
        raise UsageError(f"--frames {config.frames} x --size {config.size}: over a JPEG strip's 65,000 rows")


def workspace_name(config: Config) -> str:
    """The data set's name in the workspace: --name, or its own; a file's or folder's name for csv and folder."""
    from fclip.data.records import make_key

    if config.name:
        return config.name
    if config.dataset in ("folder", "csv") and config.source:
        return make_key(config.source.resolve().stem)
    if not config.dataset:
        raise UsageError("name the data set with --dataset (demo7, demo11, dfew, ferv39k, mafw, folder, csv ...)")
    return config.dataset


def open_source(config: Config) -> Dataset:
    """The data set behind --dataset and --source."""
    from fclip.data.datasets import open_dataset
    from fclip.stages.workspace import require_folder

    name = config.dataset or "demo7"
    source = config.source
    if source is None:
        if name in ("demo7", "demo11"):
            source = require_folder(config.root / name / "source", "source", config)
        else:
            raise UsageError(f"--dataset {name} needs --source DIR, the folder that holds it")
    return open_dataset(
        name,
        source,
        classes=config.classes or None,
        seed=config.seed,
        folds=config.folds,
        view=config.view,
        media=config.media,
        subset=config.subset,
        captions=config.human_captions,
        splits=config.splits,
        order=config.order,
    )


def _validate(dataset: Dataset, config: Config, out: Path) -> list[str]:
    """Validate before any work; write validation.json; raise unless --accept-mismatch."""
    from fclip.data.files import write_json
    from fclip.data.validation import validate

    found = validate(dataset)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.parent / "validation.json", found.as_dict())
    if not found.ok and not config.accept_mismatch:
        raise FclipError(
            f"{dataset.name}: {len(found.errors)} mismatches, the first: {found.errors[0]}; "
            f"all in {out.parent / 'validation.json'}; --accept-mismatch goes on"
        )
    return [f"mismatch accepted: {line}" for line in found.errors[:5]]


def _tasks(clips: list[Clip], shard_size: int) -> Iterator[ShardTask]:
    """Shards of whole parts: `<part>-<index>`, clips in key order; the payload names files and their sizes."""
    parts: dict[str, list[Clip]] = {}
    for clip in clips:
        parts.setdefault(clip.part, []).append(clip)
    for part in sorted(parts):
        members = sorted(parts[part], key=lambda clip: clip.key)
        for index, start in enumerate(range(0, len(members), shard_size)):
            rows = [
                dataclasses.asdict(clip) | {"bytes": _size(clip.source)} for clip in members[start : start + shard_size]
            ]
            yield ShardTask(f"{part}-{index:05d}", payload=rows)


def _size(source: str) -> int:
    path = Path(source)
    return path.stat().st_size if path.is_file() else -1


class FramesStage:
    """Decode, crop and encode the clips of a shard."""

    name, version, suffix = "preprocess", 1, ".tar"

    def __init__(self, config: Config) -> None:
        self.config = config
        self._detector: Any = None

    @property
    def detector(self) -> Any:
        """The face detector, loaded when the first clip needs it; None without cropping."""
        if self._detector is None and self.config.crop != "none":
            from fclip.faces.registry import create_backend

            self._detector = create_backend(self.config.crop, device="cpu")
        return self._detector

    def fingerprint(self) -> dict[str, Any]:
        """The detector's weights; the name of the data set."""
        detector = dict(self.detector.fingerprint) if self.detector else {}
        return {"detector": detector, "dataset": workspace_name(self.config)}

    def close(self) -> None:
        """Release the detector."""
        close = getattr(self._detector, "close", None)
        if close:
            close()
        self._detector = None

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the shard of `task`; a clip that fails is recorded with its reason."""
        from fclip.data.records import Clip
        from fclip.data.shards import ShardWriter, frame_sample_fields

        result = ShardResult()
        with ShardWriter(out) as writer:
            for row in task.payload:
                clip = Clip(**{k: v for k, v in row.items() if k != "bytes"})
                try:
                    sample = self.read(clip)
                except ClipFailure as failure:
                    result.failed.append((clip.key, str(failure)))
                    continue
                writer.write(clip.key, frame_sample_fields(sample, quality=self.config.quality))
                result.ok.append(clip.key)
        return result

    def read(self, clip: Clip) -> FrameSample:
        """Sample and crop one clip; raises ClipFailure with the reason."""
        from fclip.data.records import FrameSample
        from fclip.data.sampling import SamplingPlan
        from fclip.data.video import read_clip
        from fclip.faces.crop import crop_faces, find_face_track

        config = self.config
        source = Path(clip.source)
        whole = (config.size, config.size) if config.crop == "none" else None
        decoded = read_clip(source, SamplingPlan(config.frames), size=whole)
        frames, boxes, confidence = decoded.frames, None, None
        if whole is None:
            track = find_face_track(decoded.frames, decoded.times, self.detector, margin=config.margin)
            frames = crop_faces(decoded.frames, track.boxes, config.size)
            boxes, confidence = track.boxes, track.confidence
        info = {
            "key": clip.key,
            "dataset": workspace_name(config),
            "label": clip.label,
            "part": clip.part,
            "source": source.name,
            "fps": round(float(decoded.fps), 3),
            "times": [round(float(t), 4) for t in decoded.times],
            "crop_boxes": None if boxes is None else [[round(float(v), 2) for v in box] for box in boxes],
            "crop_confidence": None if confidence is None else [round(float(c), 3) for c in confidence],
            "height": config.size,
            "width": config.size,
            "frames": len(frames),
            "truncated": bool(decoded.truncated),
            "sha256": _source_hash(source),
            **({"caption": clip.caption} if clip.caption else {}),
            **clip.meta,
        }
        return FrameSample(clip.key, frames, info)


def _source_hash(source: Path) -> str:
    """sha256 of the video file, or of the names and bytes of a frame folder."""
    from fclip.data.files import sha256_file

    if source.is_file():
        return sha256_file(source)
    digest = hashlib.sha256()
    for path in sorted(p for p in source.iterdir() if p.is_file()):
        digest.update(path.name.encode() + bytes.fromhex(sha256_file(path)))
    return digest.hexdigest()
