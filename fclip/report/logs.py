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


def mean_curve(logs: Sequence[Log], name: str) -> tuple[list[float], list[float]] | None:
    """(steps, values) of a logged figure: means over runs and over equal ranges of steps; None if it was not logged."""
    points = [(row["step"], row[name]) for log in logs for row in log if isinstance(row.get(name), (int, float))]
    if not points:
        return None
    steps, values = np.asarray(points, dtype=float).T
    bins = np.minimum((steps / max(steps.max(), 1) * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    x, y = (np.bincount(bins, each, BINS)[filled] / counts[filled] for each in (steps, values))
    return x.tolist(), y.tolist()


def logged_names(logs: Sequence[Log], prefix: str) -> list[str]:
    """Names of the logged figures that start with `prefix`, in the order of their first appearance."""
    return list(dict.fromkeys(name for log in logs for row in log for name in row if name.startswith(prefix)))
