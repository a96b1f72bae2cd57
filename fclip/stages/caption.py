"""`fclip caption`: frames (and faces) -> one caption of the facial movement a clip, as JSONL."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.config import ShardConfig, hash_of, option
from fclip.data.storage.unfinished import Journal
from fclip.errors import ClipFailure, FclipError, UsageError
from fclip.runner.report import StageReport
from fclip.runner.shards import run_shards
from fclip.runner.stage import ShardResult, ShardStage, ShardTask
from fclip.runner.tasks import batches, shard_tasks, take
from fclip.runner.workspace import dataset_folder, require_folder, stage_input, stage_output

if TYPE_CHECKING:
    from fclip.captions.base import CaptionInput
    from fclip.records import CaptionRecord


log = logging.getLogger(__name__)

WITHOUT_PROMPT = ("template", "human")
ACCOUNTS = ("prompt_tokens", "completion_tokens", "cost_usd")


@dataclass(frozen=True)
class Config(ShardConfig):
    """Describe the movement of facial parts in every clip.

    template works offline from the landmarks and is the honest baseline; human passes a data set's own captions
    through, which count as having seen the label; openai asks any OpenAI-compatible server; video-llava (the paper's
    choice), qwen3-vl, internvl ... or a local path run a model of transformers. Captions are label-blind unless
    --label-aware is given.

    Example:  fclip caption --mllm template
              fclip caption --mllm video-llava --device cuda
    """

    mllm: str = option(
        "template",
        "template, human, openai, video-llava, qwen3-vl ..., a hub id or a path; list = show them",
        output=True,
    )
    faces: Path | None = option(None, "faces folder instead of the workspace's (template needs it)")
    prompt: Path | None = option(None, "file with the prompt instead of the built-in one")
    label_aware: bool = option(False, "show the label in the prompt, as the paper does (leaks it)", output=True)
    allow_test_labels: bool = option(False, "allow --label-aware on test parts too")
    batch_size: int = option(8, "clips that a transformers model describes at once")
    max_tokens: int = option(100, "longest caption in tokens", output=True)
    base_url: str | None = option(None, "server for --mllm openai, e.g. http://localhost:8000/v1")
    model: str | None = option(None, "model name for --mllm openai", output=True)
    concurrency: int = option(8, "requests at once for --mllm openai")
    media: Literal["images", "video"] = option("images", "how --mllm openai sends the frames", output=True)
    timeout: float = option(120.0, "seconds to wait for an answer of --mllm openai before asking again")
    prices: tuple[float, ...] = option(
        (), "USD per million prompt,completion tokens of --mllm openai, for the cost on record", output=True
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("auto", "weights of a transformers model")
    quantize: Literal["none", "8bit", "4bit"] = option("none", "quantised weights (needs bitsandbytes)")
    revision: str | None = option(None, "revision of a hub model", output=True)
    allow_remote: bool = option(False, "let --mllm openai send faces to a server on another machine")


def run(config: Config) -> StageReport:
    """Caption every shard; with `--mllm list`, only list the back ends."""
    from fclip.captions.base import list_captioners

    if config.mllm == "list":
        rows = [dataclasses.asdict(row) for row in list_captioners()]
        return StageReport(
            "caption", values={"captioners": rows}, lines=[f"{r['name']:14s} {r['needs']}" for r in rows]
        )
    folder = stage_input(config, "frames")
    if config.label_aware and config.mllm in WITHOUT_PROMPT:
        raise UsageError(f"--mllm {config.mllm} has no prompt to show a label in; leave --label-aware out")
    if config.label_aware and not config.allow_test_labels:
        _refuse_test_labels(folder)
    stage = CaptionStage(config)
    if stage.backend.slow and not config.workers:
        config = dataclasses.replace(config, workers=1)  # it is busy enough, and a model fits into memory once
    log.warning("captioner %s, %s", config.mllm, stage.backend.place)
    tasks = shard_tasks(folder, ".tar", "frames", config.limit)
    if stage.backend.needs_faces:
        faces = faces_folder(config)
        tasks = [ShardTask(t.stem, (*t.inputs, faces / f"{t.stem}.h5"), t.payload) for t in tasks]
        missing = [t.inputs[1] for t in tasks if not t.inputs[1].is_file()]
        if missing:
            raise FclipError(f"{missing[0]}: no face analysis of this shard; run: fclip face-analyze")
    report = run_shards(stage, tasks, stage_output(config, "captions"), config)
    used = report.values.get("tally", {})
    report.lines += [f"{used[name]:,.6g} {name.replace('_', ' ')}" for name in ACCOUNTS if name in used]
    if config.label_aware or config.mllm == "human":
        report.lines.append("the captioner SAW THE LABELS: every caption, train, eval and report say so")
    return report


def faces_folder(config: Config) -> Path:
    """Where the face caches are; MissingOutput names face-analyze."""
    return require_folder(config.faces or dataset_folder(config) / "faces", "faces", config)


def _refuse_test_labels(folder: Path) -> None:
    from fclip.data.storage.splits import read_splits

    splits = read_splits(folder)
    tested = sorted({part for fold in splits.folds.values() for part in fold["test"]})
    if tested:
        raise FclipError(
            f"--label-aware would show the labels of test parts ({', '.join(tested)}) to the captioner; "
            "results on them would be worthless; --allow-test-labels does it all the same, on the record"
        )


class CaptionStage(ShardStage[Config]):
    """Caption the clips of a shard with one back end."""

    name, version, suffix = "caption", 1, ".jsonl"

    def load(self) -> Any:
        """The captioning back end."""
        from fclip.captions.base import create_captioner
        from fclip.engine.batches.devices import choose_device

        c = self.config
        options: dict[str, Any] = {}
        if c.mllm not in WITHOUT_PROMPT:
            options = {"prompt": c.prompt, "label_aware": c.label_aware, "max_tokens": c.max_tokens}
            if c.mllm == "openai":
                options |= {"base_url": c.base_url, "model": c.model, "concurrency": c.concurrency}
                options |= {"allow_remote": c.allow_remote, "media": c.media}
                options |= {"timeout": c.timeout, "prices": c.prices}
            else:
                options |= {"device": str(choose_device(c.device)), "batch_size": c.batch_size}
                options |= {"dtype": c.dtype, "quantize": c.quantize, "revision": c.revision}
        return create_captioner(c.mllm, **options)

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the JSONL of a shard. Dear captions are noted as they come, so that a run that is cut off and started
        again asks for the missing ones only.
        """
        from fclip.data.storage.captions import write_captions

        result = ShardResult()
        path = out.with_name(f".{task.stem}.unfinished")
        journal = Journal(path, self.config.resume) if self.backend.slow else None
        records = []
        for group in batches(self._inputs(task, result), self.backend.at_once):
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
                label = sample.info["label"] if self.config.label_aware else None
                info = sample.info | {"strip": strip}
                yield CaptionInput(key, sample.frames, np.asarray(sample.info["times"]), track, info, label)
