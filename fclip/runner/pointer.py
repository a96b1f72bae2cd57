"""The checkpoint that LAST or BEST of a run folder names, and whether its files are as they were written.

A pointer holds the name of a folder beside it. No command follows one, or a link, out of the run folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fclip.errors import FclipError
from fclip.files import sha256_file
from fclip.runner.hashes import hash_file
from fclip.schema import read_record, write_record

WEIGHTS, STATE, RECORD = "model.safetensors", "state.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class CheckpointRecord:
    """checkpoint.json, the commit record of a checkpoint's folder: {file name: sha256}."""

    files: dict[str, str]


def read_pointer(path: Path) -> Path:
    """The folder of the checkpoint that a pointer file names; FclipError unless it is one of the same run."""
    try:
        name = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise FclipError(f"{path}: {error.strerror}; check the path") from None
    run = path.parent.resolve()
    named = Path(name).name == name and name not in ("", ".", "..") and name.isprintable() and len(name) < 100
    if not named or (run / name / WEIGHTS).resolve() != run / name / WEIGHTS or not (run / name / WEIGHTS).is_file():
        shown = ascii(name if len(name) < 100 else f"{name[:97]}...")
        raise FclipError(f"{path}: points to {shown}, which is no checkpoint of this run; run: fclip train")
    return path.parent / name


def record_checkpoint(folder: Path) -> None:
    """Write the commit record of a checkpoint's folder."""
    files = {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.suffix == ".safetensors"}
    write_record(folder / RECORD, CheckpointRecord(files))


def verify_checkpoint(path: Path, *, required: bool = False) -> None:
    """FclipError unless a file of a checkpoint's folder is as the commit record beside it says.

    A file without a record, such as a weights file that was copied elsewhere, is taken as it is, unless one is
    `required`.
    """
    record = path.parent / RECORD
    if not record.is_file() and not required:
        return
    files = read_record(record, CheckpointRecord).files
    if not path.is_file() or (required and path.name not in files):
        raise FclipError(f"{path}: missing, or not in {RECORD}; run fclip train again")
    if path.name in files and hash_file(path).sha256 != files[path.name]:
        raise FclipError(f"{path}: not as it was written (sha256 differs from {RECORD}); run fclip train again")
