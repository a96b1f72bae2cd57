"""`fclip caption`: frames (and faces) -> one caption of the facial movement a clip, as JSONL."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fclip.config import ShardConfig, hash_of, option, options_of
from fclip.data.storage.unfinished import Journal
from fclip.engine.fetching import provide
from fclip.errors import ClipFailure, FclipError
from fclip.registry import CAPTIONERS
from fclip.runner.report import StageReport
from fclip.runner.shards import run_shards
from fclip.runner.stage import ShardResult, ShardStage, ShardTask
from fclip.runner.tasks import batches, shard_tasks, take
from fclip.runner.workspace import dataset_folder, require_folder, stage_input, stage_output

if TYPE_CHECKING:
    from fclip.captions.base import CaptionInput
    from fclip.records import CaptionRecord


log = logging.getLogger(__name__)

ACCOUNTS = ("prompt_tokens", "completion_tokens", "cost_usd")


@dataclass(frozen=True)
class Config(ShardConfig):
    """Describe the movement of facial parts in every clip.

    template works offline from the landmarks and is the honest baseline; human passes a data set's own captions
    through, which count as having seen the label; openai asks any OpenAI-compatible server; video-llava (the paper's
    choice), qwen3-vl, internvl ... or a local path run a model of transformers. Each has options of its own, which
    `fclip caption --mllm NAME --help` shows. Captions are label-blind unless --label-aware or
    --prompt paper is given.

    Example:  fclip caption --mllm template
              fclip caption --mllm video-llava --device cuda
              fclip caption --mllm video-llava --prompt paper --allow-test-labels
    """

    mllm: str = option(
        "template",
        "template, human, openai, video-llava, qwen3-vl ..., a hub id or a path; list = show them",
        output=True,
        registry=CAPTIONERS,
    )
    faces: Path | None = option(None, "faces folder instead of the workspace's (template needs it)")
    options: Any = options_of("mllm")


def run(config: Config) -> StageReport:
    """Caption every shard."""
    folder = stage_input(config, "frames")
    if shows_labels(config) and not config.options.allow_test_labels:
        _refuse_test_labels(folder)
    provide(config.weights())
    stage = CaptionStage(config)
    if stage.backend.expensive and not config.workers:
        config = dataclasses.replace(config, workers=1)  # it is busy enough, and a model fits into memory once
    log.warning("captioner %s, %s", config.mllm, stage.backend.runs_on)
    tasks = shard_tasks(folder, ".tar", "frames", config)
    if stage.backend.needs_faces:
        faces = faces_folder(config)
        tasks = [dataclasses.replace(t, inputs=(*t.inputs, faces / f"{t.stem}.h5")) for t in tasks]
        missing = [t.inputs[1] for t in tasks if not t.inputs[1].is_file()]
        if missing:
            raise FclipError(f"{missing[0]}: no face analysis of this shard; run: fclip face-analyze")
    report = run_shards(stage, tasks, stage_output(config, "captions"), config)
    used = report.values.get("tally", {})
    report.lines += [f"{used[name]:,.6g} {name.replace('_', ' ')}" for name in ACCOUNTS if name in used]
    if shows_labels(config) or stage.backend.saw_labels:
        report.lines.append("the captioner SAW THE LABELS: every caption, train, eval and report say so")
    return report


def shows_labels(config: Config) -> bool:
    """Whether the captioner is to be shown the labels."""
    return bool(getattr(config.options, "shows_label", False))


def faces_folder(config: Config) -> Path:
    """Where the face caches are; MissingOutput names face-analyze."""
    return require_folder(config.faces or dataset_folder(config) / "faces", "faces", config)


def _refuse_test_labels(folder: Path) -> None:
    from fclip.data.storage.splits import read_splits

    splits = read_splits(folder)
    tested = sorted({part for fold in splits.folds.values() for part in fold["test"]})
    if tested:
        raise FclipError(
            f"--label-aware and --prompt paper show the labels of test parts ({', '.join(tested)}) to the captioner; "
            "results on them would be worthless; --allow-test-labels does it all the same, on the record"
        )


class CaptionStage(ShardStage[Config]):
    """Caption the clips of a shard with one back end."""

    name, version, suffix = "caption", 2, ".jsonl"

    def load(self) -> Any:
        """The captioning back end."""
        from fclip.captions.base import create_captioner
        from fclip.engine.batches.devices import device_for

        device, _ = device_for(CAPTIONERS, self.config.mllm, self.config.device)
        return create_captioner(self.config.mllm, device, **vars(self.config.options))

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the JSONL of a shard. Dear captions are noted as they come, so that a run that is cut off and started
        again asks for the missing ones only.
        """
        from fclip.data.storage.captions import write_captions

        result = ShardResult()
        path = out.with_name(f".{task.stem}.unfinished")
        journal = Journal(path, self.config.resume) if self.backend.expensive else None
        records = []
        for group in batches(self._inputs(task, result), self.backend.batch_size):
            for clip, found in zip(group, self._caption(group, journal), strict=True):
                if isinstance(found, ClipFailure):
                    result.failed.append((clip.key, str(found)))
                    continue
                records.append(found)
                result.ok.append(clip.key)
                for name in ACCOUNTS:
                    if found.decoding.get(name) is not None:
                        result.tally[name] = result.tally.get(name, 0) + found.decoding[name]
        if records:
            write_captions(out, records)
        if journal:
            journal.remove()
        return result

    def _caption(self, clips: list[CaptionInput], journal: Journal | None) -> list[CaptionRecord | ClipFailure]:
        """Captions of clips, those that the journal holds taken from there."""
        if journal is None:
            return list(self.backend.caption(clips))
        asked = {clip.key: hash_of([self.fingerprint(), clip.key, clip.info["strip"], clip.label]) for clip in clips}
        known = {key: record for key, digest in asked.items() if (record := journal.find(digest))}
        wanted = [clip for clip in clips if clip.key not in known]
        found = self.backend.caption(wanted, lambda record: journal.add(asked[record.key], record))
        fresh = dict(zip([clip.key for clip in wanted], found, strict=True))
        return [known.get(clip.key) or fresh[clip.key] for clip in clips]

    def _inputs(self, task: ShardTask, result: ShardResult) -> Iterator[CaptionInput]:
        import contextlib

        import numpy as np

        from fclip.captions.base import CaptionInput
        from fclip.data.storage.parts import FacesPart
        from fclip.data.storage.shards import parse_frame_sample, read_shard
        from fclip.files import sha256_bytes

        with contextlib.ExitStack() as stack:
            faces = stack.enter_context(FacesPart(task.inputs[1])) if len(task.inputs) > 1 else None
            for key, fields in take(read_shard(task.inputs[0]), task.payload):
                try:
                    sample, strip = parse_frame_sample(key, fields), sha256_bytes(fields["frames.jpg"])
                    track = None
                    if faces is not None:
                        if key not in faces.keys:
                            result.skipped.append((key, "no face analysis of this clip"))
                            continue
                        track = faces.read(key, strip)
                except FclipError as failure:
                    result.failed.append((key, str(failure)))
                    continue
                label = sample.info["label"] if shows_labels(self.config) else None
                info = sample.info | {"strip": strip}
                yield CaptionInput(key, sample.frames, np.asarray(sample.info["times"]), track, info, label)
