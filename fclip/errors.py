"""Every error that fclip raises on purpose: one line (what, where, what to do) and the exit code it ends with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LONGEST = 300  # characters of a message
_TORCH_ADVICE = re.compile(r"Weights only load failed.*", re.DOTALL)  # it says how to execute what a file holds
EXIT_FAILED, EXIT_USAGE, EXIT_DIFFERS = 1, 2, 3  # and 130: interrupted


class FclipError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, what to do."""

    exit_code = EXIT_FAILED

    def __reduce__(self) -> tuple[Any, ...]:
        """How a worker process hands an error to its parent: by its message, whatever its class takes."""
        return _restore, (type(self), str(self))


def _restore(kind: type[FclipError], message: str) -> FclipError:
    error = kind.__new__(kind)
    error.args = (message,)
    return error


def one_line(text: object) -> str:
    """A message as one printable line: control characters and raw bytes escaped, a long one cut in its middle.

    PyTorch's advice to load a file without its checks never reaches a user.
    """
    line = _TORCH_ADVICE.sub("it holds more than tensors and plain values", str(text))
    line = " ".join(line.split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in line)
    if len(line) > LONGEST:
        half = (LONGEST - 5) // 2
        line = f"{line[:half]} ... {line[-half:]}"
    return line


class UsageError(FclipError):
    """A wrong option, option value or configuration key (exit code 2)."""

    exit_code = EXIT_USAGE


class OutputDiffers(FclipError):
    """Output made with another configuration is in the way (exit code 3)."""

    exit_code = EXIT_DIFFERS


class ClipFailure(FclipError):
    """One clip cannot be processed; a stage records the reason and goes on with the other clips."""


class MissingExtra(FclipError):
    """An optional package is not installed; names the command that installs it."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'fclip[{extra}]'")


class MissingOutput(FclipError):
    """The input of a stage does not exist; names the command that makes it."""

    def __init__(self, path: Path, command: str) -> None:
        super().__init__(f"{path}: no such stage output; make it first with: fclip {command}")
