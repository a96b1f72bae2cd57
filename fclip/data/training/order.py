"""The order of clips: functions of (seed, epoch) and of the rank, known before anything is read.

Because a step's clips are known beforehand, any number of workers gives the same batches, training goes on
exactly at (epoch, step), and the ranks of a distributed run share each global batch among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """Which of `count` clips make up each of a rank's batches, epoch by epoch.

    train: a new order every epoch (with `labels`, those of the clips: all classes equally often), full batches, equally
    many on each rank; otherwise the clips' own order, each once over all ranks.
    """

    count: int
    batch_size: int
    train: bool
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    labels: Sequence[str] | None = None

    def steps(self, epoch: int) -> list[np.ndarray]:
        """The clips of each step of an epoch."""
        if not self.train:
            return eval_steps(self.count, self.batch_size, self.rank, self.world_size)
        if self.labels:
            order = balanced(self.labels, self.seed, epoch)
        else:
            order = shuffled(self.count, self.seed, epoch)
        return train_steps(order, self.batch_size, self.rank, self.world_size)


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of range(count), new in every epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def balanced(labels: Sequence[str], seed: int, epoch: int) -> np.ndarray:
    """Return len(labels) indices in random order in which all classes are equally frequent (up to one).

    A class's clips come in random order again and again, so that rare ones repeat and none is favoured.
    """
    rng = np.random.default_rng([seed, epoch])
    groups = [np.flatnonzero(np.array(labels) == name) for name in sorted(set(labels))]
    rng.shuffle(groups)
    shares = np.diff(np.arange(len(groups) + 1) * len(labels) // max(1, len(groups)))
    chosen = [_repeat_shuffled(group, share, rng) for group, share in zip(groups, shares, strict=True)]
    return rng.permutation(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def train_steps(order: np.ndarray, batch_size: int, rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
    """Cut an order into this rank's batches: full ones, equally many on each rank.

    A step's global batch is `world_size * batch_size` clips in a row, of which each rank takes its share; so
    one process with that batch size sees the same global batches. The last one is filled up from the order's
    beginning: every clip is seen in every epoch.
    """
    together = batch_size * world_size
    steps = -(-len(order) // together)
    table = np.resize(order, steps * together).reshape(steps, world_size, batch_size)
    return list(table[:, rank])


def eval_steps(count: int, batch_size: int, rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
    """Cut range(count) into this rank's batches: each clip once over all ranks, the last batch may be short."""
    mine = np.arange(rank, count, world_size)
    return [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]


def _repeat_shuffled(group: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    rounds = [rng.permutation(group) for _ in range(-(-count // len(group)))]
    return np.concatenate([*rounds, group[:0]])[:count]
