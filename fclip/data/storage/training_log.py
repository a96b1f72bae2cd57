"""The training log of a run, metrics.jsonl: one JSON object {"step": n, figure: number, ...} a line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from fclip.files import log_rows

LogRow = dict[str, float]


def read_training_log(path: Path) -> list[LogRow]:
    """The rows of a log, [] where there is none; lines that a crash cut off or that are damaged are left out."""
    return training_rows(log_lines(path))


def log_lines(path: Path) -> list[str]:
    """The lines of a log as text."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def training_rows(lines: Iterable[str]) -> list[LogRow]:
    """The rows of lines that hold one: a step, which is a whole number, and finite numbers."""
    rows = []
    for row in log_rows(lines):
        figures = {name: value for name, value in row.items() if _is_number(value)}
        if isinstance(figures.get("step"), int) and len(figures) == len(row):
            rows.append(figures)
    return rows


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e300 if isinstance(value, int) else math.isfinite(value)
