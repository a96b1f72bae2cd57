"""Open a checkpoint file as it is distributed, without running anything it carries, as a tree of stored tensors.

Formats: the zip archive of `torch.save`, the TorchScript archive of `torch.jit.save` (its `code/` is never read), the
older single-stream format of torch < 1.6, and safetensors. Tensors stay in the file until they are read.
"""

from __future__ import annotations

import mmap
import zipfile
import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fclip.errors import FclipError
from fclip.models.convert.pickles import StandIn, Storage, StoredTensor, unpickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MAX_MODULES = 100_000
MAX_PICKLE = 256 << 20  # bytes; the tree of names and shapes, without the numbers

SAFE_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Archive:
    """A checkpoint file: `format` is torch, torchscript, legacy or safetensors; `tree` holds StoredTensors."""

    path: Path
    format: str
    tree: Any
    stand_ins: tuple[str, ...] = ()


def open_archive(path: Path) -> Archive:
    """Open `path` by its content, not by its name. Raises FclipError in one line for anything that is no checkpoint."""
    path = Path(path)
    if not path.is_file():
        raise FclipError(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(16)
    if len(head) < 16:
        raise FclipError(f"{path}: {len(head)} bytes are no checkpoint; download the file again")
    if head.startswith(b"PK\x03\x04"):
        return _open_zip(path)
    if head[8:9] == b"{":
        return _open_safetensors(path)
    if head.startswith(b"\x80\x02\x8a\x0a"):  # PROTO 2, LONG1 of 10 bytes: the magic number of torch < 1.6
        return _open_legacy(path)
    raise FclipError(f"{path}: not a torch, TorchScript or safetensors file")


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # private pages: torch wants a writable buffer


def _numbers(data: mmap.mmap, start: int, storage: Storage, path: Path) -> torch.Tensor:
    """The flat tensor of `storage`, whose bytes begin at `start`; still part of the mapped file."""
    if start + storage.count * storage.dtype.itemsize > len(data):
        raise FclipError(f"{path}: storage {storage.key} ends after the file; download the file again")
    if storage.count == 0:
        return torch.empty(0, dtype=storage.dtype)
    return torch.frombuffer(data, dtype=storage.dtype, count=storage.count, offset=start)


# -- zip archives -------------------------------------------------------------------------------------------------


def _open_zip(path: Path) -> Archive:
    try:
        with zipfile.ZipFile(path) as archive:
            records = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        raise FclipError(f"{path}: truncated or broken archive; download the file again") from None
    root = next(
        (
            name.removesuffix("data.pkl")
            for name in records
            if name.count("/") <= 1 and name.rpartition("/")[2] == "data.pkl"
        ),
        None,
    )
    if root is None:
        raise FclipError(f"{path}: a zip file, but no checkpoint of torch.save or torch.jit.save (it has no data.pkl)")
    data = _map(path)
    if f"{root}byteorder" in records and _record(data, records[f"{root}byteorder"], path) != b"little":
        raise FclipError(f"{path}: written on a big-endian machine; not supported")

    def fetch(storage: Storage) -> torch.Tensor:
        info = records.get(f"{root}data/{storage.key}")
        if info is None or info.file_size < storage.count * storage.dtype.itemsize:
            raise FclipError(f"{path}: record data/{storage.key} is missing or too short; download the file again")
        return _numbers(data, _start(data, info, path, check=True), storage, path)

    info = records[f"{root}data.pkl"]
    if info.file_size > MAX_PICKLE:
        raise FclipError(f"{path}: data.pkl of {info.file_size} bytes is no list of tensors")
    tree, machine = unpickle(_Stream(_record(data, info, path)), fetch, f"{path}")
    if f"{root}constants.pkl" in records:
        return Archive(path, "torchscript", module_tensors(tree, path))
    return Archive(path, "torch", tree, tuple(sorted(machine.stand_ins)))


def _start(data: mmap.mmap, info: zipfile.ZipInfo, path: Path, check: bool = False) -> int:
    """Offset of a record's bytes. They must be stored plainly, as torch does; `check` compares their CRC-32."""
    header = data[info.header_offset : info.header_offset + 30]
    if info.compress_type != zipfile.ZIP_STORED or len(header) < 30 or not header.startswith(b"PK\x03\x04"):
        raise FclipError(f"{path}: record {info.filename} is not stored as torch stores it")
    name_length, extra_length = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    start = info.header_offset + 30 + name_length + extra_length
    if start + info.file_size > len(data):
        raise FclipError(f"{path}: record {info.filename} ends after the file; download the file again")
    if check and info.CRC:  # torch writes 0 when it was told not to compute checksums
        with memoryview(data) as view, view[start : start + info.file_size] as part:
            if zlib.crc32(part) != info.CRC:
                raise FclipError(f"{path}: record {info.filename} is damaged (CRC-32); download the file again")
    return start


def _record(data: mmap.mmap, info: zipfile.ZipInfo, path: Path) -> bytes:
    start = _start(data, info, path, check=True)
    return data[start : start + info.file_size]


class _Stream:
    """`read` and `readline` over bytes that never return more than there is."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        self._at += len(part)
        return part

    def readline(self) -> bytes:
        end = self._data.find(b"\n", self._at) + 1
        return self.read((end or len(self._data)) - self._at)


def module_tensors(tree: Any, path: Path) -> dict[str, StoredTensor]:
    """Tensors of a TorchScript module tree under their attribute paths, e.g. `visual.conv1.weight`."""
    tensors: dict[str, StoredTensor] = {}
    todo, visited = [("", tree)], 0
    while todo and (visited := visited + 1) < MAX_MODULES:  # a hostile tree may contain itself
        prefix, module = todo.pop()
        state = module.state if isinstance(module, StandIn) and isinstance(module.state, dict) else {}
        for name, value in state.items():
            if isinstance(value, StoredTensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, StandIn):
                todo.append((f"{prefix}{name}.", value))
    if todo or not tensors:
        raise FclipError(f"{path}: a TorchScript archive, but not of a network")
    return tensors


# -- other formats ------------------------------------------------------------------------------------------------


def _open_legacy(path: Path) -> Archive:
    """torch < 1.6: pickles of magic number, protocol, system, tree, storage keys, then per storage count, numbers."""
    data = _map(path)
    starts: dict[str, int] = {}

    def fetch(storage: Storage) -> torch.Tensor:
        return _numbers(data, starts[storage.key], storage, path)

    magic, protocol, system = (unpickle(data, fetch, f"{path}")[0] for _ in range(3))
    if magic != LEGACY_MAGIC or protocol != 1001 or not isinstance(system, dict) or not system.get("little_endian"):
        raise FclipError(f"{path}: not a file of torch.save, or of a big-endian machine")
    tree, machine = unpickle(data, fetch, f"{path}")
    keys = unpickle(data, fetch, f"{path}")[0]
    if not isinstance(keys, list) or set(keys) != set(machine.storages):
        raise FclipError(f"{path}: its list of storages does not fit its tensors; download the file again")
    for key in keys:
        size = data.read(8)
        count, starts[key] = int.from_bytes(size, "little"), data.tell()
        _numbers(data, starts[key], replace(machine.storages[key], count=count), path)
        if len(size) < 8 or count < machine.storages[key].count:
            raise FclipError(f"{path}: storage {key} is too short; download the file again")
        data.seek(count * machine.storages[key].dtype.itemsize, 1)
    return Archive(path, "legacy", tree, tuple(sorted(machine.stand_ins)))


def _open_safetensors(path: Path) -> Archive:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a dict
            tree = {
                name: StoredTensor(
                    tuple(part.get_shape()), SAFE_DTYPES[part.get_dtype()], partial(_safe_tensor, path, name)
                )
                for name, part in slices.items()
            }
    except (SafetensorError, OSError, KeyError) as error:
        raise FclipError(f"{path}: broken safetensors file ({str(error).splitlines()[0]:.80})") from None
    return Archive(path, "safetensors", tree)


def _safe_tensor(path: Path, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)
