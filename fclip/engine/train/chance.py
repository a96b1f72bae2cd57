"""Whether a training has learned anything: its last loss beside the loss of a model that answers at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fclip.data.storage.training_log import LogRow

NEAR = 0.97  # a mean loss above this share of the loss at chance tells nothing apart


def chance_warning(rows: Sequence[LogRow]) -> str | None:
    """One line for a run whose mean loss over its last epoch is not 3 % below chance, with what to try; else None.

    `rows` are those of metrics.jsonl; a log without the loss at chance gives None.
    """
    steps = [row for row in rows if {"loss", "chance", "epoch"} <= row.keys()]
    last = [row for row in steps if row["epoch"] == steps[-1]["epoch"]]
    if not last:
        return None
    loss, chance = (float(np.mean([row[name] for row in last])) for name in ("loss", "chance"))
    if loss <= NEAR * chance:
        return None
    said = f"LEARNED NOTHING: mean loss of the last epoch {loss:.3f}, {chance:.3f} at chance"
    if "lr" not in last[0]:
        return f"{said}; the signals do not tell these classes apart: try more clips, or look at their labels"
    lr = max(row["lr"] for row in steps)
    return f"{said}; try --lr {10 * lr:g} (it was {lr:g}), --optimizer adamw or more --epochs"
