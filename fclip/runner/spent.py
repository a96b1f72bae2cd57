"""Where the time goes: seconds spent on each part of a task, for a line that -v shows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Spent:
    """Seconds by the name of the part, in the order of their first end; what a part does for another counts there."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0  # seconds of the parts inside the open one

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count the time of a block for a part."""
        started, outside, self._inner = time.perf_counter(), self._inner, 0.0
        try:
            yield
        finally:
            whole = time.perf_counter() - started
            self.seconds[part] = self.seconds.get(part, 0.0) + whole - self._inner
            self._inner = outside + whole

    def each(self, items: Iterable[T], part: str) -> Iterator[T]:
        """The items; the time that it takes to make each is counted for a part, that of its use is not."""
        iterator = iter(items)
        while True:
            with self.on(part):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def line(self) -> str:
        """The parts with their seconds: reading and faces 2.1 s, model 0.8 s."""
        return ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self.seconds.items())
