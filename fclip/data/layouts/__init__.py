"""Data-set adapters: official release layouts, the rendered sets, and users' own clips behind one function."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from fclip.data.layouts.acted import read_crema_d, read_ravdess
from fclip.data.layouts.base import Dataset, DatasetOptions, Folds
from fclip.data.layouts.dfew import read_dfew
from fclip.data.layouts.ferv39k import read_ferv39k
from fclip.data.layouts.mafw import read_mafw
from fclip.data.layouts.own import read_csv, read_folder
from fclip.data.layouts.rendered import read_rendered
from fclip.errors import FclipError, UsageError

__all__ = ["Dataset", "DatasetOptions", "Folds", "dataset_names", "open_dataset"]

Adapter = Callable[[Path, DatasetOptions], Dataset]

# name -> (adapter, the options it understands)
_ADAPTERS: dict[str, tuple[Adapter, frozenset[str]]] = {
    "demo7": (read_rendered, frozenset()),
    "demo11": (read_rendered, frozenset()),
    "dfew": (read_dfew, frozenset({"view", "media", "splits", "order"})),
    "ferv39k": (read_ferv39k, frozenset({"view", "media", "splits", "order"})),
    "mafw": (read_mafw, frozenset({"view", "media", "subset", "captions", "splits", "order"})),
    "crema-d": (read_crema_d, frozenset({"media", "folds"})),
    "ravdess": (read_ravdess, frozenset({"media", "folds"})),
    "folder": (read_folder, frozenset({"classes", "folds"})),
    "csv": (read_csv, frozenset({"classes", "folds"})),
}


def dataset_names() -> tuple[str, ...]:
    """The values of `--dataset` that `open_dataset` reads."""
    return tuple(_ADAPTERS)


def open_dataset(name: str, source: Path | str, **options: Any) -> Dataset:
    """Read the lists of a data set below `source`: its clips, parts, folds and captions; no media is decoded.

    Options: see DatasetOptions. Raises UsageError for an unknown name or an option that does not apply, FclipError
    for what is missing or contradictory in the files.
    """
    if name not in _ADAPTERS:
        close = difflib.get_close_matches(name, _ADAPTERS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"--dataset {name}: unknown data set; known are {', '.join(_ADAPTERS)}{hint}")
    adapter, understood = _ADAPTERS[name]
    chosen = DatasetOptions(**options)
    for option in fields(DatasetOptions):
        given = getattr(chosen, option.name) != option.default
        if given and option.name not in understood and option.name != "seed":
            flag = "human-captions" if option.name == "captions" else option.name
            raise UsageError(f"--{flag} does not apply to --dataset {name}")
    path = Path(source)
    if not path.exists():
        raise FclipError(f"--source {path}: no such file or folder; give the place where the data set lies")
    return adapter(path, chosen)
