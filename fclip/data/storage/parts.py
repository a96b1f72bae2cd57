"""HDF5 part files: face tracks of a shard's clips, and frozen features addressed by their input.

A part is written once, appears whole, and never changes. Its tables are flat: `keys` (N,), `sha256` (N,),
`offsets` (N+1,), and tables that hold the rows of all clips one after another. Rows are only given to a
reader who names the sha256 of the input they were computed from, so a stale row can not be used. The tables
have checksums, so neither can a damaged one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from fclip.data.storage.arrays import check_finite, check_names, check_range
from fclip.errors import FclipError
from fclip.files import atomic_write
from fclip.records import BLENDSHAPES, LANDMARKS, PARSING_CLASSES, FaceTrack, check_key
from fclip.runner.verify import verified

FACES_SCHEMA, FEATURES_SCHEMA = "fclip-faces-1", "fclip-features-1"
MAX_CLIP_BYTES = 1 << 30  # one table's rows of one clip
Scalar = str | int | float | bool
# what h5py raises for damaged files
DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)

_TRACK_TABLES: dict[str, tuple[str, tuple[int | None, ...]]] = {  # field of FaceTrack -> type, shape of a row
    "parsing": ("|u1", (None, None)),
    "landmarks": ("<f4", (LANDMARKS, 2)),
    "confidence": ("<f4", ()),
    "blendshapes": ("<f4", (BLENDSHAPES,)),
    "pose": ("<f4", (3,)),
    "filled": ("|b1", ()),
    "signals": ("<f4", (None,)),
}


def write_faces(
    path: str | Path,
    keys: Sequence[str],
    sha256s: Sequence[str],
    tracks: Iterable[FaceTrack],
    attributes: Mapping[str, Scalar],
) -> None:
    """Write the face tracks of one shard's clips as a part file, taking one track at a time.

    `sha256s` are those of the film strips (`frames.jpg`) that the tracks were computed from. All tracks of a
    part have frames of one size, the same optional fields and the same signals, whose names and units are the
    attributes `signal_names` and `signal_units` (JSON lists). Raises FclipError otherwise; then no file appears.
    """
    facts = {**attributes, "schema": FACES_SCHEMA}
    with _write_part(path, facts) as part:
        for key, sha256, track in zip(keys, sha256s, tracks, strict=True):
            check_key(key)
            part.append(key, sha256, _track_tables(key, track))
            if track.signals is not None:
                named = {"signal_names": json.dumps(track.signal_names), "signal_units": json.dumps(track.signal_units)}
                if any(facts.setdefault(name, text) != text for name, text in named.items()):
                    raise FclipError(f"{path}: the signals of {key} are not those of the clips before it")


def write_features(
    path: str | Path, rows: Mapping[str, np.ndarray], fingerprint: str, attributes: Mapping[str, Scalar]
) -> None:
    """Write frozen features as a part file: {sha256 of the input: array (rows, width)}.

    `fingerprint` stands for the model's weights and preprocessing. All arrays have one type and one width: a
    caption embedding is one row, a clip's frame features are T rows.
    """
    with _write_part(path, {**attributes, "schema": FEATURES_SCHEMA, "fingerprint": fingerprint}) as part:
        for sha256, values in sorted(rows.items()):
            if values.ndim != 2:
                raise FclipError(f"{path}: feature {sha256} has shape {values.shape}, not (rows, width)")
            part.append(sha256, sha256, {"values": values})


class FacesPart:
    """Reader of a face part file: `keys`, `attributes`, `read(key, sha256)`. Use it in a `with` block."""

    def __init__(self, path: str | Path) -> None:
        self._part = _PartReader(path, FACES_SCHEMA)
        self.keys, self.attributes = self._part.keys, self._part.attributes

    def __enter__(self) -> FacesPart:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._part.close()

    def read(self, key: str, sha256: str) -> FaceTrack:
        """Return the track of a clip whose film strip has this sha256 now.

        Raises FclipError if the part has no such clip, or has it for another film strip.
        """
        part = self._part
        if part.sha256s.get(key) != sha256:
            reason = "was made from other frames" if key in part.sha256s else "is not in the file"
            raise FclipError(f"{part.path}: the face track of clip {key} {reason}; run fclip face-analyze again")
        names = [name for name in _TRACK_TABLES if name in part.file]
        tables = {name: part.read(key, name, *_TRACK_TABLES[name]) for name in names}
        if not {"parsing", "landmarks", "confidence"} <= tables.keys():
            raise FclipError(f"{part.path}: a table is missing; run fclip face-analyze again")
        for name, values in tables.items():
            check_range(f"{part.path}: clip {key}", name, values)
        signal_names, signal_units = self._named(tables.get("signals"))
        return FaceTrack(**tables, signal_names=signal_names, signal_units=signal_units)

    def _named(self, signals: np.ndarray | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names and units of the signals by the attributes; none where there are no signals."""
        if signals is None:
            return (), ()
        try:
            check_finite(signals)
            names, units = (json.loads(str(self.attributes[name])) for name in ("signal_names", "signal_units"))
            return check_names(names, signals.shape[1]), check_names(units, signals.shape[1], distinct=False)
        except (KeyError, ValueError, RecursionError) as error:
            raise FclipError(f"{self._part.path}: signals: {error}; run fclip face-analyze again") from error


def read_features(path: str | Path, fingerprint: str) -> dict[str, np.ndarray]:
    """Read a feature part into memory: {sha256 of the input: array (rows, width)}.

    Empty if there is no such file or if another model (`fingerprint`) made it. FclipError for a damaged file.
    """
    if not Path(path).is_file():
        return {}
    part = _PartReader(path, FEATURES_SCHEMA)
    try:
        if part.attributes.get("fingerprint") != fingerprint:
            return {}
        return {sha256: part.read(sha256, "values", None, (None,)) for sha256 in part.keys}
    finally:
        part.close()


def _track_tables(key: str, track: FaceTrack) -> dict[str, np.ndarray]:
    """The tables of a track that are present, with their types; raises FclipError for a wrong shape or value."""
    tables = {}
    for name, (dtype, shape) in _TRACK_TABLES.items():
        values = getattr(track, name)
        if values is None:
            continue
        if not _fits(values.shape, (len(track.parsing), *shape)):
            raise FclipError(f"face track of {key}: {name} has shape {values.shape}; it must be (T, {shape})")
        tables[name] = values.astype(dtype, copy=False)
        check_range(f"face track of {key}", name, tables[name])
    if track.signals is not None:
        try:
            check_finite(track.signals)
            check_names(track.signal_names, track.signals.shape[1])
            check_names(track.signal_units, track.signals.shape[1], distinct=False)
        except ValueError as error:
            raise FclipError(f"face track of {key}: signals: {error}") from error
    if tables["parsing"].max(initial=0) >= len(PARSING_CLASSES):
        raise FclipError(f"face track of {key}: parsing id {tables['parsing'].max()} is no class")
    return tables


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(b in (None, a) for a, b in zip(found, wanted, strict=True))


@contextmanager
def _write_part(path: str | Path, attributes: Mapping[str, Scalar]) -> Iterator[_PartWriter]:
    """Publish a part file when the block ends well, nothing when it raises.

    It is made in memory: where a disk is full, the HDF5 library cannot close a file and crashes.
    """
    with h5py.File(f"{path}", "w", libver=("earliest", "v110"), driver="core", backing_store=False) as file:
        part = _PartWriter(Path(path), file)
        yield part
        part.finish(attributes)
        file.flush()
        image = file.id.get_file_image()
    with atomic_write(path) as temporary:
        temporary.write_bytes(image)


class _PartWriter:
    """Appends clips to the flat tables of a part file; its bytes depend on values and order alone (no times)."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self._file = path, file
        self._sha256s: dict[str, str] = {}
        self._offsets = [0]

    def append(self, key: str, sha256: str, tables: Mapping[str, np.ndarray]) -> None:
        """Append one clip's rows to each table; raises FclipError if they do not fit to the clips before."""
        if key in self._sha256s:
            raise FclipError(f"{self.path}: {key} comes twice; give every clip its own key")
        if not self._sha256s:
            for name, values in tables.items():
                self._create(name, values)
        start, end = self._offsets[-1], self._offsets[-1] + len(next(iter(tables.values())))
        for name in sorted(tables.keys() | self._file.keys()):  # a fixed order: it decides the file's bytes
            rows, table = tables.get(name), self._file.get(name)
            if rows is None or table is None or (rows.shape[1:], rows.dtype) != (table.shape[1:], table.dtype):
                raise FclipError(
                    f"{self.path}: {name} of {key} does not fit to the clips before it; all clips of a part need "
                    "the same tables, types and frame size"
                )
            table.resize(end, axis=0)
            table[start:] = rows
        self._sha256s[key] = sha256
        self._offsets.append(end)

    def finish(self, attributes: Mapping[str, Scalar]) -> None:
        """Write keys, offsets and attributes."""
        for name, values in (("keys", list(self._sha256s)), ("sha256", list(self._sha256s.values()))):
            self._file.create_dataset(name, data=_fixed_text(values), track_times=False)
        offsets = np.array(self._offsets, "<i8")
        self._file.create_dataset("offsets", data=offsets, chunks=offsets.shape, track_times=False, fletcher32=True)
        for name, value in sorted(attributes.items()):
            if not isinstance(value, str | int | float | bool):
                raise FclipError(f"{self.path}: attribute {name} is {type(value).__name__}, not text or a number")
            self._file.attrs[name] = _fixed_text([value])[0] if isinstance(value, str) else value

    def _create(self, name: str, values: np.ndarray) -> None:
        """Make an empty table that grows by rows like these, in chunks of about 64 kB or one row."""
        shape = values.shape[1:]
        row_bytes = max(1, int(np.prod(shape)) * values.itemsize)
        chunk = max(1, min(1024, (64 << 10) // row_bytes))
        options = {"compression": "gzip", "compression_opts": 4} if name == "parsing" else {}
        self._file.create_dataset(
            name,
            (0, *shape),
            values.dtype,
            maxshape=(None, *shape),
            chunks=(chunk, *shape),
            track_times=False,
            fletcher32=True,  # a flipped bit is an error when it is read, not another number
            **options,
        )


class _PartReader:
    """Reads a part file; follows no link out of it and bounds sizes before reading."""

    def __init__(self, path: str | Path, schema: str) -> None:
        self.path = Path(path)
        try:
            self.file = h5py.File(verified(path), "r")
        except OSError as error:
            raise FclipError(f"{path}: not a readable HDF5 file ({error}); make it again") from error
        try:
            self.attributes = read_attributes(self.file)
            if self.attributes.get("schema") != schema:
                raise ValueError(f"its schema is {self.attributes.get('schema')!r}, not {schema!r}")
            self._read_keys()
        except DAMAGE as error:
            self.close()
            raise FclipError(f"{path}: not a part file ({error}); make it again") from error

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def read(self, key: str, name: str, dtype: str | None, shape: tuple[int | None, ...]) -> np.ndarray:
        """Return a clip's rows of a table whose rows must have this type and shape (None: any)."""
        start, end = (int(offset) for offset in self._offsets[self._rows[key] :][:2])
        try:
            table = self._table(name)
            if not _fits(table.shape[1:], shape) or (dtype and table.dtype != np.dtype(dtype)):
                raise ValueError(f"{name} is {table.dtype} {table.shape}")
            row_bytes = max(1, int(np.prod(table.shape[1:], dtype=np.int64)) * table.dtype.itemsize)
            if end > len(table) or (end - start) * row_bytes > MAX_CLIP_BYTES:
                raise ValueError(f"{name} of {key} is out of bounds")
            return table[start:end]
        except DAMAGE as error:
            raise FclipError(f"{self.path}: damaged ({error}); make it again") from error

    def _read_keys(self) -> None:
        self.keys = tuple(self._table("keys").asstr()[:])
        self.sha256s = dict(zip(self.keys, self._table("sha256").asstr()[:], strict=True))
        self._rows = {key: row for row, key in enumerate(self.keys)}
        self._offsets = self._table("offsets")[:]
        if len(self._rows) != len(self.keys) or self._offsets.shape != (len(self.keys) + 1,):
            raise ValueError("keys and offsets disagree")
        if self._offsets.dtype.kind != "i" or self._offsets[0] != 0 or np.any(np.diff(self._offsets) < 0):
            raise ValueError("offsets are out of order")

    def _table(self, name: str) -> h5py.Dataset:
        """A table that lies in this very file: no soft, external or virtual one."""
        hard = isinstance(self.file.get(name, getlink=True), h5py.HardLink)
        table = self.file[name] if hard else None
        if not isinstance(table, h5py.Dataset) or table.external or table.is_virtual:
            raise ValueError(f"no table {name} in the file")
        _check_text_type(name, table.dtype)
        return table


def read_attributes(file: h5py.File) -> dict[str, Scalar]:
    """The attributes of a part file as plain values; ValueError for text of no fixed length."""
    found: dict[str, Scalar] = {}
    for name in file.attrs:
        _check_text_type(name, file.attrs.get_id(name).dtype)
        value = file.attrs[name]
        value = value.item() if isinstance(value, np.generic) else value
        found[name] = value.decode() if isinstance(value, bytes) else value
    return found


def _fixed_text(texts: Sequence[str]) -> np.ndarray:
    """Texts (N,) of a fixed length: those of any length lie in a heap, and HDF5 never returns from a damaged one."""
    encoded = [text.encode() for text in texts]
    return np.array(encoded, h5py.string_dtype("utf-8", max([1, *map(len, encoded)])))


def _check_text_type(name: str, dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise ValueError(f"{name} has no fixed length, as an older fclip wrote it")
