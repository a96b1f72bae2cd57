"""Training figures for TensorBoard, beside metrics.jsonl: one scalar a name of a row, at the row's step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fclip.errors import MissingExtra


class EventFolder:
    """Writes rows {"step": n, name: value, ...} as TensorBoard events into a folder; needs the tensorboard package.

    A run that is resumed writes a further file, which hides what the one before it holds from its first step on.
    Raises MissingExtra where the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtra("tensorboard", "tensorboard") from None
        self._open, self._folder = SummaryWriter, folder
        self._writer: Any = None

    def write(self, row: Mapping[str, float]) -> None:
        """Add the figures of one row."""
        step = int(row["step"])
        if self._writer is None:
            self._writer = self._open(str(self._folder), purge_step=step)
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name.replace("weight_", "weight/").replace("eval_", "eval/"), value, step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()
