"""A small real stage for the runner's tests: upper-cases the lines of a text file; importable by worker processes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from fclip.config import ShardConfig, option
from fclip.files import atomic_write
from fclip.runner.shards import run_shards
from fclip.runner.stage import ShardResult, ShardStage, ShardTask


@dataclass(frozen=True)
class Config(ShardConfig):
    """Options of the toy stage."""

    suffix_text: str = option("", "text appended to each line", output=True)


class ToyStage(ShardStage[Config]):
    name, version, suffix = "toy", 1, ".txt"

    def process(self, task: ShardTask, out: Path) -> ShardResult:
        result = ShardResult()
        lines = task.inputs[0].read_text().splitlines()
        good = [line for line in lines if line != "bad"]
        result.ok, result.failed = good, [(line, "this line is bad") for line in lines if line == "bad"]
        with atomic_write(out) as temp:
            temp.write_text("".join(line.upper() + self.config.suffix_text + "\n" for line in good))
            hold(task.stem)
        return result


def hold(stem: str) -> None:
    """With TOY_HOLD set, only the first shard ends: the others wait, their temporary file written, for a signal."""
    parent = os.getppid()
    while os.environ.get("TOY_HOLD") and stem != "s0" and os.getppid() == parent:
        time.sleep(0.02)


def run_toy(source: Path, out: Path, **options):
    """Run the stage over every .in file of `source`."""
    config = Config(**{"workers": 1, **options})
    tasks = [ShardTask(path.stem, (path,)) for path in sorted(source.glob("*.in"))]
    return run_shards(ToyStage(config), tasks, out, config, {"extra.json": [1, 2]})


if __name__ == "__main__":
    import sys

    run_toy(Path(sys.argv[1]), Path(sys.argv[2]), workers=int(sys.argv[3]))


def write_source(folder: Path, files: int) -> Path:
    """Input of the toy stage: `files` text files of 20 lines in a new folder."""
    folder.mkdir()
    for index in range(files):
        (folder / f"s{index}.in").write_text("".join(f"line {index} {i}\n" for i in range(20)))
    return folder
