"""Ctrl-C from the first import on: exit code 130, one line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from fclip.cli import app
from fclip.interrupts import interruptible, was_interrupted


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1, 0.25])
def test_an_interrupt_while_modules_are_imported_ends_with_130(seconds):
    """The command is known to be at its imports when Python reports the first of them."""
    command = [sys.executable, "-X", "importtime", "-m", "fclip", "synth", "--help"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        while "fclip.interrupts" not in (line := process.stderr.readline()):
            assert line, "fclip.interrupts was never imported"
        process.stderr.readline()  # the handler is set before the next import
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert "Traceback" not in said
    assert process.returncode == 130 or (process.returncode == 0 and seconds)


def test_an_interrupt_that_a_library_swallows_is_no_defect():
    with pytest.raises(RuntimeError), interruptible():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("callback failed") from None
    assert was_interrupted()
    assert app._explain(RuntimeError("callback failed")) == (
        "interrupted; run the same command again to go on",
        130,
    )
