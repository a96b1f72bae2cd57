"""`fclip pack`: frames + faces + refined captions -> training shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.config import ShardConfig, option
from fclip.errors import FclipError
from fclip.stages.inputs import shard_tasks, take
from fclip.stages.result import StageReport
from fclip.stages.runner import ShardResult, ShardTask, run_shards
from fclip.stages.workspace import dataset_folder, require_folder, stage_input, stage_output

if TYPE_CHECKING:
    from fclip.data.caches import FacesPart
    from fclip.data.records import CaptionRecord, FaceTrack


@dataclass(frozen=True)
class Config(ShardConfig):
    """Join frames, face maps and captions into the WebDataset shards that train, eval and zeroshot read.

    A clip without faces or caption is skipped and listed; with --allow-missing it is packed without them.

    Example:  fclip pack
              fclip pack --captions none --allow-missing
    """

    captions: Literal["refined", "human", "none"] = option("refined", "which captions to pack", output=True)
    faces: Literal["cache", "none"] = option("cache", "pack parsing and landmarks, or leave them out", output=True)
    faces_folder: Path | None = option(None, "faces folder instead of the workspace's")
    captions_folder: Path | None = option(None, "refined captions folder instead of the workspace's")
    allow_missing: bool = option(False, "pack clips that lack faces or a caption", output=True)


def run(config: Config) -> StageReport:
    """Pack every frames shard; counts per class go into the report."""
    from fclip.data.files import read_json
    from fclip.data.splits import read_classes

    folder = stage_input(config, "frames")
    tasks = []
    for task in shard_tasks(folder, ".tar", "frames", config.limit):
        inputs = [*task.inputs]
        for place, suffix in _side_inputs(config):
            path = place / f"{task.stem}{suffix}"
            if path.is_file():
                inputs.append(path)
            elif not config.allow_missing:
                raise FclipError(
                    f"{path}: this shard has no {suffix[1:]} part; run the stage that makes it, or --allow-missing"
                )
        tasks.append(ShardTask(task.stem, tuple(inputs), task.payload))
    extra = {"classes.json": list(read_classes(folder)), "splits.json": read_json(folder / "splits.json")}
    out = stage_output(config, "packed")
    report = run_shards(PackStage(config), tasks, out, config, extra)
    counts = class_counts(out, [task.stem for task in tasks])
    report.values["classes"] = counts
    report.lines.append("clips a class: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    return report


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


def class_counts(folder: Path, stems: list[str]) -> dict[str, int]:
    """Clips of each class in packed shards (reads their json fields only)."""
    import json

    from fclip.data.shards import read_shard
    from fclip.data.splits import read_classes

    counter: Counter[str] = Counter()
    for stem in stems:
        path = folder / f"{stem}.tar"
        if path.is_file():
            counter.update(json.loads(fields["json"])["label"] for _, fields in read_shard(path))
    return {name: counter[name] for name in read_classes(folder)}


class PackStage:
    """Join the parts of a shard, clip by clip."""

    name, version, suffix = "pack", 1, ".tar"

    def __init__(self, config: Config) -> None:
        self.config = config

    def fingerprint(self) -> dict[str, Any]:
        """Nothing beyond the configuration: the inputs' hashes stand in the commit records."""
        return {}

    def close(self) -> None:
        """Nothing to release."""

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the packed shard; clips that lack a part are skipped unless --allow-missing."""
        import contextlib

        from fclip.data.caches import FacesPart
        from fclip.data.jsonl import read_captions
        from fclip.data.packed import packed_fields
        from fclip.data.shards import ShardWriter, read_shard

        parts = {path.suffix: path for path in task.inputs[1:]}
        captions = read_captions(parts[".jsonl"]) if ".jsonl" in parts else {}
        result = ShardResult()
        with contextlib.ExitStack() as stack:
            faces = stack.enter_context(FacesPart(parts[".h5"])) if ".h5" in parts else None
            writer = stack.enter_context(ShardWriter(out))
            for key, fields in take(read_shard(task.inputs[0]), task.payload):
                try:
                    track = _track(faces, key, fields)
                    caption = self._caption(captions.get(key), key, fields)
                    lacking = self._lacking(track, caption)
                    if lacking and not self.config.allow_missing:
                        result.skipped.append((key, f"no {' and no '.join(lacking)}"))
                        continue
                    writer.write(key, packed_fields(key, fields, track, caption))
                except FclipError as failure:
                    result.failed.append((key, str(failure)))
                    continue
                result.ok.append(key)
        return result

    def _caption(self, record: CaptionRecord | None, key: str, fields: dict[str, bytes]) -> CaptionRecord | None:
        """The caption by --captions: the refined one, or the data set's own (whose writers knew the label)."""
        from fclip.data.records import CaptionRecord
        from fclip.data.shards import parse_info

        if self.config.captions == "refined":
            return record
        text = parse_info(key, fields).get("caption") if self.config.captions == "human" else None
        return CaptionRecord(key, text, "human", "", "", [], {}, True) if text else None

    def _lacking(self, track: FaceTrack | None, caption: CaptionRecord | None) -> list[str]:
        wanted = {
            "face analysis": self.config.faces == "cache" and track is None,
            "caption": self.config.captions != "none" and caption is None,
        }
        return [name for name, lacks in wanted.items() if lacks]


def _track(faces: FacesPart | None, key: str, fields: dict[str, bytes]) -> FaceTrack | None:
    """The face track of a clip, if there is one; FclipError when it was made from other frames."""
    import hashlib

    if faces is None or key not in faces.keys:
        return None
    return faces.read(key, hashlib.sha256(fields["frames.jpg"]).hexdigest())
