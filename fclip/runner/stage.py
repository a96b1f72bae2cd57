"""What a shard stage is: its units of work, what became of each clip, and the back end that a process loads once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from fclip.config import ShardConfig

Reasons = list[tuple[str, str]]  # (clip key, one-line reason)
ConfigT = TypeVar("ConfigT", bound=ShardConfig)


@dataclass(frozen=True)
class ShardTask:
    """One unit of work: `inputs` are the files it reads, `payload` anything picklable that the stage needs; `clips` how
    many it holds, for the progress, 0 where that is not known."""

    stem: str
    inputs: tuple[Path, ...] = ()
    payload: Any = None
    clips: int = 0


@dataclass
class ShardResult:
    """What became of each input key of a shard: exactly one of ok, skipped, failed.

    `tally`: what else it counts, in groups where that helps ({"classes": {"anger": 3}}); the manifest holds the sums.
    """

    ok: list[str] = field(default_factory=list)
    skipped: Reasons = field(default_factory=list)
    failed: Reasons = field(default_factory=list)
    tally: dict[str, Any] = field(default_factory=dict)


class ShardStage(ABC, Generic[ConfigT]):
    """A shard stage: built from its configuration in every worker process.

    `version` is bumped by hand when the output changes for the same configuration; `suffix` is that of the output.
    A stage that works with a back end makes it in `load`; it is loaded when first needed, once a process.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    suffix: ClassVar[str]

    def __init__(self, config: ConfigT) -> None:
        self.config = config
        self._backend: Any = None

    def load(self) -> Any:
        """Make the back end; None for a stage that has none."""
        return None

    @property
    def backend(self) -> Any:
        """The back end."""
        if self._backend is None:
            self._backend = self.load()
        return self._backend

    def fingerprint(self) -> dict[str, Any]:
        """Names back end and weights: with the configuration all that the output depends on beside the inputs."""
        return dict(self.backend.fingerprint) if self.backend is not None else {}

    def close(self) -> None:
        """Release the back end."""
        close = getattr(self._backend, "close", None)
        if close:
            close()
        self._backend = None

    @abstractmethod
    def process(self, task: ShardTask, out: Path) -> ShardResult:
        """Write the output of `task` to `out` (no file when no clip is ok) and return the fate of every key.

        Runs with one CPU thread, so that the bytes do not depend on the number of workers.
        """
