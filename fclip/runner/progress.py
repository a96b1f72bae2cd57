"""One way to show progress: a bar on a terminal, a line every 30 seconds in a log file, nothing with --quiet."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

EVERY = 30.0  # seconds from line to line where no terminal shows them
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} gone, {remaining} left{postfix}"


class _Lines:
    """A stream on which tqdm's updates of one line become lines of their own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write what is not mere positioning as a line."""
        if line := text.strip("\r\n "):
            self.stream.write(f"{line}\n")

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


def progress_bar(total: int | None, name: str, unit: str, shown: bool = True) -> tqdm[Any]:
    """A tqdm bar on stderr; where stderr is no terminal, a plain line every EVERY seconds, the first after as long.

    The environment variable TQDM_DISABLE, which --quiet sets, turns it off; so does `shown`.
    """
    from tqdm import tqdm

    off = {} if shown else {"disable": True}
    if sys.stderr.isatty():
        return tqdm(total=total, desc=name, unit=unit, **off)
    kept = {"file": _Lines(sys.stderr), "mininterval": EVERY, "maxinterval": EVERY, "delay": EVERY, "leave": False}
    return tqdm(total=total, desc=name, unit=unit, bar_format=LINE, miniters=1, **kept, **off)
