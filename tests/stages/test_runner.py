"""The stage contract on a small stage: resume, kill -9, workers, configuration changes, damage, failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fclip.errors import OutputDiffers
from tests.stages.toy import ToyStage, run_toy, write_source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", 6)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_first_run_writes_all_files_and_a_rerun_touches_the_manifest_only(source, tmp_path):
    out = tmp_path / "out"
    report = run_toy(source, out)
    assert report.counts == {"ok": 120, "skipped": 0, "failed": 0}
    assert report.values["written"] == 6
    before, times = content(out), {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert set(before) == {"config.json", "manifest.json", "extra.json"} | {
        f"s{i}{s}" for i in range(6) for s in (".txt", ".json")
    }
    time.sleep(0.02)
    assert run_toy(source, out).values["written"] == 0
    assert content(out) == before
    assert [p.name for p in out.iterdir() if p.stat().st_mtime_ns != times[p.name]] == ["manifest.json"]


def test_two_workers_give_the_same_bytes(source, tmp_path):
    run_toy(source, tmp_path / "one")
    run_toy(source, tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_and_resume_give_the_same_bytes(source, tmp_path, workers):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.stages.toy", str(source), str(out), str(workers)]
    process = subprocess.Popen(command, env={**os.environ, "TOY_HOLD": "1"}, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(out.glob("s*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    done = len(list(out.glob("s*.json")))
    assert done == 1
    time.sleep(0.5)  # orphaned workers end by themselves when the parent is gone
    assert run_toy(source, out).values["written"] == 6 - done
    run_toy(source, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")


def test_interrupt_leaves_no_temporary_files(source, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.stages.toy", str(source), str(out), "2"]
    process = subprocess.Popen(
        command, env={**os.environ, "TOY_HOLD": "1"}, stderr=subprocess.PIPE, start_new_session=True
    )
    while not list(out.glob("s*.json")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not list(out.glob(".*"))
    assert run_toy(source, out).values["complete"]


def test_another_configuration_is_refused_with_the_difference_and_overwrite_replaces(source, tmp_path):
    out = tmp_path / "out"
    run_toy(source, out)
    before = content(out)
    with pytest.raises(OutputDiffers, match=r'config.suffix_text: "" -> "!"') as error:
        run_toy(source, out, suffix_text="!")
    assert error.value.exit_code == 3
    assert content(out) == before
    assert run_toy(source, out, suffix_text="!", overwrite=True).values["written"] == 6
    assert (out / "s0.txt").read_text().startswith("LINE 0 0!")


def test_a_run_that_failed_before_its_first_shard_leaves_the_folder_free(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(ToyStage, "process", failing)
        with pytest.raises(ConnectionError):
            run_toy(source, out)
    assert set(content(out)) == {"config.json", "extra.json"}
    assert run_toy(source, out, suffix_text="!", resume=False).values["complete"]
    assert (out / "s0.txt").read_text().startswith("LINE 0 0!")


def failing(stage, task, out):
    """A stage whose server cannot be reached."""
    raise ConnectionError("no server")


def test_no_resume_and_foreign_files_are_refused(source, tmp_path):
    run_toy(source, tmp_path / "out")
    with pytest.raises(OutputDiffers, match="--no-resume"):
        run_toy(source, tmp_path / "out", resume=False)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.docx").write_text("mine")
    with pytest.raises(OutputDiffers, match="fclip did not write"):
        run_toy(source, foreign)
    assert content(foreign) == {"thesis.docx": b"mine"}


def test_damaged_output_and_changed_input_are_redone(source, tmp_path):
    out = tmp_path / "out"
    run_toy(source, out)
    before = content(out)
    (out / "s2.txt").write_bytes(before["s2.txt"][:20])
    assert run_toy(source, out).values["written"] == 1
    assert content(out) == before
    (source / "s3.in").write_text("other\n")
    assert run_toy(source, out).values["written"] == 1
    assert (out / "s3.txt").read_text() == "OTHER\n"


def test_failed_clips_are_recorded_and_too_many_exit_1_but_keep_the_work(source, tmp_path):
    out = tmp_path / "out"
    (source / "s1.in").write_text("good\nbad\n")
    report = run_toy(source, out)
    assert report.counts == {"ok": 101, "skipped": 0, "failed": 1}
    assert report.exit_code == 0
    assert json.loads((out / "s1.failed.jsonl").read_text()) == {"key": "bad", "reason": "this line is bad"}
    strict = run_toy(source, out, max_failed=0.0)
    assert strict.exit_code == 1
    assert (out / "s1.txt").read_text() == "GOOD\n"


def test_jobs_share_the_shards_and_the_last_one_writes_the_manifest(source, tmp_path):
    out = tmp_path / "out"
    first = run_toy(source, out, shard_index=0, num_shards=2)
    assert first.values["written"] == 3
    assert not (out / "manifest.json").exists()
    run_toy(source, out, shard_index=1, num_shards=2)
    run_toy(source, tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")
