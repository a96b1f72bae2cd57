"""Data-set adapters: official release layouts, the rendered sets, and users' own clips behind one function."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from fclip.data.layouts.base import Dataset, Folds
from fclip.data.media.files import is_archive
from fclip.errors import FclipError
from fclip.registry import DATASETS

__all__ = ["Dataset", "Folds", "open_dataset"]


def open_dataset(name: str, source: Path | str, **options: Any) -> Dataset:
    """Read the lists of a data set below `source`: its clips, parts, folds and captions; no media is decoded.

    `options`: those of the data set's own adapter, a function (source, options) -> Dataset. Raises UsageError for an
    unknown name or option, FclipError for what is missing or contradictory in the files.
    """
    read = DATASETS.find(name)
    path = Path(source)
    if not path.exists():
        raise FclipError(f"--source {path}: no such file or folder; give the place where the data set lies")
    if path.is_file() and is_archive(path.name):
        raise FclipError(f"--source {path}: an archive; unpack it first, then give the folder")
    return cast(Dataset, read(path, DATASETS.make_options(name, options)))
