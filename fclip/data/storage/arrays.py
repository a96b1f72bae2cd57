"""Arrays of a packed sample as npy bytes, read only as exactly what was promised; names and values of signals."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fclip.errors import FclipError

RANGES = {  # generous: faces reach beyond the frame, coefficients beyond 1
    "landmarks": (-4.0, 5.0),  # of the frame's width and height
    "confidence": (0.0, 1.0),
    "blendshapes": (-1.0, 2.0),
    "pose": (-360.0, 360.0),  # degrees
}


def npy_bytes(values: np.ndarray) -> bytes:
    """An array as float32 in npy format 1.0."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, values.astype("<f4"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def parse_npy(name: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Decode an npy member `name` after checking that its header promises exactly float32 of this shape."""
    buffer = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(buffer) != (1, 0):
            raise ValueError("npy version is not 1.0")
        header = np.lib.format.read_array_header_1_0(buffer)
        if header != (shape, False, np.dtype("<f4")):
            raise ValueError(f"it holds {header[2]} {header[0]}, not float32 {shape}")
        return np.frombuffer(data, "<f4", offset=buffer.tell()).reshape(shape).copy()
    except (ValueError, SyntaxError, TypeError) as error:
        raise FclipError(f"{name}: {error}; make the shard again") from error


def check_finite(values: np.ndarray) -> None:
    """Raise ValueError where a value is infinite or not a number."""
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"value {column} of frame {row} is {values[row, column]}")


def check_names(names: Any, count: int, distinct: bool = True) -> tuple[str, ...]:
    """Return `names` as a tuple, one object for equal ones, if they are `count` texts; else raise ValueError."""
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError("their names are no list of texts")
    if len(names) != count:
        raise ValueError(f"{len(names)} names for {count} values")
    if distinct and len(set(names)) != count:
        raise ValueError("a name comes twice")
    return _shared(tuple(names))


@lru_cache(maxsize=64)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    return names


def check_range(where: str, name: str, values: np.ndarray | None) -> None:
    """Raise FclipError, beginning with `where`, for NaN and values outside the range of this table, if it has one."""
    if values is None or name not in RANGES or not values.size:
        return
    low, high = RANGES[name]
    least, most = float(values.min()), float(values.max())  # NaN is the least and the most
    if not (low <= least and most <= high):
        found = "NaN" if np.isnan(least) else f"{least:g} to {most:g}"
        raise FclipError(f"{where}: {name} holds {found}, but can be {low:g} to {high:g}; run fclip face-analyze again")
