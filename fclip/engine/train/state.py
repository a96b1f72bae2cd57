"""What training needs to go on exactly where it stopped: one safetensors file, with a JSON header; no pickle.

Tensors: `optimizer.<parameter>.<name>`, `raw.<name>` (the weights beside their moving average), `random` and
`cuda.<index>` (generators). The header has the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from fclip.errors import FclipError
from fclip.schema import JsonObject, JsonValue, parse_record, plain_fields
from fclip.tensors import read_header, read_tensors, write_tensors

FORMAT = "fclip-state-1"
OptimizerState = dict[str, object]  # what torch.optim.Optimizer.state_dict gives


@dataclass
class Position:
    """Where training stands: `epoch` and `batch` (of the epoch) to go on from, `step` optimizer steps done, the best
    score so far."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None


@dataclass(frozen=True)
class TrainState:
    """Position, optimizer, loss scaler, raw weights (only with a moving average), and the random generators."""

    position: Position
    optimizer: OptimizerState
    scaler: JsonObject
    raw_weights: dict[str, Tensor]
    random: Tensor
    cuda_random: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class _Header:
    """The part of a state that is no tensor: groups and values {parameter: {name: value}} of the optimizer."""

    format: str
    position: Position
    scaler: JsonObject
    groups: list[JsonObject]
    values: dict[str, JsonObject]


def write_state(path: Path, state: TrainState) -> None:
    """Write a state."""
    tensors = {f"raw.{name}": tensor for name, tensor in state.raw_weights.items()}
    tensors |= {"random": state.random, **{f"cuda.{i}": each for i, each in enumerate(state.cuda_random)}}
    values: dict[str, JsonObject] = {}
    slots: dict[int, dict[str, Tensor | JsonValue]] = state.optimizer["state"]  # type: ignore[assignment]
    groups: list[JsonObject] = state.optimizer["param_groups"]  # type: ignore[assignment]
    for index, slot in slots.items():
        values[str(index)] = {name: value for name, value in slot.items() if not isinstance(value, Tensor)}
        tensors |= {f"optimizer.{index}.{name}": value for name, value in slot.items() if isinstance(value, Tensor)}
    header = _Header(FORMAT, state.position, state.scaler, groups, values)
    write_tensors(path, {name: tensor.detach().cpu() for name, tensor in tensors.items()}, plain_fields(header))


def read_state(path: Path) -> TrainState:
    """Read a state, on the CPU; FclipError if the file is missing, damaged or of another kind."""
    header = parse_record(read_header(path)[0], _Header, str(path))
    if header.format != FORMAT:
        raise FclipError(f"{path}: not a training state of format {FORMAT}")
    tensors = read_tensors(path)
    slots: dict[int, dict[str, object]] = {}
    for index, values in header.values.items():
        slots[_whole(index, path)] = dict(values)
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            index, _, slot = name.removeprefix("optimizer.").partition(".")
            slots.setdefault(_whole(index, path), {})[slot] = tensor
    groups = [{name: _group_value(name, value) for name, value in group.items()} for group in header.groups]
    if "random" not in tensors:
        raise FclipError(f"{path}: lacks the state of the random generator")
    return TrainState(
        header.position,
        {"state": slots, "param_groups": groups},
        header.scaler,
        {name.removeprefix("raw."): tensor for name, tensor in tensors.items() if name.startswith("raw.")},
        tensors["random"],
        [tensors[name] for name in sorted(tensors, key=_cuda_index) if name.startswith("cuda.")],
    )


def _whole(text: str, path: Path) -> int:
    if not text.isdecimal():
        raise FclipError(f"{path}: {text!r} is no number of a parameter")
    return int(text)


def _cuda_index(name: str) -> int:
    index = name.removeprefix("cuda.")
    return int(index) if index.isdecimal() else -1


def _group_value(name: str, value: JsonValue) -> object:
    """A value of a parameter group as torch has it: pairs (Adam's betas) are tuples."""
    return tuple(value) if isinstance(value, list) and name != "params" else value
