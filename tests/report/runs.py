"""Evaluated run folders of the real layout, with made-up predictions, written by the engine's own functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fclip.engine.evaluate.aggregate import make_rows
from fclip.engine.evaluate.predictions import PredictionTable
from fclip.engine.evaluate.results import Row, RunFacts, make_result
from fclip.engine.train.run_folder import RunFolder
from fclip.files import sha256_file
from fclip.records import CaptionSource
from fclip.report.evaluated import OUTPUTS, RECORD, EvaluationRecord, find_evaluated
from fclip.report.page.blocks import Cell, Table
from fclip.schema import write_record
from fclip.stages.report import Config

SEVEN = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")
MODALITIES = {
    "base": ("frames",),
    "star": ("frames", "parsing", "landmarks"),
    "dagger": ("frames", "caption"),
    "star-dagger": ("frames", "parsing", "landmarks", "caption"),
}


def write_run(root: Path, variant: str, fold: str, seed: int, **facts: Any) -> Path:
    """Write runs/<name>/ with eval/predictions.csv, eval/results.json and metrics.jsonl; `facts` change the result.

    skill: share of the clips that are right; clips: how many there are; name: the folder's; scene_of: clip -> scene.
    """
    skill, clips = facts.pop("skill", 0.7), facts.pop("clips", 60)
    dataset, steps = facts.get("dataset", "demo7"), facts.pop("steps", 20)
    scene_of = facts.pop("scene_of", lambda i: "")
    name = facts.pop("name", f"{dataset}-{variant}-fold{fold}-seed{seed}")
    classes = facts.pop("classes", SEVEN)
    folder = root / "runs" / name
    rng = np.random.default_rng([int(fold), seed, len(name), clips])
    table = PredictionTable(tuple(classes))
    truth = np.random.default_rng(int(fold)).integers(0, len(classes), clips)  # all runs of a fold test the same clips
    for i, true in enumerate(truth):
        best = true if rng.random() < skill else rng.integers(0, len(classes))
        scores = rng.normal(0, 1, len(classes))
        scores[best] += 4
        probabilities = np.exp(scores) / np.exp(scores).sum()
        table.add(f"f{fold}-{i:05d}", classes[true], probabilities, MODALITIES.get(variant, ("frames",)), scene_of(i))
    folder.mkdir(parents=True)
    table.write(folder / "eval" / "predictions.csv")
    of_table = {
        "captions": facts.pop("captions", None),
        "trainable": facts.pop("trainable", 1_000_000 + 1000 * len(variant)),
    }
    known = {"dataset": dataset, "clip": "tiny", "selection": "last", "checkpoint_sha256": "0" * 64, **facts}
    described = RunFacts(run=name, variant=variant, fold=fold, seed=seed, **known)
    write_record(folder / "eval" / "results.json", make_result(described, table, draws=20, **of_table))
    (folder / "eval" / "confusion.png").write_bytes(b"")  # no report reads it
    outputs = {name: sha256_file(folder / "eval" / name) for name in OUTPUTS}
    write_record(folder / "eval" / RECORD, EvaluationRecord({}, outputs))
    run = RunFolder(folder)
    for step in range(1, steps + 1):
        weights = {f"weight_{m}": 1 / len(MODALITIES[variant]) for m in MODALITIES.get(variant, ())}
        run.log({"step": step, "epoch": 0, "lr": 0.1, "loss": 4 / step**0.5, **weights})
    return folder


def rows_of(root: Path, **options: Any) -> list[Row]:
    """The rows of all runs below `root`."""
    return [row for row, _ in make_rows(find_evaluated(Config(root=root, **options), ()))]


def column(table: Table, name: str) -> list[Cell]:
    """A column of a table by its name."""
    return [row[list(table.head).index(name)] for row in table.rows]


def write_comparison(root: Path, folds: int = 2, seeds: int = 2) -> None:
    """Runs of the four variants, an ablation, fixed weights, test-set selection, a transfer and an in-domain one."""
    skills = {"base": 0.6, "star": 0.66, "dagger": 0.68, "star-dagger": 0.72}
    for fold in map(str, range(1, folds + 1)):
        for seed in range(seeds):
            for variant, skill in skills.items():
                captions = CaptionSource("template", False) if "dagger" in variant else None
                write_run(root, variant, fold, seed, skill=skill, captions=captions)
    write_run(root, "base", "1", 0, name="demo7-scale-0.3-fold1-seed0", set=("scale=0.3",))
    fixed = ("fusion_weights=video=0.3",)
    write_run(root, "star-dagger", "1", 0, name="demo7-video-0.3-fold1-seed0", set=fixed, skill=0.6)
    write_run(root, "dfer-clip", "1", 0, selection="best-on-test", trainable=3_000_000)
    blind = {"without": ("caption",), "checkpoint": None}
    transfer = {"skill": 0.4, **blind}
    write_run(root, "dagger", "1", 0, name="demo11-to-demo7-dagger-fold1-seed0", source="demo11", **transfer)
    write_run(root, "dagger", "1", 0, name="demo7-to-demo7-dagger-fold1-seed0", source="demo7", **transfer)
    plain = {"source": "none", "trainable": 0, "skill": 0.2, **blind}
    write_run(root, "zeroshot-clip", "1", 0, name="none-to-demo7-zeroshot-clip-fold1-seed0", **plain)
