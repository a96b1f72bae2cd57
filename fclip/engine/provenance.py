"""Where a result comes from: command line, versions, machine, times. It explains a result, and decides nothing."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fclip import __version__
from fclip.engine.batches.devices import describe_device
from fclip.errors import FclipError
from fclip.schema import JsonObject, read_record

if TYPE_CHECKING:
    from torch import device as Device

FILE = "provenance.json"


@dataclass(frozen=True)
class Provenance:
    """provenance.json of a run. recipe: the hyper-parameters that took effect; seconds and memory_mib: of its last
    process, the latter the most that it held, of the GPU's memory where it trained there."""

    command: str
    fclip: str
    python: str
    torch: str
    cuda: str | None
    host: str
    device: str
    started: str
    seconds: float
    recipe: JsonObject
    memory_mib: int | None = None

    @classmethod
    def now(cls, device: Device, started: datetime, recipe: JsonObject) -> Provenance:
        """Of this process and this moment."""
        import torch

        return cls(
            command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            fclip=__version__,
            python=platform.python_version(),
            torch=str(torch.__version__),
            cuda=torch.version.cuda if device.type == "cuda" else None,
            host=f"{platform.node()}, {platform.machine()}, {os.cpu_count()} CPU cores",
            device=describe_device(device),
            started=started.isoformat(timespec="seconds"),
            seconds=round((datetime.now(UTC) - started).total_seconds(), 1),
            recipe=recipe,
            memory_mib=_peak_memory(device),
        )


def _peak_memory(device: Device) -> int:
    """The most MiB that this process has held so far, on the GPU where that is the device."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device) >> 20)
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes >> (20 if sys.platform == "darwin" else 10)  # macOS counts bytes


def read_provenance(run: Path) -> Provenance | None:
    """The provenance of a run's folder; None where it has none that can be read."""
    try:
        return read_record(run / FILE, Provenance)
    except FclipError:
        return None
