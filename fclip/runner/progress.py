"""One way to show progress: a bar on a terminal, a line every 30 seconds in a log file, nothing with --quiet."""

from __future__ import annotations

import sys
import time
from math import ceil
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


def tell_inside(bar: tqdm[Any], several: bool, total: float, what: str, done: float) -> None:
    """Show how far a video is, `done` of `total` seconds: on a bar of its own, or, of `several`, beside theirs.

    what: the pass over it (reading, drawing); a bar of its own starts again with each.
    """
    if bar.disable:
        return
    if several:
        bar.set_postfix_str(f"{what} {min(done, total):.0f} of {total:.0f} s", refresh=False)
        if time.time() - bar.last_print_t > max(bar.mininterval, bar.delay):
            bar.last_print_t = time.time()
            bar.refresh()
        return
    if bar.postfix != what:
        bar.set_postfix_str(what, refresh=False)
        bar.reset()
    bar.update(max(min(ceil(done), bar.total) - bar.n, 0))
