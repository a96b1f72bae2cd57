"""Ctrl-C: exit code 130 whenever it comes, and time to clean up where work has begun.

The first module that the command imports: it needs nothing that is not loaded yet.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the core of `signal`, without what that imports
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

EXIT_INTERRUPTED = 130
_came = False


def leave_at_once() -> None:
    """Let Ctrl-C end the process there and then: nothing has begun yet, or all is done."""
    _handle(_leave)


def no_longer() -> None:
    """Let Ctrl-C do nothing: the exit code is decided, and Python's own end restores what kills the process."""
    _handle(_signal.SIG_IGN)


class interruptible:
    """A block in which Ctrl-C raises KeyboardInterrupt, so that what is half done is cleaned up."""

    def __enter__(self) -> None:
        global _came
        _came = False
        _handle(_raise)

    def __exit__(self, *error: object) -> None:
        leave_at_once()


def was_interrupted() -> bool:
    """Whether Ctrl-C came in the last interruptible block, whatever a library has made of the KeyboardInterrupt."""
    return _came


def _handle(handler: object) -> None:
    try:
        if _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN:  # of nohup, or of a script's background job
            _signal.signal(_signal.SIGINT, handler)
    except ValueError:
        pass  # not the main thread of somebody's own program


def _leave(number: int, frame: object) -> NoReturn:
    os.write(2, b"fclip: interrupted\n")
    os._exit(EXIT_INTERRUPTED)


def _raise(number: int, frame: object) -> NoReturn:
    global _came
    _came = True
    raise KeyboardInterrupt
