"""Bringing weights files here: from the Hugging Face hub with huggingface_hub, from elsewhere with pooch.

A file appears in the weights folder whole and with the right hash, or not at all; a download from the hub that was cut
off goes on where it stopped.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fclip.catalogue import (
    FETCHED,
    Weights,
    answers,
    entry,
    find,
    hub_address,
    listed,
    missing,
    published,
    weights_folder,
)
from fclip.errors import FclipError, one_line
from fclip.files import atomic_write, readable_size, sha256_file, write_json

MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")  # of a model of transformers: no pickles

if TYPE_CHECKING:
    from fclip.records import CheckpointInfo

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """What was brought: the file or folder, its bytes, the licence that its page names, the hash of each file."""

    path: Path
    bytes: int
    licence: str
    sha256: dict[str, str]


def provide(names: Iterable[str]) -> None:
    """See that all these weights are there: what is missing is fetched, and named first with its size and licence.

    FclipError, after seconds, where they are missing and out of reach.
    """
    wanted = [row for name in dict.fromkeys(names) if (row := entry(name)) and find(row) is None]
    for row in wanted:
        if not answers(row.place):
            raise FclipError(missing(row, f"{row.place.split('/')[2]} does not answer"))
    for row in wanted:
        log.warning("fetching %s (%s, licence %s) into %s", row.file, row.size, row.licence, weights_folder())
        fetch(row)


def provide_for(info: CheckpointInfo) -> None:
    """See that the frozen weights that a checkpoint was trained on are there; as `provide`."""
    clip = published(info.clip) if info.clip_weights in (None, "openai") else info.clip_weights
    provide(name for name in (clip, info.longclip_weights) if name in listed())


def fetch(row: Weights) -> Fetched:
    """Download an entry of the catalogue into the weights folder; FclipError in one line where that fails."""
    folder = weights_folder()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _from_url(row, folder) if row.url else _from_hub(row, folder)
    except FclipError:
        raise
    except Exception as error:  # the libraries below raise errors of many libraries below them
        raise FclipError(f"{row.name}: cannot be fetched from {row.place} ({one_line(error)[:120]})") from error


def _from_url(row: Weights, folder: Path) -> Fetched:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    with tempfile.TemporaryDirectory(prefix=f".{row.name}.", dir=folder) as temporary:
        download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=60)
        known = f"sha256:{row.sha256}" if row.sha256 else None
        found = Path(pooch.retrieve(row.url, known, row.file, temporary, downloader=download))
        digest = sha256_file(found)
        with atomic_write(folder / row.file) as place:
            os.replace(found, place)
    path = folder / row.file
    return Fetched(path, path.stat().st_size, row.licence, {row.file: digest})


def _from_hub(row: Weights, folder: Path) -> Fetched:
    """The files at one commit, each compared with the hash that the hub gives for it."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    info = HfApi(endpoint=hub_address()).model_info(row.repository, revision=row.revision, files_metadata=True)
    files = _wanted(row, info)
    total = sum(file.size or 0 for file in files)
    if (free := shutil.disk_usage(folder).free) < total:
        raise FclipError(f"{folder}: {readable_size(total)} are needed for {row.name}, {readable_size(free)} are free")
    partial, digests = folder / f".{row.file}.part", {}
    for file in files:
        found = Path(
            hf_hub_download(
                row.repository, file.rfilename, revision=info.sha, local_dir=partial, endpoint=hub_address()
            )
        )
        digests[file.rfilename] = digest = sha256_file(found)
        if file.lfs and file.lfs.sha256 != digest:
            shutil.rmtree(partial)
            raise FclipError(f"{row.place}: {file.rfilename} has sha256 {digest}, expected {file.lfs.sha256}; not kept")
    licence = str(getattr(info.card_data, "license", None) or row.licence)
    if row.source:
        path = _keep_file(row, partial / row.source, folder / row.file)
    else:
        path = folder / row.file
        facts = {"repository": row.repository, "commit": info.sha, "licence": licence, "files": digests}
        write_json(partial / FETCHED, facts)
        shutil.rmtree(partial / ".cache", ignore_errors=True)  # the library's notes about the download
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    shutil.rmtree(partial, ignore_errors=True)
    return Fetched(path, total, licence, digests)


def _wanted(row: Weights, info: Any) -> list[Any]:
    """The files of a repository that an entry consists of."""
    from fnmatch import fnmatch

    if row.source:
        files = [file for file in info.siblings if file.rfilename == row.source]
    else:
        files = [file for file in info.siblings if any(fnmatch(file.rfilename, kind) for kind in MODEL_FILES)]
        files = [file for file in files if "/" not in file.rfilename]
    if not files:
        raise FclipError(f"{row.place}: holds no {row.source or 'model of transformers'}")
    return files


def _keep_file(row: Weights, found: Path, path: Path) -> Path:
    """Put a downloaded file in its place, converted where the entry says so."""
    if row.convert:
        from fclip.models.convert import convert

        convert(found, path, row.convert)
    else:
        with atomic_write(path) as place:
            os.replace(found, place)
    return path
