"""Every error that fclip raises on purpose: one line (what, where, what to do) and the exit code it ends with."""

from __future__ import annotations

from pathlib import Path

EXIT_FAILED, EXIT_USAGE, EXIT_DIFFERS, EXIT_INTERRUPTED = 1, 2, 3, 130


class FclipError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, what to do."""

    exit_code = EXIT_FAILED


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
