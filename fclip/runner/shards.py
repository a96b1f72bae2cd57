"""The one shard loop of all shard stages: resume, worker processes, atomic output, commit records, manifest (DESIGN 3).

Order on disk: config.json first; for each shard its output (temp file, fsync, os.replace), then `<stem>.failed.jsonl`
and the commit record `<stem>.json`; manifest.json last, which makes it a Make target.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fclip.config import ShardConfig, config_dict, differences, hash_of
from fclip.errors import FclipError, OutputDiffers
from fclip.runner.report import StageReport

log = logging.getLogger(__name__)

Reasons = list[tuple[str, str]]  # (clip key, one-line reason)


@dataclass(frozen=True)
class ShardTask:
    """One unit of work: `inputs` are the files it reads, `payload` anything picklable that the stage needs."""

    stem: str
    inputs: tuple[Path, ...] = ()
    payload: Any = None


@dataclass
class ShardResult:
    """What became of each input key of a shard: exactly one of ok, skipped, failed.

    `tally`: what else it counts, in groups where that helps ({"classes": {"anger": 3}}); the manifest holds the sums.
    """

    ok: list[str] = field(default_factory=list)
    skipped: Reasons = field(default_factory=list)
    failed: Reasons = field(default_factory=list)
    tally: dict[str, Any] = field(default_factory=dict)


class ShardStage(Protocol):
    """A shard stage: built from its configuration in every worker process.

    `version` is bumped by hand when the stage's output changes for the same configuration. `fingerprint` names back
    ends and weights (it enters the configuration hash). `process` writes the output to the path it is given (which it
    must not create when no clip is ok) and returns the fate of every key. It runs with one CPU thread, so that the
    bytes do not depend on the number of workers.
    """

    name: str
    version: int
    suffix: str
    config: Any

    def fingerprint(self) -> dict[str, Any]: ...

    def process(self, task: ShardTask, out: Path) -> ShardResult: ...

    def close(self) -> None: ...


def run_shards(
    stage: ShardStage,
    tasks: Sequence[ShardTask],
    out: Path,
    config: ShardConfig,
    extra: dict[str, Any] | None = None,
) -> StageReport:
    """Process every task that is not finished and return the totals.

    `extra` maps file names to JSON values written beside the shards (classes.json, splits.json). Raises OutputDiffers
    (exit 3) when the folder holds output of another configuration; nothing is ever deleted but our own temp files.
    """
    from fclip.files import write_json

    identity = {
        "stage": stage.name,
        "version": stage.version,
        "config": config_dict(config, output_only=True),
        "fingerprint": stage.fingerprint(),
    }
    config_hash = hash_of(identity)
    _claim_folder(out, identity, config_hash, config, {"config.json", *(extra or ())})
    for name, value in (extra or {}).items():
        _write_if_changed(out / name, value)
    mine = [task for i, task in enumerate(tasks) if i % config.num_shards == config.shard_index]
    pending = [t for t in mine if config.overwrite or not _is_finished(out, t, stage.suffix, config_hash)]
    log.info("%s: %d of %d shards to do in %s", stage.name, len(pending), len(mine), out)
    for task, result in _process_all(stage, pending, out, config):
        _commit(out, task, result, stage, config_hash)
    report = _summarise(stage, tasks, out, config, config_hash, len(pending))
    manifest = out / "manifest.json"
    if report.values.get("complete"):
        rows = report.values.pop("rows")
        value = {"stage": stage.name, "config_hash": config_hash, "shards": rows, "totals": dict(report.counts)}
        value |= {"tally": report.values["tally"]} if "tally" in report.values else {}
        if not pending and manifest.is_file() and json.loads(manifest.read_text()) == value:
            os.utime(manifest)
        else:
            write_json(manifest, value)
    report.values.pop("rows", None)
    return report


def _claim_folder(
    out: Path, identity: dict[str, Any], config_hash: str, config: ShardConfig, described: set[str]
) -> None:
    """Write config.json into a new folder, or check that what is there was made with the same configuration.

    A folder that holds nothing but the files `described`, of a run that failed before its first shard, is as new.
    """
    from fclip.files import read_json, write_json

    path = out / "config.json"
    if out.is_dir():
        _remove_stale_temps(out)
        present = [p for p in out.iterdir() if not p.name.startswith(".")]
        if path.is_file() and {p.name for p in out.iterdir()} - described:
            old = read_json(path)
            if old.get("config_hash") != config_hash and not config.overwrite:
                keys = ("stage", "version", "config", "fingerprint")
                changed = differences({k: old.get(k) for k in keys}, {k: identity[k] for k in keys})
                raise OutputDiffers(
                    f"{out}: made with another configuration ({'; '.join(changed)}); "
                    "use --overwrite to replace it shard by shard, or --out for another folder"
                )
            if not config.resume and not config.overwrite:
                raise OutputDiffers(f"{out}: holds output already and --no-resume was given; use --overwrite or --out")
        elif present and not path.is_file():
            raise OutputDiffers(
                f"{out}: holds files that fclip did not write ({present[0].name}); choose another --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or read_json(path).get("config_hash") != config_hash:
        write_json(path, identity | {"config_hash": config_hash})


def _remove_stale_temps(out: Path) -> None:
    """Delete our temp files `.name.<pid>.tmp` whose process is gone (a crash left them)."""
    for path in out.glob(".*.tmp"):
        pid = path.name.split(".")[-2]
        if not (pid.isdigit() and int(pid) != os.getpid() and _is_running(int(pid))):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    """Whether a process is alive; one that ended but was not waited for (a zombie) is not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except (OSError, IndexError):
        return True  # somebody else's process, or a system without /proc


def _write_if_changed(path: Path, value: Any) -> None:
    from fclip.files import read_json, write_json

    if not path.is_file() or read_json(path) != json.loads(json.dumps(value)):
        write_json(path, value)


def _input_record(path: Path) -> dict[str, Any]:
    from fclip.files import sha256_file

    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def _is_finished(out: Path, task: ShardTask, suffix: str, config_hash: str) -> bool:
    """Whether the task's commit record fits its inputs and configuration, and its output is whole."""
    try:
        record = json.loads((out / f"{task.stem}.json").read_text(encoding="utf-8"))
        if record["config_hash"] != config_hash or record["payload"] != hash_of(task.payload):
            return False
        if record["inputs"] != {p.name: _input_record(p) for p in task.inputs}:
            return False
        output = out / f"{task.stem}{suffix}"
        return record["output"] == (_input_record(output) if output.is_file() else None)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _commit(out: Path, task: ShardTask, result: ShardResult, stage: ShardStage, config_hash: str) -> None:
    """Write the failure list and the commit record of a shard whose output is in place."""
    from fclip.files import atomic_write, write_json

    failures = out / f"{task.stem}.failed.jsonl"
    if result.failed:
        with atomic_write(failures) as temp:
            temp.write_text("".join(json.dumps({"key": k, "reason": r}) + "\n" for k, r in result.failed))
    else:
        failures.unlink(missing_ok=True)
    output = out / f"{task.stem}{stage.suffix}"
    if not result.ok:
        output.unlink(missing_ok=True)  # from an earlier configuration
    write_json(
        out / f"{task.stem}.json",
        {
            "stage": stage.name,
            "version": stage.version,
            "config_hash": config_hash,
            "payload": hash_of(task.payload),
            "inputs": {p.name: _input_record(p) for p in task.inputs},
            "output": _input_record(output) if output.is_file() else None,
            "counts": {"ok": len(result.ok), "skipped": len(result.skipped), "failed": len(result.failed)},
            "skipped": [list(row) for row in result.skipped],
            **({"tally": result.tally} if result.tally else {}),
        },
    )


def _summarise(
    stage: ShardStage, tasks: Sequence[ShardTask], out: Path, config: ShardConfig, config_hash: str, written: int
) -> StageReport:
    """Add up the commit records; `complete` when every shard (of all jobs) has one."""
    rows, totals = [], {"ok": 0, "skipped": 0, "failed": 0}
    tally: dict[str, Any] = {}
    for task in tasks:
        try:
            record = json.loads((out / f"{task.stem}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if record.get("config_hash") != config_hash:
            continue
        for name in totals:
            totals[name] += record["counts"][name]
        _add_up(tally, record.get("tally", {}))
        sha256 = record["output"]["sha256"] if record["output"] else None
        rows.append({"stem": task.stem, "samples": record["counts"]["ok"], "sha256": sha256})
    report = StageReport(stage.name, out, dict(totals), {"shards": len(tasks), "written": written, "rows": rows})
    report.values |= {"tally": tally} if tally else {}
    complete = len(rows) == len(tasks)
    total = sum(totals.values())
    report.lines.append(f"{written} shards written, {len(rows) - written if complete else 0} verified and kept")
    if total and totals["failed"] > config.max_failed * total:
        complete = False
        report.exit_code = 1
        report.lines.append(
            f"{totals['failed']} of {total} clips failed (more than --max-failed {config.max_failed:g}); "
            f"reasons in {out}/*.failed.jsonl; the work is kept"
        )
    report.lines += [f"failed: {key}: {reason}" for key, reason in _first_failures(out, tasks)]
    report.values["complete"] = complete
    return report


def _add_up(sums: dict[str, Any], counts: dict[str, Any]) -> None:
    """Add the numbers of `counts` to those of `sums`, group by group."""
    for name, count in counts.items():
        if isinstance(count, dict):
            _add_up(sums.setdefault(name, {}), count)
        else:
            sums[name] = sums.get(name, 0) + count


def _first_failures(out: Path, tasks: Iterable[ShardTask], most: int = 5) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for task in tasks:
        path = out / f"{task.stem}.failed.jsonl"
        if path.is_file():
            found += [(row["key"], row["reason"]) for row in map(json.loads, path.read_text().splitlines())]
        if len(found) >= most:
            break
    return found[:most]


# ---------------------------------------------------------------- worker processes

_worker_stage: ShardStage | None = None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let the numeric libraries use one thread: results must not depend on how many workers share the CPU."""
    import sys

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    torch = sys.modules.get("torch")  # else it reads the environment when it is first imported
    threads = torch.get_num_threads() if torch else 1
    os.environ.update(dict.fromkeys(names, "1"))
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        if torch:
            torch.set_num_threads(threads)


def _start_worker(cls: type, config: ShardConfig) -> None:
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    global _worker_stage
    _worker_stage = cls(config)


def _exit_with_parent() -> None:
    """End this process when the parent is gone (kill -9 leaves workers waiting for ever otherwise)."""
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(task: ShardTask, out: Path) -> ShardResult:
    assert _worker_stage is not None
    return _worker_stage.process(task, out / f"{task.stem}{_worker_stage.suffix}")


def _process_all(
    stage: ShardStage, tasks: Sequence[ShardTask], out: Path, config: ShardConfig
) -> Iterator[tuple[ShardTask, ShardResult]]:
    """Yield (task, result) as shards are done, with one progress bar on stderr."""
    import sys

    from tqdm import tqdm

    workers = min(config.workers or os.cpu_count() or 1, len(tasks))
    run = _in_process(stage, tasks, out) if workers <= 1 else _in_pool(stage, tasks, out, workers)
    with _one_thread(), tqdm(total=len(tasks), desc=stage.name, unit="shard", disable=not sys.stderr.isatty()) as bar:
        for task, result in run:
            bar.update()
            bar.set_postfix(ok=len(result.ok), failed=len(result.failed), refresh=False)
            yield task, result


def _in_process(stage: ShardStage, tasks: Sequence[ShardTask], out: Path) -> Iterator[tuple[ShardTask, ShardResult]]:
    try:
        for task in tasks:
            yield task, stage.process(task, out / f"{task.stem}{stage.suffix}")
    finally:
        stage.close()


def _in_pool(
    stage: ShardStage, tasks: Sequence[ShardTask], out: Path, workers: int
) -> Iterator[tuple[ShardTask, ShardResult]]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    stage.close()  # each worker loads its own back end
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (type(stage), stage.config))
    finished = False
    try:
        futures = {pool.submit(_work, task, out): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
        finished = True
    except BrokenProcessPool:
        raise FclipError(f"{stage.name}: a worker process died (out of memory?); try fewer --workers") from None
    finally:
        if not finished:  # interrupted or failed: do not wait for shards that nobody will commit
            for process in multiprocessing.active_children():
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        _remove_stale_temps(out)
