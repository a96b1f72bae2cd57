"""`fclip refine`: captions -> captions of facial movement only, with what was cut and why."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fclip.config import ShardConfig, option
from fclip.errors import FclipError
from fclip.stages.inputs import shard_tasks
from fclip.stages.result import StageReport
from fclip.stages.runner import ShardResult, ShardTask, run_shards
from fclip.stages.workspace import dataset_folder, stage_input, stage_output


@dataclass(frozen=True)
class Config(ShardConfig):
    """Cut what states or implies an emotion, and what is not about the face, from every caption.

    The label words of the data set are removed too (counterfactual verification). `--report` also runs the leak
    probe: how well a bag-of-words classifier guesses the label from the text alone, before and after.

    Example:  fclip refine --report
    """

    report: bool = option(False, "run the leak probe on the captions before and after")
    lexicon: Path | None = option(None, "folder with further word lists (<category>.txt, a term a line)")
    wordnet: bool = option(False, "also cut WordNet's synonyms of emotion words (if installed)", output=True)
    apply_review: Path | None = option(None, "review.csv edited by a person: its texts replace ours")


def run(config: Config) -> StageReport:
    """Refine every shard of captions; optionally probe what they give away."""
    folder = stage_input(config, "captions")
    out = stage_output(config, "refined")
    tasks = shard_tasks(folder, ".jsonl", "captions", config.limit)
    report = run_shards(RefineStage(config), tasks, out, config)
    if config.report:
        from fclip.stages.leaks import probe_folders

        probe = probe_folders(config, {"before": folder, "after": out})
        report.values["leak"] = probe.values
        report.lines += probe.lines
    return report


class RefineStage:
    """Refine the captions of a shard."""

    name, version, suffix = "refine", 1, ".jsonl"

    def __init__(self, config: Config) -> None:
        self.config = config
        self._labels: tuple[str, ...] | None = None
        self._refiner: Any = None

    @property
    def refiner(self) -> Any:
        """The refiner with its lexicons, built once a process."""
        if self._refiner is None:
            from fclip.captions.refine import Refiner

            self._refiner = Refiner(self.labels(), self.config.lexicon, self.config.wordnet)
        return self._refiner

    def labels(self) -> tuple[str, ...]:
        """Class names of the data set, from the frames folder beside the captions."""
        from fclip.data.splits import read_classes

        for folder in (
            self.config.input and self.config.input.parent / "frames",
            dataset_folder(self.config) / "frames",
        ):
            if folder and (folder / "classes.json").is_file():
                return tuple(read_classes(folder))
        raise FclipError(f"{dataset_folder(self.config)}: no frames/classes.json; run: fclip preprocess")

    def fingerprint(self) -> dict[str, Any]:
        """Rules version, lexicons, labels, review file."""
        return dict(self.refiner.fingerprint)

    def close(self) -> None:
        """Nothing to release."""

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the refined JSONL; a caption with nothing left is skipped, with the reason."""
        from fclip.data.jsonl import read_captions, write_captions

        result = ShardResult()
        records = []
        for record in list(read_captions(task.inputs[0]).values())[: task.payload]:
            found = self.refiner.refine(record.text)
            refined = dataclasses.replace(record, text=found.text, removed=found.removed)
            if not refined.text:
                result.skipped.append((record.key, "nothing about facial movement was left of the caption"))
                continue
            records.append(refined)
            result.ok.append(record.key)
        if records:
            write_captions(out, records)
        return result
