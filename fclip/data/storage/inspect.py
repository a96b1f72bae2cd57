"""What is in fclip's files: one row of facts per file, read with the same strict readers as everywhere else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fclip.data.storage.captions import read_captions
from fclip.data.storage.packed import parse_signals
from fclip.data.storage.parts import DAMAGE, read_attributes
from fclip.data.storage.shards import ShardIndex, index_shard, parse_info, read_fields
from fclip.data.storage.sheet import contact_sheet
from fclip.data.storage.training_log import read_training_log
from fclip.errors import FclipError
from fclip.files import read_json

__all__ = ["contact_sheet", "describe"]

Row = dict[str, Any]


def describe(path: str | Path) -> list[Row]:
    """Return a row of facts about a file, or about each file fclip knows in a folder and below.

    Shards, HDF5 parts, caption and failure lists, checkpoints, training logs, splits and class lists are known.
    A damaged file in a folder gets a row with its `error`; asked for on its own it raises FclipError, as an
    unknown or missing path does.
    """
    path = Path(path)
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file() and _reader(file))
        rows = [_describe_or_error(file, path) for file in files if not file.name.startswith(".")]
        if not rows:
            raise FclipError(f"{path}: no shard, cache, caption file or checkpoint in this folder")
        return rows
    reader = _reader(path)
    if not path.is_file() or reader is None:
        kinds = ", ".join(_READERS)
        raise FclipError(f"{path}: {'not a kind of file fclip makes' if path.is_file() else 'not there'} ({kinds})")
    return [{"file": path.name, **reader(path)}]


def _describe_or_error(file: Path, folder: Path) -> Row:
    name = str(file.relative_to(folder))
    try:
        row = {**describe(file)[0], "file": name}
        return {field: value for field, value in row.items() if not field.startswith("signal ")}
    except FclipError as error:
        return {"file": name, "error": str(error)}


def _reader(path: Path) -> Callable[[Path], Row] | None:
    return next((read for ending, read in _READERS.items() if path.name.endswith(ending)), None)


def _shard(path: Path) -> Row:
    index = index_shard(path)
    with open(path, "rb") as file:
        infos = [parse_info(key, read_fields(file, {"json": where["json"]})) for key, where in index.items()]
    return {
        "kind": "shard",
        "clips": len(index),
        "bytes": path.stat().st_size,
        "labels": _counts(info["label"] for info in infos),
        "parts": _counts(info.get("part", "?") for info in infos),
        "frames": _counts(info["frames"] for info in infos),
        "size": _counts(f"{info['height']}x{info['width']}" for info in infos),
        "fields": _counts(field for where in index.values() for field in where),
        **_signals(path, index),
    }


def _signals(path: Path, index: ShardIndex) -> Row:
    """How many signals the clips of a shard have, and the range of each over the frames with a face."""
    found: dict[tuple[str, ...], list[np.ndarray]] = {}
    with open(path, "rb") as file:
        for key, where in index.items():
            if "signals.npy" in where:
                fields = read_fields(file, {name: where[name] for name in ("json", "signals.npy")})
                info = parse_info(key, fields)
                values = parse_signals(key, fields["signals.npy"], info)
                found.setdefault(info.get("signal_names", ()), []).append(values)
    return _ranges([(names, ("",) * len(names), np.concatenate(values)) for names, values in found.items()])


def _ranges(tables: list[tuple[Sequence[str], Sequence[str], np.ndarray]]) -> Row:
    """Facts about tables of signals, each with its names, units and values (N, S)."""
    row: Row = {}
    for names, units, values in tables:
        kinds = _counts(name.partition(".")[0] for name in names)
        row["signals"] = f"{row.get('signals', '')} {len(names)} ({kinds})".lstrip()
        seen = values[(values != 0).any(axis=1)]
        if len(seen):
            spans = zip(names, units, seen.min(axis=0), seen.max(axis=0), strict=True)
            row |= {f"signal {name}": f"{low:.3g} to {high:.3g} {unit}".rstrip() for name, unit, low, high in spans}
    return row


def _part(path: Path) -> Row:
    try:
        with h5py.File(path, "r") as file:
            tables = {name: f"{table.dtype} {tuple(table.shape)}" for name, table in file.items()}
            attributes = {name: str(value) for name, value in read_attributes(file).items()}
            clips = len(file["keys"])
            named = [
                json.loads(attributes.pop(name)) for name in ("signal_names", "signal_units") if name in attributes
            ]
            if len(named) == 2 and "signals" in file:
                attributes |= _ranges([(named[0], named[1], file["signals"][:])])
    except DAMAGE as error:
        raise FclipError(f"{path}: not a readable part file ({error}); make it again") from error
    size = path.stat().st_size
    return {"kind": attributes.pop("schema", "hdf5"), "clips": clips, "bytes": size, **tables, **attributes}


def _captions(path: Path) -> Row:
    records = read_captions(path).values()
    words = [len(record.text.split()) for record in records]
    return {
        "kind": "captions",
        "clips": len(records),
        "bytes": path.stat().st_size,
        "words": f"{min(words)}-{max(words)}, mean {sum(words) / len(words):.1f}" if words else "",
        "empty": words.count(0),
        "models": _counts(record.model for record in records),
        "label shown": sum(record.label_shown for record in records),
        "removed": sum(len(record.removed) for record in records),
    }


def _failures(path: Path) -> Row:
    try:
        reasons = [json.loads(line)["reason"] for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FclipError(f"{path}: not a list of failed clips ({error!r})") from error
    return {"kind": "failed clips", "clips": len(reasons), "bytes": path.stat().st_size, "reasons": _counts(reasons)}


def _training_log(path: Path) -> Row:
    """The last step of a run and the figures that were logged last."""
    rows = read_training_log(path)
    if not rows:
        raise FclipError(f"{path}: not a training log")
    latest = {name: value for row in rows for name, value in row.items()}
    return {"kind": "training log", "bytes": path.stat().st_size, **latest}


def _checkpoint(path: Path) -> Row:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118  not a mapping
            metadata: dict[str, Any] = dict(file.metadata() or {})
        metadata |= dict(json.loads(metadata.pop("fclip", "{}")))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise FclipError(f"{path}: not a readable checkpoint ({error})") from error
    parameters = sum(_product(shape) for shape in shapes)
    facts = {"kind": "checkpoint", "tensors": len(shapes), "parameters": parameters, "bytes": path.stat().st_size}
    return {**facts, **metadata}


def _splits(path: Path) -> Row:
    from fclip.data.storage.splits import read_splits

    splits = read_splits(path.parent)
    facts = {"kind": "splits", "clips": len(splits.parts), "dataset": splits.dataset}
    return {**facts, "parts": _counts(splits.parts.values()), "folds": ", ".join(splits.folds)}


def _classes(path: Path) -> Row:
    names = read_json(path)
    return {"kind": "classes", "classes": ", ".join(map(str, names)) if isinstance(names, list) else str(names)}


def _counts(values: Iterable[Any]) -> str:
    """`happiness 12, fear 3`: how often each value occurs, the most frequent first."""
    return ", ".join(f"{value} {count}" for value, count in Counter(values).most_common())


def _product(shape: Iterable[int]) -> int:
    result = 1
    for side in shape:
        result *= side
    return result


_READERS: dict[str, Callable[[Path], Row]] = {
    ".tar": _shard,
    ".h5": _part,
    ".failed.jsonl": _failures,
    "metrics.jsonl": _training_log,
    ".jsonl": _captions,
    ".safetensors": _checkpoint,
    "splits.json": _splits,
    "classes.json": _classes,
}
