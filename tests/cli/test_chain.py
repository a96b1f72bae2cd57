"""The pipeline as the README writes it: in a fresh folder, offline, each command as the one before it says."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fclip import __version__
from fclip.cli.app import NEXT, app

runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})
COMMANDS = [
    "synth --clips 35",
    "preprocess",
    "face-analyze",
    "caption",
    "refine",
    "pack",
    "train --epochs 1",
    "eval",
    "report",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder, no weights, no network; small clips, and no processes beside this one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FCLIP_MODELS", raising=False)
    settings = {"XDG_CACHE_HOME": "cache", "FCLIP_WEIGHTS": "weights", "WORKERS": "1", "FRAMES": "4", "SIZE": "96"}
    for name, value in settings.items():
        monkeypatch.setenv(name if "_" in name else f"FCLIP_{name}", value)
    return tmp_path


def test_every_command_runs_as_written_and_names_the_next(folder):
    """And whatever is asked for too early, the message names the command that is next."""
    for line, following in zip(COMMANDS, [*COMMANDS[1:], None], strict=True):
        command = line.split()[0]
        if following:
            early = runner.invoke(app, ["report"])
            assert early.exit_code == 1 and early.output.strip().endswith(f"fclip {command}"), early.output
        result = runner.invoke(app, line.split())
        assert result.exit_code == 0, f"{line}: {result.output}"
        if following:
            assert result.output.splitlines()[-1] == f"next: fclip {following.split()[0]}"
    made = json.loads(next((folder / "fclip-data" / "runs").glob("*/provenance.json")).read_text())
    assert made["fclip"] == __version__ and made["recipe"]["epochs"] == 1 and made["device"].startswith("cpu")
    assert {"command", "torch", "cuda", "host", "started", "seconds"} <= made.keys()
    page = (folder / "report.html").read_text()
    assert "Where the runs come from" in page and made["started"] in page
    assert [command for command in NEXT if command != "zeroshot"] == [line.split()[0] for line in COMMANDS[:-1]]


def test_the_next_command_finds_the_same_place(folder):
    first = runner.invoke(app, ["synth", "--clips", "35", "--root", "demo", "--dataset", "demo7"]).output
    assert first.splitlines()[-1] == "next: fclip preprocess --root demo"
    for command in ("pack", "train", "report"):
        hint = runner.invoke(app, [command, "--root", "demo"]).output.strip()
        assert hint.endswith("fclip preprocess --root demo")
