"""`fclip preprocess`: a data set's videos -> shards of sampled, cropped frames."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fclip.config import ShardConfig, option, options_of
from fclip.engine.fetching import provide
from fclip.errors import ClipFailure, FclipError, UsageError
from fclip.registry import DATASETS, FACE_BACKENDS
from fclip.runner.report import StageReport
from fclip.runner.shards import run_shards
from fclip.runner.stage import ShardResult, ShardStage, ShardTask
from fclip.runner.workspace import find_dataset

if TYPE_CHECKING:
    from fclip.data.layouts import Dataset
    from fclip.data.layouts.validation import ValidationReport
    from fclip.records import Clip, FrameSample
    from fclip.seeing.crops import FaceClip
    from fclip.seeing.preparation import Cropping


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config(ShardConfig):
    """Read a data set and write shards of sampled frames.

    Takes the rendered data sets (demo7, demo11), the official layouts, a folder of class folders, or a list with
    columns path,label and, where known, part, identity, start, end, caption (docs/data.md). Every clip becomes one film
    strip of T frames; clips that cannot be read are listed with the reason, the rest goes on. More frames than the
    model takes (all, or say 48) let training draw a random one of each segment, as DFER-CLIP does; evaluation takes
    the segments' centres.

    Example:  fclip preprocess --dataset demo7 --crop lite
              fclip preprocess --dataset csv --source clips.csv --name mine --crop mediapipe --all-faces
    """

    dataset: str | None = option(
        None,
        "demo7, demo11, dfew, ferv39k, mafw, folder, csv ...; list = show them [the only one in the workspace]",
        registry=DATASETS,
    )
    source: Path | None = option(None, "folder (or CSV file) of the data set [<root>/<dataset>/source]")
    name: str | None = option(None, "name in the workspace; for folder and csv the source's own name by default")
    frames: str = option(
        "16",
        "frames a clip: centres of equal segments of its duration; all = every frame, up to 512 and to a strip of "
        "65,500 rows (292 at size 224)",
        output=True,
    )
    size: int = option(224, "side of the square frames in pixels", output=True)
    crop: str = option(
        "none",
        "face back end that finds the face: lite, mediapipe ...; none = the whole frame (clips that are face crops "
        "already); list = show them",
        output=True,
        registry=FACE_BACKENDS,
    )
    all_faces: bool = option(
        False, "a clip for every face (KEY_face1, KEY_face2 ...), not only the main one", output=True
    )
    margin: float = option(1.5, "side of the crop / larger extent of the face", output=True)
    inside: bool = option(
        True, "keep the crop within the picture, as far as the face fits in (no smeared borders)", output=True
    )
    quality: int = option(95, "JPEG quality of the film strips", output=True)
    shard_size: int = option(64, "clips a shard", output=True)
    drop_duplicates: bool = option(False, "of clips with the same content take one only", output="given")
    accept_mismatch: bool = option(False, "go on although the validation of the data set found errors")
    check: bool = option(False, "only validate: write nothing, print the counts beside the published ones")
    options: Any = options_of("dataset")
    crop_options: Any = options_of("crop")


def run(config: Config) -> StageReport:
    """Validate the data set, then sample, crop and pack its frames shard by shard."""
    if config.dataset is None and config.source is None:
        config = dataclasses.replace(config, dataset=find_dataset(config), options=None)
    _check(config)
    dataset, equal = _without_duplicates(open_source(config), config)
    if config.check:
        return _checked(dataset)
    provide(config.weights())
    out = config.out or config.root / workspace_name(config) / "frames"
    clips = dataset.clips[: config.limit]
    if not clips:
        raise FclipError(f"{config.source or dataset.name}: the data set holds no clips")
    if config.all_faces:
        _check_keys(clips)
    found = _validate(dataset, config, out, equal)
    tasks = list(_tasks(clips, config.shard_size))
    splits = {
        "dataset": workspace_name(config),
        "parts": {c.key: c.part for c in clips},
        "folds": _folds(dataset, clips),
    }
    extra = {"classes.json": list(dataset.classes), "splits.json": splits}
    report = run_shards(FramesStage(config), tasks, out, config, extra)
    report.lines += found.table().splitlines()
    report.values |= {"understood": dataset.summary(), "remarks": found.remarks}
    return report


def _without_duplicates(dataset: Dataset, config: Config) -> tuple[Dataset, list[list[Clip]]]:
    """The data set, and its clips with equal content: told, or dropped with --drop-duplicates."""
    from fclip.data.layouts.duplicates import drop_duplicates, duplicate_remarks, same_content

    equal = same_content(dataset.clips[: config.limit])
    if config.drop_duplicates:
        return drop_duplicates(dataset, equal), equal
    dataset.remarks += duplicate_remarks(equal, dataset.folds)
    return dataset, equal


def _folds(dataset: Dataset, clips: list[Clip]) -> dict[str, dict[str, list[str]]]:
    """The folds over the parts that have clips (--limit may leave some out)."""
    present = {clip.part for clip in clips}
    return {
        fold: {side: [part for part in parts if part in present] for side, parts in sides.items()}
        for fold, sides in dataset.folds.items()
    }


def _check(config: Config) -> None:
    if not 16 <= config.size <= 1024:
        raise UsageError(f"--size {config.size}: give 16 to 1024 pixels")
    cropping(config).plan  # noqa: B018  raises UsageError
    if config.crop != "none":
        from fclip.faces.base import check_detector

        check_detector(config.crop)
    if config.all_faces and config.crop == "none":
        raise UsageError("--all-faces needs a way to find them: add --crop mediapipe or --crop lite")


def cropping(config: Config) -> Cropping:
    """How frames are read and cropped, from the options."""
    from fclip.seeing.preparation import Cropping

    return Cropping(config.frames, config.size, config.crop, config.margin, config.quality, config.inside)


def _check_keys(clips: list[Clip]) -> None:
    """The keys that --all-faces makes must not be those of other clips."""
    keys = {clip.key for clip in clips}
    for key in keys:
        if key.rpartition("_face")[0] in keys and key.rpartition("_face")[2].isdecimal():
            raise FclipError(f"clip {key} is named like a face of another clip; rename it, or leave out --all-faces")


def workspace_name(config: Config) -> str:
    """The data set's name in the workspace: --name, or its own; a file's or folder's name for csv and folder."""
    from fclip.records import make_key

    if config.name:
        return config.name
    if not config.dataset:
        raise UsageError(f"name the data set with --dataset ({', '.join(DATASETS.names())})")
    if config.source and getattr(DATASETS.find(config.dataset), "named_by_source", False):
        return make_key(config.source.resolve().stem)
    return config.dataset


def open_source(config: Config) -> Dataset:
    """The data set behind --dataset and --source."""
    from fclip.data.layouts import open_dataset
    from fclip.runner.workspace import require_folder

    name = config.dataset or "demo7"
    source = config.source
    if source is None:
        if not getattr(DATASETS.find(name), "in_workspace", False):
            raise UsageError(f"--dataset {name} needs --source DIR, the folder that holds it")
        source = require_folder(config.root / name / "source", "source", config)
    return open_dataset(name, source, **vars(config.options))


def _checked(dataset: Dataset) -> StageReport:
    """The validation alone, printed; exit code 1 where it found errors."""
    from fclip.data.layouts.validation import validate
    from fclip.runner.report import format_table

    found = validate(dataset)
    counts = {"clips": found.clips, "errors": len(found.errors), "notes": len(found.remarks)}
    report = StageReport("preprocess --check", counts=counts, values=found.as_dict(), exit_code=int(not found.ok))
    report.values["understood"] = dataset.summary()
    report.lines = [dataset.summary(), *found.table().splitlines()]
    if found.published:
        rows = [
            ["", "found", "published"],
            *([row.what, str(row.found), str(row.published)] for row in found.published),
        ]
        report.lines += ["", *format_table(rows)]
    return report


def _validate(dataset: Dataset, config: Config, out: Path, equal: list[list[Clip]]) -> ValidationReport:
    """Validate before any work and say what was understood; raise unless --accept-mismatch.

    Writes validation.json and, the same as a table, validation.txt beside the frames folder; with clips of equal
    content duplicates.csv.
    """
    from fclip.data.layouts.duplicates import write_duplicates
    from fclip.data.layouts.validation import validate
    from fclip.files import atomic_write, write_json

    log.warning("preprocess: %s", dataset.summary())
    found = validate(dataset)
    for remark in found.remarks:
        log.warning("preprocess: note: %s", remark)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.parent / "validation.json", found.as_dict())
    write_duplicates(out.parent / "duplicates.csv", equal)
    with atomic_write(out.parent / "validation.txt") as temporary:
        temporary.write_text(found.table() + "\n", encoding="utf-8")
    if not found.ok and not config.accept_mismatch:
        raise FclipError(
            f"{dataset.name}: {len(found.errors)} mismatches, the first: {found.errors[0]}; "
            f"all in {out.parent / 'validation.txt'} (and .json); --accept-mismatch goes on"
        )
    return found


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
            yield ShardTask(f"{part}-{index:05d}", payload=rows, clips=len(rows))


def _size(source: str) -> int:
    path = Path(source)
    return path.stat().st_size if path.is_file() else -1


class FramesStage(ShardStage[Config]):
    """Decode, crop and encode the clips of a shard."""

    name, version, suffix = "preprocess", 3, ".tar"

    def load(self) -> Any:
        """The face detector; None without cropping."""
        if self.config.crop == "none":
            return None
        from fclip.faces.base import create_detector

        return create_detector(self.config.crop, **vars(self.config.crop_options))

    def fingerprint(self) -> dict[str, Any]:
        """The detector's weights; the name of the data set."""
        return {"detector": super().fingerprint(), "dataset": workspace_name(self.config)}

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the shard of `task`; a clip that fails is recorded with its reason."""
        from fclip.data.storage.shards import ShardWriter, frame_sample_fields
        from fclip.records import Clip
        from fclip.runner.remote import fetched

        result = ShardResult()
        with ShardWriter(out) as writer:
            for row in task.payload:
                clip = Clip(**{k: v for k, v in row.items() if k != "bytes"})
                try:
                    with fetched(clip.source) as path:
                        samples = [
                            (sample.key, frame_sample_fields(sample, quality=self.config.quality))
                            for sample in self.read(clip, path)
                        ]
                except ClipFailure as failure:
                    result.failed.append((clip.key, str(failure)))
                    samples = []
                if _size(clip.source) != row["bytes"]:  # a disk that went away is no failure of the clip
                    raise FclipError(f"{clip.source}: changed or vanished while it was read; run the command again")
                for key, fields in samples:
                    writer.write(key, fields)
                    result.ok.append(key)
        return result

    def read(self, clip: Clip, path: Path) -> Iterator[FrameSample]:
        """Sample and crop one clip, whose source is at `path`: one sample, or one for each face.

        Raises ClipFailure with the reason.
        """
        from fclip.data.media.video import Segment
        from fclip.seeing.crops import face_clips

        config, every_face = self.config, self.config.all_faces
        source = Segment(path, *clip.meta["segment"]) if "segment" in clip.meta else path
        for face in face_clips(source, cropping(config), self.backend, every_face):
            key, facts = clip.key, face.facts()
            if every_face and face.track and face.track["of"] > 1:
                key = f"{clip.key}_face{face.track['number']}"
                facts["track"] = {"clip": clip.key, **face.track}
            yield self._sample(clip, path, key, face, facts)

    def _sample(self, clip: Clip, path: Path, key: str, face: FaceClip, facts: dict[str, Any]) -> FrameSample:
        """A face's crops with what the shard's json says about them, and what the detector knows of it."""
        from fclip.records import FrameSample

        info = {
            "key": key,
            "dataset": workspace_name(self.config),
            "label": clip.label,
            "part": clip.part,
            "source": Path(clip.source).name,
            **facts,
            "sha256": _source_hash(path),
            **({"caption": clip.caption} if clip.caption else {}),
            **clip.meta,
        }
        by = None if face.seen is None else dict(self.backend.fingerprint)
        return FrameSample(key, face.crops, info, face.seen, by)


def _source_hash(source: Path) -> str:
    """sha256 of the video file, or of the names and bytes of a frame folder."""
    from fclip.files import sha256_file

    if source.is_file():
        return sha256_file(source)
    digest = hashlib.sha256()
    for path in sorted(p for p in source.iterdir() if p.is_file()):
        digest.update(path.name.encode() + bytes.fromhex(sha256_file(path)))
    return digest.hexdigest()
