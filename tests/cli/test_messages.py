"""Every error is one printable line, not too long, without a library's dangerous advice."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fclip.cli.app import app
from fclip.errors import LONGEST, ClipFailure, FclipError, MissingExtra, MissingOutput, one_line


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_any_text_becomes_one_printable_line(text):
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= LONGEST
    line.encode()


def test_a_long_message_keeps_what_it_is_about_and_what_to_do():
    line = one_line("a.tar: damaged " + "x" * 5000 + "; make it again: fclip pack")
    assert line.startswith("a.tar: damaged x")
    assert line.endswith("make it again: fclip pack")


class Foreign:
    """What no weights file may hold."""


def test_advice_to_load_without_checks_never_reaches_the_user(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"a": Foreign()}, path)
    with pytest.raises(pickle.UnpicklingError) as error:
        torch.load(path, weights_only=True)
    assert "weights_only" in str(error.value)
    assert "weights_only" not in one_line(f"{path}: cannot be read ({error.value})")
    result = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "out.safetensors"), "--from", "openai"])
    assert result.exit_code == 1
    assert "weights_only" not in result.output


@pytest.mark.parametrize(
    "error", [FclipError("a"), ClipFailure("b"), MissingExtra("openai", "openai"), MissingOutput(Path("x"), "pack")]
)
def test_errors_reach_the_parent_of_a_worker_as_they_are(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_help_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "fclip", "inspect", "-h"], stdout=full, stderr=-1, check=False)
    assert (done.returncode, done.stderr) == (1, b"fclip: No space left on device\n")
