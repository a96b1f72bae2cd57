"""The command line: help everywhere, no heavy imports, one-line errors with the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fclip.cli.app import COMMANDS, app

runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from fclip.cli.app import app; import fclip;"
        "heavy = {'torch', 'numpy', 'h5py', 'av', 'PIL', 'open_clip', 'transformers', 'webdataset', 'nltk', 'sklearn'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_with_an_example(command):
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"fclip {command}" in result.output


def test_what_libraries_log_does_not_bury_the_error(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"")
    command = [sys.executable, "-m", "fclip", "predict", "x.mp4", "--classes", "bored,confused"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and "--clip-weights" in done.stderr


def test_version_and_bare_command():
    assert runner.invoke(app, ["--version"]).output.startswith("fclip ")
    assert runner.invoke(app, []).exit_code == 2


def test_dry_run_prints_the_resolved_configuration(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[train]\nvariant = 'star'\nlr = 0.5\n")
    result = runner.invoke(app, ["train", "--config", str(file), "--lr", "0.25", "--dry-run", "--seed", "1,2"])
    config = json.loads(result.output)["config"]
    assert (config["variant"], config["lr"], config["seed"]) == ("star", 0.25, [1, 2])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--no-such-option"], 2, "No such option"),
        (["preprocess", "--crop", "magic", "--dataset", "demo7"], 2, "'mediapipe'"),
        (["train", "--config", "missing.toml"], 2, "no such configuration file"),
        (["train"], 2, "holds no data set"),
        (["train", "--dataset", "demo7"], 1, "fclip pack --dataset demo7"),
        (["preprocess", "--dataset", "demo7"], 1, "fclip synth --dataset demo7"),
        (["preprocess", "--dataset", "dfew"], 2, "--source"),
        (["preprocess", "--dataset", "nonsense", "--source", "."], 2, "unknown data set"),
        (["face-analyze", "--dataset", "demo7"], 1, "fclip preprocess --dataset demo7"),
        (["refine", "--dataset", "demo7"], 1, "fclip caption --dataset demo7"),
        (["pack", "--dataset", "demo7"], 1, "fclip preprocess --dataset demo7"),
        (["eval"], 1, "fclip train"),
        (["report"], 1, "fclip eval"),
        (["predict", "x.mp4"], 2, "--checkpoint"),
        (["predict", "x.mp4", "--checkpoint", "nowhere"], 1, "no such file"),
        (["zeroshot"], 2, "--test"),
        (["convert", "a", "b", "--from", "magic"], 2, "choose one of"),
        (["inspect", "nowhere"], 1, "no such file"),
    ],
)
def test_errors_are_one_line_with_the_remedy(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
    lines = [line for line in result.output.splitlines() if line.startswith("fclip ")]
    assert len(lines) <= 1
    assert not list(tmp_path.iterdir())
