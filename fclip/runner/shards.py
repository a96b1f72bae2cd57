"""The one loop of all shard stages: claim the folder, do what is not finished, commit shard by shard, sum up."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fclip.config import ShardConfig, config_dict, hash_of
from fclip.files import read_json, write_json
from fclip.runner.commit import Commits, Totals, first_failures
from fclip.runner.folder import OutputFolder
from fclip.runner.pool import process_all
from fclip.runner.report import StageReport
from fclip.runner.stage import ShardStage, ShardTask

log = logging.getLogger(__name__)


def run_shards(
    stage: ShardStage[Any],
    tasks: Sequence[ShardTask],
    out: Path,
    config: ShardConfig,
    extra: dict[str, Any] | None = None,
) -> StageReport:
    """Process every task that is not finished and return the totals.

    `extra` maps file names to JSON values written beside the shards (classes.json, splits.json). Raises OutputDiffers
    (exit 3) when the folder holds output of another configuration or another process works in it; nothing is ever
    deleted but our own temporary files.
    """
    identity = {
        "stage": stage.name,
        "version": stage.version,
        "config": config_dict(config, output_only=True),
        "fingerprint": stage.fingerprint(),
    }
    mine = [task for i, task in enumerate(tasks) if i % config.num_shards == config.shard_index]
    stems = [task.stem for task in mine] if config.num_shards > 1 else None
    folder = OutputFolder(out, extra or (), (config.shard_index, config.num_shards))
    commits = Commits(out, stage, hash_of(identity))
    with folder.claim(identity, config.overwrite, config.resume):
        folder.remove_temporaries(stems)
        for name, value in (extra or {}).items():
            _write_if_changed(out / name, value)
        pending = [task for task in mine if config.overwrite or not commits.is_finished(task)]
        log.info("%s: %d of %d shards to do in %s", stage.name, len(pending), len(mine), out)
        try:
            for task, result in process_all(stage, pending, out, config.workers):
                commits.write(task, result)
        finally:
            folder.remove_temporaries(stems)
        totals = commits.sum_up(tasks)
        report = _report(stage, tasks, out, config, totals, len(pending))
        if report.values["complete"]:
            commits.write_manifest(totals, unchanged=not pending)
    return report


def _write_if_changed(path: Path, value: Any) -> None:
    if not path.is_file() or read_json(path) != json.loads(json.dumps(value)):
        write_json(path, value)


def _report(
    stage: ShardStage[Any], tasks: Sequence[ShardTask], out: Path, config: ShardConfig, totals: Totals, written: int
) -> StageReport:
    """What is in the folder now; `complete` when every shard (of all jobs) is there and few enough clips failed."""
    counts, done = totals.counts, len(totals.rows)
    complete = done == len(tasks)
    report = StageReport(stage.name, out, dict(counts), {"shards": len(tasks), "written": written})
    report.values |= {"tally": totals.tally} if totals.tally else {}
    report.lines.append(f"{written} shards written, {done - written if complete else 0} verified and kept")
    total = sum(counts.values())
    if total and counts["failed"] > config.max_failed * total:
        complete = False
        report.exit_code = 1
        report.lines.append(
            f"{counts['failed']} of {total} clips failed (more than --max-failed {config.max_failed:g}); "
            f"reasons in {out}/*.failed.jsonl; the work is kept"
        )
    report.lines += [f"failed: {key}: {reason}" for key, reason in first_failures(out, tasks)]
    report.values["complete"] = complete
    return report
