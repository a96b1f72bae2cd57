"""Damaged records of an output folder, full disks, too many failed clips: what a rerun does about them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fclip.errors import FclipError, OutputDiffers
from fclip.runner.folder import OutputFolder
from fclip.runner.workspace import list_shards
from tests.stages.test_runner import content
from tests.stages.toy import run_toy, write_source

DAMAGE = [b"", b"{", b"[" * 100_000, b"\xff\xfe\x00", b"null", b"[]", b'{"shards": 3}']


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", 3)


@pytest.mark.parametrize("data", DAMAGE)
@pytest.mark.parametrize("name", ["manifest.json", "config.json", "s1.json", "extra.json", "s1.txt"])
def test_a_damaged_file_of_the_output_is_made_again(source, tmp_path, name, data):
    out = tmp_path / "out"
    run_toy(source, out)
    before = content(out)
    (out / name).write_bytes(data)
    assert run_toy(source, out).values["complete"]
    assert content(out) == before


def test_a_value_changed_in_a_record_is_noticed_by_its_seal(source, tmp_path):
    out = tmp_path / "out"
    run_toy(source, out)
    before = content(out)
    record = json.loads((out / "s1.json").read_text())
    record["counts"]["ok"] = 7
    (out / "s1.json").write_text(json.dumps(record))
    assert run_toy(source, out).values["written"] == 1
    assert content(out) == before


def test_a_damaged_configuration_is_no_licence_to_mix(source, tmp_path):
    out = tmp_path / "out"
    run_toy(source, out)
    before = content(out)
    (out / "config.json").write_text("{")
    with pytest.raises(OutputDiffers, match="config.json: damaged"):
        run_toy(source, out, suffix_text="!")
    assert run_toy(source, out).values["written"] == 0
    assert content(out) == before


def test_a_kill_at_the_first_write_of_all_blocks_nothing(tmp_path):
    """What is left is the temporary file of config.json: no output of another configuration."""
    (tmp_path / ".config.json.999999999.tmp").write_text("{")
    for _ in range(2):
        with OutputFolder(tmp_path).claim({"name": "a"}, overwrite=False) as found:
            assert not found
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["config.json"]


def test_too_many_failed_clips_are_accepted_by_the_same_flag_here_or_later(source, tmp_path):
    out = tmp_path / "out"
    (source / "s1.in").write_text("good\nbad\nbad\n")
    report = run_toy(source, out)
    assert report.exit_code == 0
    strict = run_toy(source, out, max_failed=0.0)
    assert strict.exit_code == 1
    assert "--max-failed 0.05 accepts that" in "".join(strict.lines)
    with pytest.raises(FclipError, match=r"2 of 43 clips failed.*--max-failed 0\.05 accepts that"):
        list_shards(out, ".txt", "frames", 0.01)
    assert len(list_shards(out, ".txt", "frames", 0.05)) == 3
    assert run_toy(source, out, max_failed=0.05).exit_code == 0
    assert len(list_shards(out, ".txt", "frames", 0.0)) == 3  # the stage's own flag has accepted it


@pytest.mark.parametrize("limit", [0, 100, 300])
def test_a_full_disk_ends_in_an_error_without_remains_and_the_rerun_goes_on(source, tmp_path, limit):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.stages.toy", str(source), str(out), "1"]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert run.returncode == 1
    assert "OSError" in run.stderr
    assert not list(out.glob(".*"))
    assert run_toy(source, out).values["complete"]


def test_hdf5_on_a_full_disk_is_an_error_and_no_crash(tmp_path):
    script = (
        "import sys, resource, numpy as np; from fclip.data.storage.parts import write_features;"
        "rows = {f'{i:064d}': np.random.default_rng(i).random((16, 64), dtype=np.float32) for i in range(8)};"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try:\n  write_features(sys.argv[1], rows, 'f', {})\n"
        "except OSError as error:\n  print('refused', error.strerror)"
    )
    for limit in (0, 1000, 20_000):
        command = [sys.executable, "-c", script, str(tmp_path / "a.h5"), str(limit)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "refused File too large", "")
        assert not list(tmp_path.iterdir())
