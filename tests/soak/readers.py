"""Every reader of a file, given damaged ones without any record: it answers, or says in one line what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Reader = Callable[[Path], Any]

EXTRA = {  # file name -> what it holds, where a finished workspace has none
    "part.failed.jsonl": b'{"key": "a", "reason": "no face"}\n',
    ".lock": b'{"host": "elsewhere", "pid": 7, "since": "2026-01-01 00:00:00"}',
    ".verified.json": b'{"a.tar": [1, 2, 3, 4, "00"]}',
    ".part.unfinished": b'\n{"input": "0", "record": {"key": "a"}}',
    "options.toml": b'seed = 3\n[face-analyze]\nbackend = "lite"\n',
    "table.csv": b"path;label;start;end\na.mp4;joy;0:01;2.5\nb.mp4;fear;1;1:02:03\n",
    "scores.csv": b"key,true,predicted,prob_joy,prob_fear\na,joy,joy,0.75,0.25\nb,fear,joy,0.5,0.5\n",
    "prompt.txt": b"Describe the {frames} frames in {max_tokens} tokens.\n",
    "descriptions.json": b'{"joy": "a smiling face", "fear": "wide eyes"}',
}


def write_extra(folder: Path) -> None:
    """Write the files of EXTRA, and pictures, features, explanations and weights, as fclip's own writers do."""
    from PIL import Image

    from fclip.data.storage.parts import write_features
    from fclip.files import resource_path
    from fclip.report.explanations import Explanations, write_explanations

    folder.mkdir(parents=True)
    for name, data in EXTRA.items():
        (folder / name).write_bytes(data)
    noise = np.random.default_rng(0).integers(0, 255, (2, 24, 32, 3), dtype=np.uint8)
    first, second = map(Image.fromarray, noise)
    for name in ("a.jpg", "a.png", "a.bmp", "a.tiff", "a.ppm"):
        first.save(folder / name)
    for name in ("a.gif", "a.webp"):
        first.save(folder / name, save_all=True, append_images=[second], duration=40)
    write_features(folder / "features.h5", {"0" * 64: np.ones((2, 3), np.float32)}, "f", {})
    half, keys = np.full((2, 1, 2), 0.5, np.float32), np.array(["a", "b"])
    shown = Explanations(
        keys=keys,
        modalities=np.array(["frames"]),
        classes=keys,
        labels=np.array([0, 1]),
        positive=half,
        negative=half,
        weights=half[:, :, 0],
        logits=half[:, 0],
        frames=noise[:, None],
        attention=np.ones((2, 1, 3, 4), np.float32),
        relevance=np.ones((2, 1, 3, 4), np.float32),
        occlusion=np.ones((2, 1, 3, 4), np.float32),
        agreement=np.ones(2, np.float32),
    )
    write_explanations(folder / "explanations.npz", shown)
    (folder / "lite.safetensors").write_bytes(resource_path("lite.safetensors").read_bytes())


def readers() -> dict[str, Reader]:
    """Glob of files, in a workspace or in the folder `extra` -> what reads them."""
    return {**_of_stages(), **_of_runs(), **_of_users()}


def _of_stages() -> dict[str, Reader]:
    from fclip.data.layouts import open_dataset
    from fclip.data.storage.captions import read_captions
    from fclip.data.storage.inspect import describe
    from fclip.data.storage.packed import parse_packed
    from fclip.data.storage.parts import FacesPart, read_features
    from fclip.data.storage.shards import parse_frame_sample, read_shard
    from fclip.data.storage.splits import read_classes, read_splits
    from fclip.data.storage.unfinished import Journal
    from fclip.runner.commit import CommitRecord, Manifest, read_failures, read_sealed
    from fclip.runner.folder import read_config
    from fclip.runner.hashes import hash_file
    from fclip.runner.lock import FolderLock

    def faces(path: Path) -> None:
        with FacesPart(path) as part:
            for key in part.keys:
                part.read(key, part._part.sha256s[key])

    def lock(path: Path) -> None:
        held = FolderLock(path.parent)
        held.acquire()
        held.release()

    return {
        "list/frames/*.tar": lambda p: [parse_frame_sample(*sample) for sample in read_shard(p)],
        "list/packed/*.tar": lambda p: [parse_packed(*sample) for sample in read_shard(p)],
        "list/faces/*.h5": faces,
        "list/captions/*.jsonl": read_captions,
        "list/refined/t*.jsonl": read_captions,
        "list/packed/splits.json": lambda p: read_splits(p.parent),
        "list/packed/classes.json": lambda p: read_classes(p.parent),
        "list/packed/manifest.json": lambda p: read_sealed(p, Manifest),
        "list/packed/t*.json": lambda p: read_sealed(p, CommitRecord),
        "list/packed/config.json": lambda p: read_config(p.parent),
        "demo7/source/dataset.json": lambda p: open_dataset("demo7", p.parent),
        "list/frames/*-00000.tar": describe,
        "list/faces/*-00000.h5": describe,
        "extra/part.failed.jsonl": read_failures,
        "extra/.lock": lock,
        "extra/.verified.json": hash_file,
        "extra/.part.unfinished": lambda p: Journal(p).find("0"),
        "extra/features.h5": lambda p: read_features(p, "f"),
    }


def _of_runs() -> dict[str, Reader]:
    from fclip.engine.evaluate.predictions import read_predictions, read_tables
    from fclip.engine.evaluate.results import Result
    from fclip.engine.provenance import read_provenance
    from fclip.engine.train.run_folder import RunFolder, RunIdentity, RunSummary
    from fclip.engine.train.state import read_state
    from fclip.models.checkpoint import load_checkpoint
    from fclip.report.evaluated import EvaluationRecord, LeakReport
    from fclip.report.explanations import read_explanations
    from fclip.runner.pointer import CheckpointRecord, read_pointer
    from fclip.schema import read_record

    return {
        "runs/*/eval/results.json": lambda p: read_record(p, Result),
        "runs/*/eval/evaluation.json": lambda p: read_record(p, EvaluationRecord),
        "runs/*/eval/predictions.csv": read_predictions,
        "runs/*-seed0/config.json": lambda p: read_record(p, RunIdentity),
        "runs/*-seed0/done.json": lambda p: read_record(p, RunSummary),
        "runs/*-seed0/provenance.json": lambda p: read_provenance(p.parent),
        "runs/*-seed0/metrics.jsonl": lambda p: RunFolder(p.parent).read_log(),
        "runs/*-seed0/LAST": read_pointer,
        "runs/*/step-*/checkpoint.json": lambda p: read_record(p, CheckpointRecord),
        "runs/*/step-*/state.safetensors": read_state,
        "runs/*/step-*/model.safetensors": load_checkpoint,
        "probed/leak.json": lambda p: read_record(p, LeakReport),
        "extra/scores.csv": read_tables,
        "extra/explanations.npz": read_explanations,
    }


def _of_users() -> dict[str, Reader]:
    from fclip.captions.captioners.prompts import load_prompt
    from fclip.captions.probe.review import read_review
    from fclip.config import resolve
    from fclip.data.layouts import open_dataset
    from fclip.data.media.images import read_image
    from fclip.data.media.sampling import SamplingPlan
    from fclip.data.media.video import read_clip
    from fclip.faces.lite.network import load_lite
    from fclip.models.backbone.clip import load_clip
    from fclip.models.baselines.descriptions import read_descriptions
    from fclip.models.convert import convert
    from fclip.stages import face_analyze

    plan = SamplingPlan.parse("4", 512)

    def toml(path: Path) -> None:
        resolve(face_analyze.Config, {}, command="face-analyze", commands=["face-analyze"], file=path, environment={})

    def converted(path: Path) -> None:
        convert(path, path.with_name("converted.safetensors"), "openai")

    return {
        "videos/[0-3].mp4": lambda p: read_clip(p, plan, size=(48, 48)),
        "extra/a.*": lambda p: read_clip(p, plan, size=(48, 48)),
        "extra/a.[jpbt][pnmi]*": read_image,
        "list.csv": lambda p: open_dataset("csv", p),
        "extra/table.csv": lambda p: open_dataset("csv", p),
        "probed/review.csv": read_review,
        "extra/options.toml": toml,
        "extra/prompt.txt": load_prompt,
        "extra/descriptions.json": read_descriptions,
        "extra/lite.safetensors": load_lite,
        "clip.safetensors": lambda p: load_clip("tiny", p),
        "clip.pt": converted,
    }
