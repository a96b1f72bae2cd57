"""What a command reports when it is done: counts, places and findings, as text for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class StageReport:
    """Result of a command.

    `counts` are totals (clips ok, skipped, failed, shards written ...), `values` machine-readable findings, `lines`
    text for people. `exit_code` is 1 when too many clips failed.
    """

    stage: str
    out: Path | None = None
    counts: dict[str, int] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values (`--json`)."""
        return {
            "stage": self.stage,
            "out": str(self.out) if self.out else None,
            "counts": self.counts,
            **self.values,
        }

    def as_text(self) -> str:
        """The report for people: one summary line, then the lines."""
        summary = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        place = f" -> {self.out}" if self.out else ""
        return "\n".join([f"{self.stage}: {summary or 'done'}{place}", *self.lines])


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose first column is flush left and whose others are flush right; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def class_table(classes: Sequence[str], per_part: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines of a table of clips: a row for each class, a column for each part, sums, and each class's share."""
    total = sum(sum(counts.values()) for counts in per_part.values())
    rows = [["", *per_part, "all", "share"]]
    for name in classes:
        count = sum(counts.get(name, 0) for counts in per_part.values())
        cells = [str(counts.get(name, 0)) for counts in per_part.values()]
        rows.append([name, *cells, str(count), f"{100 * count / max(1, total):.1f} %"])
    sums = [str(sum(counts.values())) for counts in per_part.values()]
    return format_table([*rows, ["all", *sums, str(total), ""]])
