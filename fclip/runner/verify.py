"""What a command reads is what was written: files are bound to the manifest before use.

`verified` is called by every reader of fclip's own files: shards, HDF5 parts, captions, splits, classes (checkpoints:
see pointer). The size is compared each time; the sha256 is computed once (see hashes). A folder that another program
made has no manifest and is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from fclip.errors import FclipError
from fclip.files import read_json
from fclip.runner.commit import MANIFEST, CommitRecord, Manifest, parse_sealed, read_sealed
from fclip.runner.folder import read_config
from fclip.runner.hashes import FileRecord, Hashed, file_record, hash_file

HASH_LISTS = {"checkpoint.json": "files", "evaluation.json": "outputs"}  # record -> its field {name: sha256}
HASH_LISTS_REMEDY = {"checkpoint.json": "run fclip train again", "evaluation.json": "run fclip eval again"}
STAGE_FOLDERS = {  # stage folder of a workspace -> the command that makes it
    "source": "synth",
    "frames": "preprocess",
    "faces": "face-analyze",
    "captions": "caption",
    "refined": "refine",
    "packed": "pack",
}


def verified(path: str | Path) -> Path:
    """The path, once size and sha256 of the file are those on record; a file that no record lists is taken as it is.

    Raises FclipError with file, expected, found, and the command that makes it again.
    """
    verify_file(Path(path))
    return Path(path)


def verify_file(path: Path, *, anew: bool = False) -> Hashed | None:
    """As `verified`; gives the file's hash, None where no record lists it. `anew`: trust no earlier hash."""
    expected, remedy = _expected(path)
    if expected is None:
        return None
    try:
        hashed = hash_file(path, anew=anew)
        if hashed.record != expected:
            hashed = hash_file(path, anew=True)
    except OSError as error:
        raise FclipError(f"{path}: {error.strerror}, but it is on record; {remedy}") from None
    if hashed.record.bytes != expected.bytes:
        raise FclipError(f"{path}: {hashed.record.bytes} bytes, but {expected.bytes} were written; {remedy}")
    if hashed.sha256 != expected.sha256:
        raise FclipError(
            f"{path}: changed since it was written (sha256 {hashed.sha256}, not {expected.sha256}); {remedy}"
        )
    return hashed


def read_hash(path: Path) -> str:
    """The sha256 of a file that is going to be read, `verified`."""
    return (verify_file(path) or hash_file(path)).sha256


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a stage folder; None where there is none. FclipError for a damaged one or an unfinished stage."""
    path = folder / MANIFEST
    try:
        found = path.stat()
    except OSError:
        return None
    manifest = _read_manifest(path, found.st_mtime_ns, found.st_size)
    if manifest is None:
        return None
    config = read_config(folder)
    if config and config["config_hash"] != manifest.config_hash:
        raise FclipError(f"{folder}: unfinished, begun anew with another configuration; {remake(folder)}")
    return manifest


@lru_cache(maxsize=64)
def _read_manifest(path: Path, *_: int) -> Manifest | None:
    """The manifest in a file of this size and time; None where it is another program's."""
    try:
        value = read_json(path)
        if isinstance(value, dict) and not value.keys() & {"seal", "config_hash"} and read_config(path.parent) is None:
            return None
        return parse_sealed(value, Manifest, str(path))
    except FclipError:
        raise FclipError(f"{path}: not a manifest of fclip, or damaged; {remake(path.parent)}") from None


def is_whole(folder: Path) -> bool:
    """Whether a folder has a manifest, and all that it lists is there as it was written."""
    try:
        manifest = read_manifest(folder)
        return manifest is not None and all(
            (folder / name).is_file() and file_record(folder / name) == record
            for name, record in manifest.outputs.items()
        )
    except FclipError:
        return False


def remake(folder: Path, stage: str | None = None) -> str:
    """The sentence with the command that makes the content of a stage folder again."""
    command = stage or STAGE_FOLDERS.get(folder.name)
    if command is None:
        return "run the command that made it again"
    in_workspace = STAGE_FOLDERS.get(folder.name) == command
    place = f"--root {folder.parent.parent} --dataset {folder.parent.name}" if in_workspace else f"--out {folder}"
    return f"make it again: fclip {command} {place}"


def _expected(path: Path) -> tuple[FileRecord | None, str]:
    """What is on record of a file, and what to do if it is not so."""
    manifest = read_manifest(path.parent)
    if manifest is not None:
        return manifest.outputs.get(path.name), remake(path.parent, manifest.stage)
    return None, ""


@dataclass(frozen=True)
class Checked:
    """A file on record that was read anew; `problem` is None where it is what was written."""

    path: Path
    problem: str | None


def verify_tree(root: Path) -> Iterator[Checked]:
    """Read every file on record in a folder and below anew, and say of each whether it is what was written."""
    for path in sorted(root.rglob("*.json")):
        if path.name == MANIFEST:
            yield from _verify_stage(path)
        elif path.name in HASH_LISTS:
            yield from _verify_list(path, HASH_LISTS[path.name])


def _verify_stage(record: Path) -> Iterator[Checked]:
    """The files that a manifest lists, and the commit records of its shards."""
    try:
        manifest = read_manifest(record.parent)
    except FclipError as error:
        yield Checked(record, str(error))
        return
    for row in manifest.shards if manifest else ():
        path = record.parent / f"{row.stem}.json"
        yield _checked(path, partial(read_sealed, path, CommitRecord))
    for name in manifest.outputs if manifest else ():
        path = record.parent / name
        yield _checked(path, partial(verify_file, path, anew=True))


def _verify_list(record: Path, field: str) -> Iterator[Checked]:
    """The files whose hashes a checkpoint's or an evaluation's record holds."""

    def compare(path: Path, sha256: object) -> None:
        if not path.is_file() or hash_file(path, anew=True).sha256 != sha256:
            raise FclipError(f"{path}: missing, or changed since it was written; {HASH_LISTS_REMEDY[record.name]}")

    try:
        value = read_json(record)
        files = dict(value[field])
    except (FclipError, KeyError, TypeError, ValueError) as error:
        yield Checked(record, f"{record}: damaged ({error!r}); {HASH_LISTS_REMEDY[record.name]}")
        return
    for name, sha256 in files.items():
        path = record.parent / name
        yield _checked(path, partial(compare, path, sha256))


def _checked(path: Path, check: Callable[[], object]) -> Checked:
    try:
        check()
        return Checked(path, None)
    except FclipError as error:
        return Checked(path, str(error))
