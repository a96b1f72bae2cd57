"""Training logs (metrics.jsonl) as curves: few points, averaged over the runs of a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fclip.data.storage.training_log import LogRow, log_lines, training_rows

MAX_LINES = 1500  # read of one run; a plot shows no more
BINS = 40  # points of a curve, each the mean of its steps
Log = list[LogRow]


def read_log(path: Path) -> Log:
    """The rows of a metrics.jsonl, evenly thinned out where there are many; a line cut off by a crash is left out."""
    lines = log_lines(path)
    step = -(-len(lines) // MAX_LINES) or 1
    kept = [line for i, line in enumerate(lines) if i % step == 0 or '"eval_' in line]
    return training_rows(kept)


def epochs(log: Log) -> float:
    """Epochs that a run was trained for, as far as its log tells."""
    return 1.0 + max((row["epoch"] for row in log if "epoch" in row), default=0.0)


def mean_curve(logs: Sequence[Log], name: str) -> tuple[list[float], list[float]] | None:
    """(epochs, values) of a logged figure: means over runs and over equal ranges of epochs; None if it was not logged.

    A step's time is its share of all steps of its run, in epochs; rows of the end of an epoch have none of their own.
    """
    points = []
    for log in logs:
        scale = epochs(log) / max((row["step"] for row in log), default=1)
        points += [(row["step"] * scale, row[name]) for row in log if isinstance(row.get(name), (int, float))]
    if not points:
        return None
    times, values = np.asarray(points, dtype=float).T
    bins = np.minimum((times / max(times.max(), 1e-9) * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    x, y = (np.bincount(bins, each, BINS)[filled] / counts[filled] for each in (times, values))
    return x.tolist(), y.tolist()


def logged_names(logs: Sequence[Log], prefix: str) -> list[str]:
    """Names of the logged figures that start with `prefix`, in the order of their first appearance."""
    return list(dict.fromkeys(name for log in logs for row in log for name in row if name.startswith(prefix)))
