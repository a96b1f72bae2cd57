"""Shards: WebDataset tars of clips, written deterministically and read strictly.

A sample is a group of adjacent members `<key>.<field>`; FIELDS lists the fields there are. Any
WebDataset reader reads these files. Ours trusts nothing in a tar: names, sizes, duplicates and the end of the
archive are checked before a byte is decoded, and each field has one decoder, chosen by us and never by the
file.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from fclip.data.storage.arrays import check_finite, check_names, npy_bytes, parse_npy
from fclip.data.storage.strips import decode_strip, encode_strip
from fclip.errors import FclipError
from fclip.files import atomic_write, json_bytes, sha256_bytes
from fclip.records import FrameSample, check_key
from fclip.runner.verify import verified

FIELDS = {  # field -> largest size in bytes
    "frames.jpg": 64 << 20,
    "json": 1 << 20,
    "parsing.png": 16 << 20,
    "landmarks.npy": 1 << 20,
    "signals.npy": 16 << 20,
    "seen.npy": 64 << 20,
    "caption.txt": 64 << 10,
    "caption.json": 256 << 10,
}
MAX_SAMPLES = 1_000_000
ShardIndex = dict[str, dict[str, tuple[int, int]]]  # key -> field -> (offset, size)

_MEMBER = re.compile(r"([A-Za-z0-9_-]+)\.([a-z0-9.]+)")
_BLOCK = 512


class ShardWriter:
    """Write a shard: `with ShardWriter(path) as writer: writer.write(key, fields)`.

    The tar appears under its name when the block ends well, and not at all when it raises. The same samples
    in the same order give the same bytes: modification time 0, no owner, fields sorted by name.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.keys: dict[str, None] = {}  # in order
        self._stack = ExitStack()

    def __enter__(self) -> ShardWriter:
        temporary = self._stack.enter_context(atomic_write(self.path))
        self._tar = self._stack.enter_context(tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, key: str, fields: Mapping[str, bytes]) -> None:
        """Append one sample, all its fields together; raises FclipError for a bad or repeated key or field."""
        check_key(key)
        if key in self.keys:
            raise FclipError(f"{self.path}: clip {key} comes twice; give every clip its own key")
        for name, value in fields.items():
            _check_field(self.path, f"{key}.{name}", name, len(value))
        for name in sorted(fields):
            member = tarfile.TarInfo(f"{key}.{name}")
            member.size, member.mode = len(fields[name]), 0o444
            self._tar.addfile(member, io.BytesIO(fields[name]))
        self.keys[key] = None


def index_shard(path: str | Path) -> ShardIndex:
    """Return where each sample's fields lie in a shard, {key: {field: (offset, size)}}, in the tar's order.

    Raises FclipError for a shard that is not the one on record (see runner.verify), and for anything that is not a
    whole, plain shard: a truncated tar (also one cut between two
    members, which readers take for a shorter shard), links and devices, unsafe or unknown names, oversize
    members, repeated keys or fields.
    """
    path = verified(path)
    index: ShardIndex = {}
    last_key, end = None, 0
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, field = _check_member(path, member)
                if key in index and (key != last_key or field in index[key]):
                    raise FclipError(f"{path}: {member.name} comes twice; make the shard again")
                index.setdefault(key, {})[field] = (member.offset_data, member.size)
                last_key = key
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if len(index) > MAX_SAMPLES:
                    raise FclipError(f"{path}: more than {MAX_SAMPLES} samples; split the shard")
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError) as error:
        raise FclipError(f"{path}: not a readable shard ({error}); make it again") from error
    _check_end(path, end)
    return index


def read_shard(path: str | Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, {field: bytes}) of each sample of a shard, after the whole tar passed index_shard's checks."""
    index = index_shard(path)
    with open(path, "rb") as file:
        for key, fields in index.items():
            yield key, read_fields(file, fields)


def read_fields(file: BinaryIO, fields: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
    """Read one sample's fields, {field: (offset, size)} of index_shard, from its open shard."""
    values = {}
    for field, (offset, size) in fields.items():
        file.seek(offset)
        values[field] = file.read(size)
    return values


def frame_sample_fields(sample: FrameSample, quality: int = 95) -> dict[str, bytes]:
    """Return the fields `frames.jpg` and `json` of a clip; key, size and frame count in the json are set here."""
    count, height, width, _ = sample.frames.shape
    info = {**sample.info, "key": sample.key, "frames": count, "height": height, "width": width}
    fields = {"frames.jpg": encode_strip(sample.frames, quality)}
    if sample.seen is not None:
        fields["seen.npy"] = npy_bytes(sample.seen)
        info["seen"] = {
            "by": sample.seen_by,
            "width": sample.seen.shape[1],
            "strip": sha256_bytes(fields["frames.jpg"]),
        }
    return fields | {"json": json_bytes(info)}


def parse_frame_sample(key: str, fields: Mapping[str, bytes]) -> FrameSample:
    """Decode a sample's frames, json, and what was seen of the face; FclipError if one is missing or damaged.

    What was seen in other frames than those of the film strip (somebody has replaced them) is left out.
    """
    info = parse_info(key, fields)
    strip = need_field(key, fields, "frames.jpg")
    sample = FrameSample(key, decode_strip(strip, info["frames"], info["height"], info["width"]), info)
    if "seen.npy" in fields:
        try:
            by, width, of = (info["seen"][name] for name in ("by", "width", "strip"))
            if of == sha256_bytes(strip):
                sample.seen = parse_npy(f"{key}.seen.npy", fields["seen.npy"], (info["frames"], width))
                check_finite(sample.seen)
                sample.seen_by = dict(by)
        except (KeyError, TypeError, ValueError) as error:
            raise FclipError(f"{key}.seen.npy: {error}; make the shard again") from error
    return sample


def parse_info(key: str, fields: Mapping[str, bytes]) -> dict[str, Any]:
    """Decode a sample's json and check what others rely on: its key, label, frames, height and width."""
    name = f"{key}.json"
    info = parse_json(name, need_field(key, fields, "json"))
    for field, kind in {"key": str, "label": str, "frames": int, "height": int, "width": int}.items():
        if type(info.get(field)) is not kind:
            raise FclipError(f"{name}: {field} is {info.get(field)!r}, not {kind.__name__}; make the shard again")
    if info["key"] != key:
        raise FclipError(f"{name} belongs to clip {info['key']!r}; make the shard again")
    if "signal_names" in info:
        try:
            info["signal_names"] = check_names(info["signal_names"], len(info["signal_names"]))
        except (ValueError, TypeError) as error:
            raise FclipError(f"{name}: signal_names: {error}; make the shard again") from error
    return info


def need_field(key: str, fields: Mapping[str, bytes], field: str) -> bytes:
    """Return a field's bytes; raises FclipError if the sample has no such field."""
    if field not in fields:
        raise FclipError(f"clip {key} has no {field}; make the shard again")
    return fields[field]


def parse_json(name: str, data: bytes) -> dict[str, Any]:
    """Decode a JSON object of a sample; raises FclipError naming the member."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FclipError(f"{name}: not valid JSON ({error}); make the shard again") from error
    if not isinstance(value, dict):
        raise FclipError(f"{name}: not a JSON object; make the shard again")
    return value


def _check_member(path: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    """Return (key, field) of a plain file with a known name, else raise FclipError."""
    match = _MEMBER.fullmatch(member.name)
    if not match or not member.isreg() or member.sparse is not None:
        raise FclipError(f"{path}: {member.name!r} is no plain member <key>.<field>; this is not an fclip shard")
    _check_field(path, member.name, match[2], member.size)
    return match[1], match[2]


def _check_field(path: Path, name: str, field: str, size: int) -> None:
    if field not in FIELDS:
        raise FclipError(f"{path}: {name}: unknown field {field!r}; the fields are {', '.join(FIELDS)}")
    if not 0 <= size <= FIELDS[field]:
        raise FclipError(f"{path}: {name} has {size} bytes, more than the {FIELDS[field]} allowed")


def _check_end(path: Path, end: int) -> None:
    """A whole tar ends with two blocks of zeros and nothing else; tarfile itself does not look."""
    with open(path, "rb") as file:
        file.seek(end)
        zeros = 0
        while block := file.read(1 << 20):
            if block.count(0) != len(block):
                raise FclipError(f"{path}: damaged after byte {end}; make the shard again")
            zeros += len(block)
    if zeros < 2 * _BLOCK:
        raise FclipError(f"{path}: truncated at byte {end + zeros}; make the shard again")
