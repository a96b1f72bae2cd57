"""What a command reports when it is done: counts, places and findings, as text for people and JSON for programs."""

from __future__ import annotations

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
