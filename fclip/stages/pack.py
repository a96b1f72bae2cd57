"""`fclip pack`: frames + faces + refined captions -> training shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.config import ShardConfig, option
from fclip.data.storage.missing import lacking
from fclip.errors import FclipError
from fclip.runner.report import StageReport
from fclip.runner.shards import run_shards
from fclip.runner.stage import ShardResult, ShardStage, ShardTask
from fclip.runner.tasks import shard_tasks, take
from fclip.runner.workspace import dataset_folder, list_shards, require_folder, stage_input, stage_output

if TYPE_CHECKING:
    from fclip.data.storage.parts import FacesPart
    from fclip.records import CaptionRecord, FaceTrack
    from fclip.seeing.preparation import Preparation


@dataclass(frozen=True)
class Config(ShardConfig):
    """Join frames, face maps and captions into the WebDataset shards that train, eval and zeroshot read.

    A clip without face analysis or caption stops the command before it starts, unless an earlier stage gave the
    reason (no face was found, say): such a clip is skipped and listed. With --allow-missing all are packed, without
    what they lack. Clips of each class and part are counted in the manifest.

    Example:  fclip pack
              fclip pack --captions none --allow-missing
    """

    captions: Literal["refined", "human", "none"] = option("refined", "which captions to pack", output=True)
    faces: Literal["cache", "none"] = option("cache", "pack parsing and landmarks, or leave them out", output=True)
    faces_folder: Path | None = option(None, "faces folder instead of the workspace's")
    captions_folder: Path | None = option(None, "refined captions folder instead of the workspace's")
    allow_missing: bool = option(False, "pack clips that lack faces or a caption", output=True)


def run(config: Config) -> StageReport:
    """Pack every frames shard; counts per class and part go into the manifest and the report."""
    from fclip.data.storage.splits import read_classes, read_splits
    from fclip.runner.report import class_table
    from fclip.schema import as_json

    folder = stage_input(config, "frames")
    tasks = _tasks(config, folder)
    missing = _check_missing(config, tasks)
    classes = list(read_classes(folder))
    extra = {"classes.json": classes, "splits.json": as_json(read_splits(folder))}
    extra["preparation.json"] = _preparation(config, folder, tasks, classes).as_dict()
    report = run_shards(PackStage(config), tasks, stage_output(config, "packed"), config, extra)
    report.lines += class_table(classes, dict(sorted(report.values.get("tally", {}).get("parts", {}).items())))
    report.lines += missing
    return report


def _tasks(config: Config, folder: Path) -> list[ShardTask]:
    """A task for each frames shard with the part files that are joined to it."""
    tasks = []
    if not config.allow_missing:
        for place, suffix in _side_inputs(config):
            list_shards(place, suffix, "faces" if suffix == ".h5" else "refined", config.max_failed)  # is it finished?
    for task in shard_tasks(folder, ".tar", "frames", config):
        inputs = [*task.inputs]
        for place, suffix in _side_inputs(config):
            path = place / f"{task.stem}{suffix}"
            if path.is_file():
                inputs.append(path)
            elif not config.allow_missing:
                raise FclipError(
                    f"{path}: this shard has no {suffix[1:]} part; run the stage that makes it, or --allow-missing"
                )
        tasks.append(replace(task, inputs=tuple(inputs)))
    return tasks


def _preparation(config: Config, frames: Path, tasks: list[ShardTask], classes: list[str]) -> Preparation:
    """How the clips that are packed were prepared, from what the stages wrote into their folders."""
    from fclip.data.storage.captions import read_captions
    from fclip.seeing.preparation import gather

    sides = {suffix: folder for folder, suffix in _side_inputs(config)}
    captioner = "human" if config.captions == "human" else None
    for path in (path for task in tasks for path in task.inputs if path.suffix == ".jsonl"):
        captioner = captioner or next((record.model for record in read_captions(path).values()), None)
    return gather(frames, sides.get(".h5"), sides.get(".jsonl"), captioner, classes)


def _check_missing(config: Config, tasks: list[ShardTask]) -> list[str]:
    """A line about each modality that clips lack; FclipError if no stage says why and it is not allowed."""
    clips: dict[str, list[str]] = {}
    unexplained: dict[str, list[str]] = {}
    for task in tasks:
        for key, row in lacking(task, config.faces, config.captions).items():
            for name, reason in row.items():
                clips.setdefault(name, []).append(key)
                if not reason:
                    unexplained.setdefault(name, []).append(key)
    if unexplained and not config.allow_missing:
        listed = "; ".join(f"{len(keys)} clips lack a {name}: {_some(keys)}" for name, keys in unexplained.items())
        raise FclipError(f"{listed}; run the stage that makes it, or pack them without by --allow-missing")
    fate = "packed without" if config.allow_missing else "skipped for lack of a"
    return [f"{len(keys)} clips {fate} {name}: {_some(keys)}" for name, keys in clips.items()]


def _some(keys: list[str], most: int = 10) -> str:
    """The first keys, and that there are more."""
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _side_inputs(config: Config) -> Iterator[tuple[Path, str]]:
    """(folder, suffix) of the parts that are joined to the frames."""
    if config.faces == "cache":
        folder = config.faces_folder or dataset_folder(config) / "faces"
        if folder.is_dir() or not config.allow_missing:
            yield require_folder(folder, "faces", config), ".h5"
    if config.captions == "refined":
        folder = config.captions_folder or dataset_folder(config) / "refined"
        if folder.is_dir() or not config.allow_missing:
            yield require_folder(folder, "refined", config), ".jsonl"


class PackStage(ShardStage[Config]):
    """Join the parts of a shard, clip by clip."""

    name, version, suffix = "pack", 2, ".tar"

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the packed shard; clips that lack a part are skipped unless --allow-missing."""
        import contextlib

        from fclip.data.storage.captions import read_captions
        from fclip.data.storage.packed import packed_fields
        from fclip.data.storage.parts import FacesPart
        from fclip.data.storage.shards import ShardWriter, parse_info, read_shard

        parts = {path.suffix: path for path in task.inputs[1:]}
        captions = read_captions(parts[".jsonl"]) if ".jsonl" in parts else {}
        without = lacking(task, self.config.faces, self.config.captions)
        result = ShardResult()
        with contextlib.ExitStack() as stack:
            faces = stack.enter_context(FacesPart(parts[".h5"])) if ".h5" in parts else None
            writer = stack.enter_context(ShardWriter(out))
            for key, fields in take(read_shard(task.inputs[0]), task.payload):
                lost = without.get(key, {})
                if lost and not self.config.allow_missing:
                    reasons = [f"no {name}" + (f" ({reason})" if reason else "") for name, reason in lost.items()]
                    result.skipped.append((key, ", ".join(reasons)))
                    continue
                try:
                    track = _track(faces, key, fields)
                    caption = self._caption(captions.get(key), key, fields)
                    packed = packed_fields(key, fields, track, caption)
                except FclipError as failure:
                    result.failed.append((key, str(failure)))
                    continue
                writer.write(key, packed)
                result.ok.append(key)
                _count(result.tally, parse_info(key, packed), lost)
        return result

    def _caption(self, record: CaptionRecord | None, key: str, fields: dict[str, bytes]) -> CaptionRecord | None:
        """The caption by --captions: the refined one, or the data set's own (whose writers knew the label)."""
        from fclip.data.storage.shards import parse_info
        from fclip.records import CaptionRecord

        if self.config.captions == "refined":
            return record
        text = parse_info(key, fields).get("caption") if self.config.captions == "human" else None
        return CaptionRecord(key, text, "human", "", "", [], {}, True) if text else None


def _count(tally: dict[str, Any], info: dict[str, Any], lost: Iterable[str]) -> None:
    """Add a packed clip to the counts of its class, its part, and of what clips were packed without."""
    part = tally.setdefault("parts", {}).setdefault(info.get("part", "?"), {})
    for group in (tally.setdefault("classes", {}), part):
        group[info["label"]] = group.get(info["label"], 0) + 1
    for name in lost:
        missing = tally.setdefault("packed without", {})
        missing[name] = missing.get(name, 0) + 1


def _track(faces: FacesPart | None, key: str, fields: dict[str, bytes]) -> FaceTrack | None:
    """The face track of a clip, if there is one; FclipError when it was made from other frames."""
    import hashlib

    if faces is None or key not in faces.keys:
        return None
    return faces.read(key, hashlib.sha256(fields["frames.jpg"]).hexdigest())
