"""Worker processes: one thread each, gone when the parent is gone, an error when one dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fclip.config import ShardConfig
from fclip.errors import FclipError
from fclip.runner.hashes import Hashed, hash_file
from fclip.runner.progress import progress_bar
from fclip.runner.stage import ShardResult, ShardStage, ShardTask
from fclip.runner.verify import verify_file

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

T = TypeVar("T")
_worker_stage: ShardStage[Any] | None = None


@dataclass(frozen=True)
class Done:
    """A task that is done, with the hashes of the inputs as they were read."""

    task: ShardTask
    result: ShardResult
    inputs: list[Hashed]


def process_all(stage: ShardStage[Any], tasks: Sequence[ShardTask], out: Path, workers: int) -> Iterator[Done]:
    """Yield what was done, shard by shard, with progress in clips on stderr; `workers` 0: one per CPU core."""
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    run = _in_process(stage, tasks, out) if workers <= 1 else _in_pool(stage, tasks, out, workers)
    total, failed = sum(task.clips for task in tasks), 0
    with _one_thread(), progress_bar(total or len(tasks), stage.name, "clip" if total else "shard") as bar:
        for done in run:
            failed += len(done.result.failed)
            bar.set_postfix(failed=failed, refresh=False)
            bar.update(done.task.clips if total else 1)
            yield done


def _in_process(stage: ShardStage[Any], tasks: Sequence[ShardTask], out: Path) -> Iterator[Done]:
    try:
        for task in tasks:
            yield _process(stage, task, out)
    finally:
        stage.close()


def _in_pool(stage: ShardStage[Any], tasks: Sequence[ShardTask], out: Path, workers: int) -> Iterator[Done]:
    stage.close()  # each worker loads its own back end
    jobs = [(task, out) for task in tasks]
    return in_workers(_work, jobs, workers, stage.name, partial(_take_stage, type(stage), stage.config))


def in_workers(
    function: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    workers: int,
    what: str,
    begin: Callable[[], None] | None = None,
) -> Iterator[T]:
    """Yield function(*job) of each job as they end, from so many processes, each of which calls `begin` first.

    FclipError, named by `what`, when a process dies. On any error what has not begun is left.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (begin,))
    finished = False
    try:
        with _interrupts_wait():  # workers start here, and never see an interrupt: the parent decides
            futures = [pool.submit(function, *job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
        finished = True
    except BrokenProcessPool:
        raise FclipError(f"{what}: a worker process died (out of memory?); try fewer --workers") from None
    finally:
        if not finished:  # interrupted or failed: do not wait for shards that nobody will commit
            for process in multiprocessing.active_children():
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold SIGINT back until the block ends; processes that start in it never get one.

    A process whose parent is interrupted while handing it its work would end with a traceback on the terminal.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(begin: Callable[[], None] | None) -> None:
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where signals cannot be held back, from here on
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if begin:
        begin()


def _take_stage(cls: type[ShardStage[Any]], config: ShardConfig) -> None:
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


def _work(task: ShardTask, out: Path) -> Done:
    assert _worker_stage is not None
    return _process(_worker_stage, task, out)


def _process(stage: ShardStage[Any], task: ShardTask, out: Path) -> Done:
    inputs = [verify_file(path) or hash_file(path) for path in task.inputs]
    return Done(task, stage.process(task, out / f"{task.stem}{stage.suffix}"), inputs)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let the numeric libraries use one thread: results must not depend on how many workers share the CPU."""
    import sys

    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    torch = sys.modules.get("torch")  # else it reads the environment when it is first imported
    threads = torch.get_num_threads() if torch else 1
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
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
