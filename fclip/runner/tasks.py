"""What shard stages share on the reading side: tasks from a finished folder, and the --limit of clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from fclip.config import ShardConfig
from fclip.runner.stage import ShardTask
from fclip.runner.workspace import list_shards

T = TypeVar("T")


def shard_tasks(folder: Path, suffix: str, stage: str, config: ShardConfig) -> list[ShardTask]:
    """One task a shard of a finished stage folder; the payload says how many of its clips to take (None = all).

    --limit takes the first clips; of a stage that lost more than --max-failed, nothing is taken (FclipError).
    """
    tasks: list[ShardTask] = []
    left = config.limit
    for path, samples in list_shards(folder, suffix, stage, config.max_failed):
        if left is not None and left <= 0:
            break
        clips = samples or 0
        tasks.append(ShardTask(path.stem, (path,), left, clips if left is None else min(left, clips)))
        if left is not None:
            left -= samples if samples is not None else left
    return tasks


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items (itertools.batched, which Python 3.11 lacks)."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def take(items: Iterable[T], count: int | None) -> Iterator[T]:
    """The first `count` items; all when it is None."""
    return islice(items, count)
