"""A run folder: config.json, metrics.jsonl, step-numbered checkpoints with a LAST (and BEST) pointer.

A checkpoint `step-00000120/` holds model.safetensors (format fclip-1), state.safetensors (optimizer, random state,
position) and checkpoint.json (their hashes). It is written under a temporary name and renamed; then the pointer is
replaced; then older checkpoints that no pointer names are removed. So a kill at any moment leaves a run that resumes
from LAST.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fclip import __version__
from fclip.config import canonical_json, config_dict, hash_of
from fclip.data.storage.training_log import LogRow, read_training_log
from fclip.engine.train.options import TrainOptions, shown_recipe
from fclip.engine.train.state import TrainState, read_state, write_state
from fclip.errors import FclipError
from fclip.files import atomic_write, sync_folder
from fclip.models.base import ExpressionModel
from fclip.models.checkpoint import POINTERS, save_checkpoint
from fclip.runner.folder import OutputFolder
from fclip.runner.pointer import STATE, WEIGHTS, read_pointer, record_checkpoint, verify_checkpoint
from fclip.schema import JsonObject, parse_record, plain_fields, read_record, write_record

EVALUATION = (
    "eval/evaluation.json",
    "eval/results.json",
    "eval/explanations.npz",
)  # not true of the run any more once it is trained anew


@dataclass(frozen=True)
class RunIdentity:
    """What a run's result depends on: config.json. `config`: the options of training that change the result.

    `recipe`: the hyper-parameters that follow from them, for people to read; the hash leaves it out.
    """

    stage: Literal["train"]
    fclip: str
    dataset: str
    fold: str
    run_seed: int
    config: JsonObject
    classes: tuple[str, ...]
    prompts: dict[str, list[str]]
    clip_sha256: str | None
    data: str | None
    config_hash: str
    recipe: JsonObject = field(default_factory=dict)

    @classmethod
    def of(
        cls, options: TrainOptions, model: ExpressionModel, dataset: str, fold: str, seed: int, data: str | None
    ) -> RunIdentity:
        """The identity of a run; `data` is the hash of the packed folder."""
        value = {
            "stage": "train",
            "fclip": __version__,
            "dataset": dataset,
            "fold": fold,
            "run_seed": seed,
            "config": config_dict(options, output_only=True),
            "classes": list(model.classes),
            "prompts": model.prompts,
            "clip_sha256": model.clip_sha256,
            "data": data,
        }
        value |= {"config_hash": hash_of(value), "recipe": shown_recipe(options.recipe())}
        return parse_record(json.loads(canonical_json(value)), cls, "run")

    def options(self) -> TrainOptions:
        """The options that the run was trained with."""
        return parse_record(self.config, TrainOptions, "config.json")


@dataclass(frozen=True)
class RunSummary:
    """What a finished run comes to: done.json."""

    run: str
    dataset: str
    variant: str
    clip: str
    fold: str
    seed: int
    steps: int
    loss: float | None
    selection: str
    trainable: int
    cut_captions: int = 0
    activation: str | None = None


def read_identity(folder: Path) -> RunIdentity:
    """The identity of the run in a folder; FclipError if it is none."""
    return read_record(folder / "config.json", RunIdentity)


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def claim(self, identity: RunIdentity, *, overwrite: bool, resume: bool) -> Iterator[None]:
        """Hold the folder for a run with this identity; raises OutputDiffers as OutputFolder.claim does."""
        folder = OutputFolder(self.path, ["metrics.jsonl"])
        with folder.claim(plain_fields(identity), overwrite, resume):
            for stale in self.path.glob(".step-*"):
                shutil.rmtree(stale, ignore_errors=True)
            folder.remove_temporaries()
            if overwrite:
                for name in ("LAST", "BEST", "metrics.jsonl", "done.json", *EVALUATION):
                    (self.path / name).unlink(missing_ok=True)
            yield

    def summary(self) -> RunSummary | None:
        """The summary of a finished run; None where it is not finished, or a file of it is damaged."""
        try:
            summary = read_record(self.path / "done.json", RunSummary)
            for name in POINTERS:
                if name == "LAST" or (self.path / name).is_file():
                    for file in (WEIGHTS, STATE):
                        verify_checkpoint(self.pointer(name) / file, required=True)
        except FclipError:
            return None
        return summary

    def finish(self, summary: RunSummary) -> None:
        """Write done.json: the run is finished."""
        write_record(self.path / "done.json", summary)

    def pointer(self, name: str = "LAST") -> Path:
        """Folder of the checkpoint that LAST or BEST names; FclipError when there is none."""
        file = self.path / name
        if not file.is_file():
            raise FclipError(f"{self.path}: no finished checkpoint ({name} is missing); run: fclip train")
        return read_pointer(file)

    def chosen(self, select: str) -> Path:
        """The weights file that the run is tested with: of the last checkpoint, or of the best one."""
        return self.pointer("LAST" if select == "last" else "BEST") / WEIGHTS

    def save(self, model: ExpressionModel, state: TrainState, metadata: JsonObject, *, best: bool = False) -> Path:
        """Write a checkpoint for the state's step and point LAST (and BEST) at it."""
        name = f"step-{state.position.step:08d}"
        target, temp = self.path / name, self.path / f".{name}.{os.getpid()}"
        temp.mkdir()
        try:
            save_checkpoint(temp / WEIGHTS, model, **metadata)
            write_state(temp / STATE, state)
            record_checkpoint(temp)
            shutil.rmtree(target, ignore_errors=True)  # of an overwritten run, or of a kill before LAST was set
            os.replace(temp, target)
        finally:
            shutil.rmtree(temp, ignore_errors=True)
        sync_folder(self.path)
        for pointer in POINTERS if best else ("LAST",):
            with atomic_write(self.path / pointer) as path:
                path.write_text(name + "\n", encoding="utf-8")
        self._remove_unnamed()
        return target

    def _remove_unnamed(self) -> None:
        """Delete the checkpoints that no pointer names; none where a pointer cannot be read."""
        try:
            named = {self.pointer(p).name for p in POINTERS if (self.path / p).is_file()}
        except FclipError:
            return
        for folder in self.path.glob("step-*"):
            if folder.is_dir() and folder.name not in named:
                shutil.rmtree(folder, ignore_errors=True)

    def load_state(self) -> TrainState:
        """The resumable state of LAST, on the CPU; FclipError where it is not as it was written."""
        path = self.pointer() / STATE
        verify_checkpoint(path, required=True)
        return read_state(path)

    def log(self, row: LogRow) -> None:
        """Append one line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def trim_log(self, step: int) -> None:
        """Drop the lines after `step` (they were written after the checkpoint that we resume from)."""
        rows = [row for row in self.read_log() if row["step"] <= step]
        with atomic_write(self.path / "metrics.jsonl") as path:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def read_log(self) -> list[LogRow]:
        """The lines of metrics.jsonl; one that was cut off by a crash is left out."""
        return read_training_log(self.path / "metrics.jsonl")
