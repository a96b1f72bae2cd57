"""`fclip refine`: captions -> captions of facial movement only, with what was cut and why."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.config import ShardConfig, hash_of, option
from fclip.errors import FclipError
from fclip.runner.report import StageReport
from fclip.runner.shards import run_shards
from fclip.runner.stage import ShardResult, ShardStage, ShardTask
from fclip.runner.tasks import shard_tasks
from fclip.runner.workspace import dataset_folder, stage_input, stage_output

if TYPE_CHECKING:
    from fclip.captions.probe.review import ReviewRow


@dataclass(frozen=True)
class Config(ShardConfig):
    """Cut what states or implies an emotion, and what is not about the face, from every caption.

    Whole clauses are kept or dropped; what is left is not rewritten, and what was cut is stored with the reason. The
    label words of the data set go too, so that texts do not tell one label from another. `--report` also runs the leak
    probe: how well a bag-of-words classifier guesses the label from the text alone, before and after; it writes
    review.csv, the captions a person should look at. Edit its column `suggested`, then `--apply-review` takes it.

    Example:  fclip refine --report
              fclip refine --apply-review fclip-data/mafw/refined/review.csv --overwrite
    """

    report: bool = option(False, "run the leak probe before and after, and write the review queue")
    lexicon: Path | None = option(None, "folder with further word lists (<category>.txt, a term a line)")
    wordnet: bool = option(False, "also cut WordNet's synonyms of emotion words (if installed)", output=True)
    expressions: Literal["keep", "cut"] = option(
        "keep", "words for a whole expression (smile, frown, laugh ...): keep them, or cut their clauses", output=True
    )
    apply_review: Path | None = option(None, "review.csv edited by a person: its texts replace ours")


def run(config: Config) -> StageReport:
    """Refine every shard of captions; optionally probe what they give away."""
    folder = stage_input(config, "captions")
    out = stage_output(config, "refined")
    tasks = shard_tasks(folder, ".jsonl", "captions", config)
    report = run_shards(RefineStage(config), tasks, out, config)
    if config.report:
        from fclip.report.leaks import probe_refinement

        probe = probe_refinement(config, folder, out)
        report.values["leak"] = probe.values
        report.lines += probe.lines
    return report


class RefineStage(ShardStage[Config]):
    """Refine the captions of a shard."""

    name, version, suffix = "refine", 2, ".jsonl"

    def load(self) -> Any:
        """The refiner with its lexicons."""
        from fclip.captions.refine.refiner import Refiner

        expressions = self.config.expressions == "cut"
        return Refiner(self.labels(), self.config.lexicon, self.config.wordnet, expressions)

    @cached_property
    def edits(self) -> dict[str, ReviewRow]:
        """What a person changed in the review queue, by key."""
        from fclip.captions.probe.review import read_review

        return read_review(self.config.apply_review) if self.config.apply_review else {}

    def labels(self) -> tuple[str, ...]:
        """Class names of the data set, from the frames folder beside the captions."""
        from fclip.data.storage.splits import read_classes

        for folder in (
            self.config.input and self.config.input.parent / "frames",
            dataset_folder(self.config) / "frames",
        ):
            if folder and (folder / "classes.json").is_file():
                return tuple(read_classes(folder))
        raise FclipError(f"{dataset_folder(self.config)}: no frames/classes.json; run: fclip preprocess")

    def fingerprint(self) -> dict[str, Any]:
        """Rules version, lexicons, labels, a person's edits."""
        edits = {key: row.suggested for key, row in self.edits.items()}
        return {**super().fingerprint(), **({"edits": hash_of(edits)} if edits else {})}

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the refined JSONL; a caption with nothing left is skipped, with the reason."""
        from fclip.captions.probe.review import apply_review
        from fclip.data.storage.captions import read_captions, write_captions

        result = ShardResult()
        records = []
        for record in list(read_captions(task.inputs[0]).values())[: task.payload]:
            found = self.backend.refine(record.text)
            text, remark = apply_review(record.text, found.text, self.edits.get(record.key))
            removed = [*found.removed, *([("", remark)] if remark else [])]
            if not text:
                result.skipped.append((record.key, "nothing about facial movement was left of the caption"))
                continue
            records.append(dataclasses.replace(record, text=text, removed=removed))
            result.ok.append(record.key)
        if records:
            write_captions(out, records)
        return result
