"""What stands beside the shards of a stage: each one's failures and commit record, and the manifest of them all.

Order on disk: the output, then `<stem>.failed.jsonl` and the commit record `<stem>.json`; manifest.json last, which
makes it a Make target.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fclip.config import hash_of
from fclip.files import atomic_write, sha256_file, write_json
from fclip.runner.stage import ShardResult, ShardStage, ShardTask

MANIFEST = "manifest.json"


@dataclass
class Totals:
    """Sums over the commit records of a folder: clips by fate, what the stage tallied, a row for each shard."""

    counts: dict[str, int] = field(default_factory=lambda: {"ok": 0, "skipped": 0, "failed": 0})
    tally: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


class Commits:
    """The commit records of one stage and configuration in its output folder."""

    def __init__(self, folder: Path, stage: ShardStage[Any], config_hash: str) -> None:
        self.folder, self.stage, self.config_hash = folder, stage, config_hash

    def is_finished(self, task: ShardTask) -> bool:
        """Whether the task's commit record fits its inputs and configuration, and its output is whole."""
        try:
            record = self._read(task.stem)
            if record["config_hash"] != self.config_hash or record["payload"] != hash_of(task.payload):
                return False
            if record["inputs"] != {path.name: _file_record(path) for path in task.inputs}:
                return False
            output = self._output(task)
            return record["output"] == (_file_record(output) if output.is_file() else None)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write(self, task: ShardTask, result: ShardResult) -> None:
        """Write the failure list and the commit record of a shard whose output is in place."""
        failures = _failures(self.folder, task)
        if result.failed:
            with atomic_write(failures) as temp:
                temp.write_text("".join(json.dumps({"key": k, "reason": r}) + "\n" for k, r in result.failed))
        else:
            failures.unlink(missing_ok=True)
        output = self._output(task)
        if not result.ok:
            output.unlink(missing_ok=True)  # from an earlier configuration
        write_json(
            self.folder / f"{task.stem}.json",
            {
                "stage": self.stage.name,
                "version": self.stage.version,
                "config_hash": self.config_hash,
                "payload": hash_of(task.payload),
                "inputs": {path.name: _file_record(path) for path in task.inputs},
                "output": _file_record(output) if output.is_file() else None,
                "counts": {"ok": len(result.ok), "skipped": len(result.skipped), "failed": len(result.failed)},
                "skipped": [list(row) for row in result.skipped],
                **({"tally": result.tally} if result.tally else {}),
            },
        )

    def sum_up(self, tasks: Sequence[ShardTask]) -> Totals:
        """Add up the commit records of the tasks that have one."""
        totals = Totals()
        for task in tasks:
            try:
                record = self._read(task.stem)
            except (OSError, ValueError):
                continue
            if record.get("config_hash") != self.config_hash:
                continue
            for name in totals.counts:
                totals.counts[name] += record["counts"][name]
            _add_up(totals.tally, record.get("tally", {}))
            sha256 = record["output"]["sha256"] if record["output"] else None
            totals.rows.append({"stem": task.stem, "samples": record["counts"]["ok"], "sha256": sha256})
        return totals

    def write_manifest(self, totals: Totals, unchanged: bool) -> None:
        """Write the manifest, or touch it when nothing was written and it says the same."""
        manifest = self.folder / MANIFEST
        value = {
            "stage": self.stage.name,
            "config_hash": self.config_hash,
            "shards": totals.rows,
            "totals": totals.counts,
            **({"tally": totals.tally} if totals.tally else {}),
        }
        if unchanged and manifest.is_file() and json.loads(manifest.read_text()) == value:
            os.utime(manifest)
        else:
            write_json(manifest, value)

    def _read(self, stem: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.folder / f"{stem}.json").read_text(encoding="utf-8"))
        return value

    def _output(self, task: ShardTask) -> Path:
        return self.folder / f"{task.stem}{self.stage.suffix}"


def first_failures(folder: Path, tasks: Iterable[ShardTask], most: int = 5) -> list[tuple[str, str]]:
    """(key, reason) of the first clips that failed."""
    found: list[tuple[str, str]] = []
    for task in tasks:
        path = _failures(folder, task)
        if path.is_file():
            found += [(row["key"], row["reason"]) for row in map(json.loads, path.read_text().splitlines())]
        if len(found) >= most:
            break
    return found[:most]


def _failures(folder: Path, task: ShardTask) -> Path:
    return folder / f"{task.stem}.failed.jsonl"


def _file_record(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def _add_up(sums: dict[str, Any], counts: dict[str, Any]) -> None:
    """Add the numbers of `counts` to those of `sums`, group by group."""
    for name, count in counts.items():
        if isinstance(count, dict):
            _add_up(sums.setdefault(name, {}), count)
        else:
            sums[name] = sums.get(name, 0) + count
