"""Several processes that train one model (torchrun): each computes a share of every global batch.

Gradients are averaged with one all-reduce after the backward passes of a step. That is what DistributedDataParallel
does in buckets; adapters are small, and doing it here lets a step have any number of forward passes (accumulation,
clips with and without captions).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fclip.errors import UsageError


@dataclass(frozen=True)
class Team:
    """The processes that train together; one process alone is a team of one and communicates nothing."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over the team. A parameter without a gradient counts as zero."""
        if self.size == 1:
            return
        trainable = [p for p in model.parameters() if p.requires_grad]
        flat = torch.cat([_gradient(p).flatten() for p in trainable])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for parameter, part in zip(trainable, flat.split([p.numel() for p in trainable]), strict=True):
            parameter.grad = part.view_as(parameter)

    def mean(self, row: dict[str, float], names: Sequence[str]) -> dict[str, float]:
        """The mean of each value over the team; `names` are those that a process may have.

        One that a process lacks (its clips have no caption) counts as zero; one that all lack is left out.
        """
        if self.size == 1:
            return row
        values = torch.tensor([[row.get(name, 0.0), float(name in row)] for name in names], dtype=torch.float64)
        if torch.distributed.get_backend() == "nccl":
            values = values.cuda()
        torch.distributed.all_reduce(values)  # (names, 2): sum, processes that have it
        found = zip(names, values.tolist(), strict=True)
        return {name: total / self.size for name, (total, count) in found if count}

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            torch.distributed.barrier()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def join_team(device: torch.device) -> tuple[Team, torch.device]:
    """The team that torchrun's environment describes, and this process's device.

    The processes are connected once, for all runs that they train, until they end: torchrun's store cannot connect
    them a second time. Raises UsageError when the environment is incomplete.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Team(), device
    if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        raise UsageError("WORLD_SIZE is set but RANK or MASTER_ADDR is not; start several processes with torchrun")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    return Team(torch.distributed.get_rank(), size), device
