"""One process at a time in an output folder: the second is told who holds it; the dead hold nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fclip.errors import OutputDiffers
from fclip.runner import lock
from fclip.runner.folder import OutputFolder
from fclip.runner.lock import FolderLock

HOLD = "import sys, time; from pathlib import Path; from fclip.runner.lock import FolderLock; "
HOLD += "FolderLock(Path(sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3]))).acquire(); print('held', flush=True); "
HOLD += "time.sleep(60)"


@contextmanager
def held_elsewhere(folder: Path, index: int = 0, number: int = 1) -> Iterator[int]:
    """Another process, whose id is given, holds the folder's lock; it is killed at the end."""
    command = [sys.executable, "-c", HOLD, str(folder), str(index), str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGKILL)


def test_the_second_process_says_who_holds_the_folder_and_exits_with_3(tmp_path):
    with held_elsewhere(tmp_path) as pid, pytest.raises(OutputDiffers) as error:
        FolderLock(tmp_path).acquire()
    assert error.value.exit_code == 3
    text = str(error.value)
    assert f"process {pid} on {socket.gethostname()} since 20" in text
    assert "\n" not in text


def test_the_lock_of_a_killed_process_is_taken_over_at_once_and_leaves_no_file(tmp_path):
    with held_elsewhere(tmp_path):
        pass
    assert (tmp_path / ".lock").is_file()
    mine = FolderLock(tmp_path)
    mine.acquire()
    assert FolderLock(tmp_path).path.is_file()
    mine.release()
    assert not list(tmp_path.iterdir())


def test_a_process_excludes_itself_too(tmp_path):
    with OutputFolder(tmp_path / "out").claim({"a": 1}, overwrite=False) as found:
        assert not found
        with pytest.raises(OutputDiffers, match=f"process {os.getpid()}"):
            FolderLock(tmp_path / "out").acquire()
        other = hold_fails(tmp_path / "out")
        assert "in use by process" in other
    again = FolderLock(tmp_path / "out")
    again.acquire()
    again.release()


def hold_fails(folder: Path) -> str:
    """What another process says that cannot get the lock."""
    command = [sys.executable, "-c", HOLD, str(folder), "0", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize(
    ("held", "wanted", "free"),
    [
        ((0, 2), (1, 2), True),
        ((0, 2), (0, 2), False),
        ((0, 2), (0, 1), False),
        ((0, 1), (1, 2), False),
        ((0, 2), (1, 3), False),
    ],
)
def test_jobs_of_one_partition_share_a_folder_and_nothing_else_does(tmp_path, held, wanted, free):
    mine = FolderLock(tmp_path, wanted)
    with held_elsewhere(tmp_path, *held) as pid:
        if free:
            mine.acquire()
            mine.release()
        else:
            with pytest.raises(OutputDiffers, match=f"process {pid}"):
                mine.acquire()


def test_without_locks_of_the_file_system_the_file_alone_decides(tmp_path, monkeypatch):
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "2026-01-01 00:00:00"}))
    with pytest.raises(OutputDiffers, match="process 1 on elsewhere since .*delete"):
        FolderLock(tmp_path).acquire()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": ended.pid, "since": "x"}))
    mine = FolderLock(tmp_path)
    mine.acquire()
    mine.release()
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getppid(), "since": "x"}))
    with pytest.raises(OutputDiffers, match=f"process {os.getppid()}"):
        FolderLock(tmp_path).acquire()


def test_many_at_once_only_one_gets_it(tmp_path):
    script = "import sys, time; from pathlib import Path; from fclip.runner.lock import FolderLock\n"
    script += "lock = FolderLock(Path(sys.argv[1]) / 'out'); n = 0\n"
    script += "for _ in range(40):\n  try:\n    lock.acquire()\n  except Exception: continue\n"
    script += "  held = Path(sys.argv[1]) / 'held'\n  held.mkdir(); n += 1; held.rmdir(); lock.release()\n"
    script += "print(n)"  # mkdir fails where another process is inside
    command = [sys.executable, "-c", script, str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert sum(int(run.communicate(timeout=60)[0]) for run in runs) > 40
