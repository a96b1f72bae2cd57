"""Every reader of a file, given damaged ones without any record: it answers, or says in one line what is wrong."""

from __future__ import annotations

import os
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fclip.errors import FclipError
from tests.soak.mutate import mutated

Reader = Callable[[Path], Any]


def readers() -> dict[str, Reader]:
    """Glob of files in a workspace -> what reads them."""
    from fclip.config import resolve
    from fclip.data.layouts import open_dataset
    from fclip.data.media.sampling import SamplingPlan
    from fclip.data.media.video import read_clip
    from fclip.data.storage.captions import read_captions
    from fclip.data.storage.inspect import describe
    from fclip.data.storage.packed import parse_packed
    from fclip.data.storage.parts import FacesPart
    from fclip.data.storage.shards import parse_frame_sample, read_shard
    from fclip.data.storage.splits import read_classes, read_splits
    from fclip.data.storage.unfinished import Journal
    from fclip.engine.evaluate.predictions import read_predictions
    from fclip.engine.evaluate.results import Result
    from fclip.engine.train.run_folder import RunFolder, RunIdentity, RunSummary
    from fclip.engine.train.state import read_state
    from fclip.models.checkpoint import load_checkpoint
    from fclip.report.evaluated import EvaluationRecord, LeakReport
    from fclip.runner.commit import CommitRecord, Manifest, read_failures, read_sealed
    from fclip.runner.folder import read_config
    from fclip.runner.hashes import hash_file
    from fclip.runner.lock import FolderLock
    from fclip.runner.pointer import CheckpointRecord, read_pointer
    from fclip.schema import read_record
    from fclip.stages import face_analyze

    def faces(path: Path) -> None:
        with FacesPart(path) as part:
            for key in part.keys:
                part.read(key, part._part.sha256s[key])

    def lock(path: Path) -> None:
        held = FolderLock(path.parent)
        held.acquire()
        held.release()

    def toml(path: Path) -> None:
        resolve(face_analyze.Config, {}, command="face-analyze", commands=["face-analyze"], file=path, environment={})

    def log(path: Path) -> None:
        RunFolder(path.parent).read_log()

    return {
        "demo7/frames/*.tar": lambda p: [parse_frame_sample(*sample) for sample in read_shard(p)],
        "demo7/packed/*.tar": lambda p: [parse_packed(*sample) for sample in read_shard(p)],
        "demo7/faces/*.h5": faces,
        "demo7/captions/*.jsonl": read_captions,
        "demo7/refined/part*.jsonl": read_captions,
        "demo7/packed/splits.json": lambda p: read_splits(p.parent),
        "demo7/packed/classes.json": lambda p: read_classes(p.parent),
        "demo7/packed/manifest.json": lambda p: read_sealed(p, Manifest),
        "demo7/packed/part*.json": lambda p: read_sealed(p, CommitRecord),
        "demo7/packed/config.json": lambda p: read_config(p.parent),
        "*.failed.jsonl": read_failures,
        "runs/*/eval/results.json": lambda p: read_record(p, Result),
        "runs/*/eval/evaluation.json": lambda p: read_record(p, EvaluationRecord),
        "runs/*/eval/predictions.csv": read_predictions,
        "runs/*-seed0/config.json": lambda p: read_record(p, RunIdentity),
        "runs/*-seed0/done.json": lambda p: read_record(p, RunSummary),
        "runs/*-seed0/metrics.jsonl": log,
        "runs/*-seed0/LAST": read_pointer,
        "runs/*/step-*/checkpoint.json": lambda p: read_record(p, CheckpointRecord),
        "runs/*/step-*/state.safetensors": read_state,
        "runs/*/step-*/model.safetensors": load_checkpoint,
        "demo7/refined/leak.json": lambda p: read_record(p, LeakReport),
        "demo7/source/dataset.json": lambda p: open_dataset("demo7", p.parent),
        "demo7/source/clips/demo7-0000[0-3].mp4": lambda p: read_clip(p, SamplingPlan.parse("4", 512), size=(48, 48)),
        "demo7/frames/part1-00000.tar": describe,
        "demo7/faces/part1-00000.h5": describe,
        ".lock": lock,
        ".verified.json": lambda p: hash_file(p),
        ".part.unfinished": lambda p: Journal(p).find("0"),
        "options.toml": toml,
    }


EXTRA = {  # what a finished workspace does not hold
    "part.failed.jsonl": '{"key": "a", "reason": "no face"}\n',
    ".lock": '{"host": "elsewhere", "pid": 7, "since": "2026-01-01 00:00:00"}',
    ".verified.json": '{"a.tar": [1, 2, 3, 4, "00"]}',
    ".part.unfinished": '\n{"input": "0", "record": {"key": "a"}}',
    "options.toml": 'seed = 3\n[face-analyze]\nbackend = "lite"\n',
}


def read_damaged(reference: Path, seed: int, count: int) -> tuple[Counter[str], list[str]]:
    """Damage files and read them, `count` times, in a process of its own (a library may crash)."""
    place, name = tempfile.mkstemp()
    pid = os.fork()
    if pid == 0:
        try:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 2)
            with os.fdopen(place, "w", errors="backslashreplace") as report:
                _read(reference, seed, count, report)
        finally:
            os._exit(0)
    os.close(place)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    lines = Path(name).read_text(errors="replace").splitlines()
    os.unlink(name)
    counts, findings = Counter[str](), list[str]()
    for line in lines:
        kind, _, what = line.partition("\t")
        counts[kind] += 1
        if kind == "defect":
            findings.append(what)
    if status < 0:
        findings.append(f"signal {-status} after {lines[-1] if lines else 'nothing'}")
        counts["crash"] += 1
    return counts, findings


def _read(reference: Path, seed: int, count: int, report: Any) -> None:
    rng = random.Random(seed)
    table = readers()
    samples: dict[str, list[tuple[str, bytes]]] = {}
    for pattern in table:
        if pattern in EXTRA or pattern == "*.failed.jsonl":
            extra = "part.failed.jsonl" if pattern.startswith("*") else pattern
            samples[pattern] = [(extra, EXTRA[extra].encode())]
        else:
            samples[pattern] = [(path.name, path.read_bytes()) for path in sorted(reference.glob(pattern))[:3]]
    patterns = [pattern for pattern in table if samples[pattern]]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            pattern = rng.choice(patterns)
            name, data = rng.choice(samples[pattern])
            how, changed = mutated(rng, data)
            path = Path(folder) / name
            path.write_bytes(changed)
            try:
                table[pattern](path)
                report.write("answered\n")
            except FclipError:
                report.write("refused\n")
            except Exception:
                last = " | ".join(traceback.format_exc().strip().splitlines()[-5:])
                kept = Path(tempfile.gettempdir()) / f"fclip-soak-{seed}-{name}"
                kept.write_bytes(changed)
                report.write(f"defect\t{pattern} {how} {kept}: {last}\n")
            report.flush()
            path.unlink(missing_ok=True)
