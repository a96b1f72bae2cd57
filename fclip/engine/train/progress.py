"""What is seen of a training while it runs: a bar on the terminal, lines in a log file, and TensorBoard events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fclip.engine.train.tensorboard import EventFolder
from fclip.runner.progress import progress_bar


@contextmanager
def show_progress(
    total: int, name: str, shown: bool, events: Path | None
) -> Iterator[Callable[[dict[str, float]], None]]:
    """What the loop calls with every row: progress on stderr, and TensorBoard events where a folder is given."""
    writer = EventFolder(events) if events else None
    with progress_bar(total, name, "step", shown) as bar:
        figures: dict[str, str] = {}

        def progress(row: dict[str, float]) -> None:
            if writer:
                writer.write(row)
            bar.update(row["step"] - bar.n)
            figures.update({n: f"{row[n]:.3f}" for n in ("loss", "eval_uar", "eval_war") if n in row})
            bar.set_postfix(figures, refresh=False)

        try:
            yield progress
        finally:
            if writer:
                writer.close()
