"""The one loop of all shard stages: claim the folder, do what is not finished, commit shard by shard, sum up."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fclip.config import ShardConfig, config_dict, hash_of
from fclip.errors import FclipError
from fclip.files import read_json, write_json
from fclip.runner.commit import MANIFEST, Commits, Manifest, first_failures
from fclip.runner.folder import OutputFolder
from fclip.runner.hashes import learn, save_hashes, writes_into
from fclip.runner.pool import process_all
from fclip.runner.report import StageReport
from fclip.runner.stage import ShardStage, ShardTask
from fclip.runner.workspace import too_many_failed

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
    commits = Commits(out, stage, hash_of(identity))
    folder = OutputFolder(out, extra or (), (config.shard_index, config.num_shards), commits.found_hashes)
    with folder.claim(identity, config.overwrite, config.resume):
        folder.remove_temporaries(stems)
        writes_into(out)
        for name, value in (extra or {}).items():
            _write_if_changed(out / name, value)
        pending = [task for task in mine if config.overwrite or not commits.is_finished(task)]
        log.info("%s: %d of %d shards to do in %s", stage.name, len(pending), len(mine), out)
        if pending:
            (out / MANIFEST).unlink(missing_ok=True)  # not true any more
        try:
            for done in process_all(stage, pending, out, config.workers):
                commits.write(done.task, done.result, done.inputs)
                learn(done.inputs)
        finally:
            folder.remove_temporaries(stems)
            save_hashes()
        found = commits.sum_up(tasks, extra or ())
        total, failed = sum(found.totals.values()), found.totals["failed"]
        found = replace(found, accepted=failed <= config.max_failed * total)
        if len(found.shards) == len(tasks):
            commits.write_manifest(found)
    return _report(found, tasks, out, config.max_failed, len(pending))


def _write_if_changed(path: Path, value: Any) -> None:
    try:
        same = read_json(path) == json.loads(json.dumps(value))
    except FclipError:
        same = False
    if not same:
        write_json(path, value)


def _report(found: Manifest, tasks: Sequence[ShardTask], out: Path, max_failed: float, written: int) -> StageReport:
    """What is in the folder now; `complete` when every shard (of all jobs) is there and few enough clips failed."""
    done, counts = len(found.shards), found.totals
    complete = done == len(tasks)
    report = StageReport(found.stage, out, dict(counts), {"shards": len(tasks), "written": written})
    report.values |= {"tally": found.tally} if found.tally else {}
    report.lines.append(f"{written} shards written, {done - written if complete else 0} verified and kept")
    if not found.accepted:
        report.exit_code = 1
        report.lines.append(f"{too_many_failed(out, counts, max_failed)}; the work is kept")
    report.lines += [f"failed: {key}: {reason}" for key, reason in first_failures(out, tasks)]
    report.values["complete"] = complete and found.accepted
    return report
