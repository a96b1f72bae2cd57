"""What lies behind fsspec URLs (s3://, gs://, https://): shards and packed folders are fetched into a cache when first
used, videos into a temporary file for as long as they are read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from fclip.errors import ClipFailure, FclipError, one_line
from fclip.files import atomic_write, cache_folder, sha256_file
from fclip.runner.commit import Manifest, parse_sealed

MOST_BYTES = 8 << 30  # of a video behind a URL
CACHE_VARIABLE = "FCLIP_CACHE"
_FETCH_ERRORS = (OSError, ValueError, ImportError, RuntimeError)


def local_shard(shard: str | Path) -> Path:
    """Return the path of a shard on this machine; an fsspec URL is downloaded once.

    The copy lies in $FCLIP_CACHE (default ~/.cache/fclip/shards) under a name made from the URL and the
    remote file's identity, so that a changed shard is fetched again. Raises FclipError if it cannot be
    fetched, and for chained URLs (`::`) and shell pipes, which other WebDataset readers would run.
    """
    url = str(shard)
    if not is_url(url):
        return Path(shard)
    system, path = _open_system(url)
    try:
        return _cached(system, path, url)
    except _FETCH_ERRORS as error:
        raise FclipError(f"{url}: cannot be fetched ({error})") from error


def local_folder(folder: str | Path) -> Path:
    """Return a packed folder on this machine; that of an fsspec URL is downloaded once, as its manifest lists it.

    The copy lies in $FCLIP_CACHE under a name made from manifest and splits, so that a changed folder is fetched again;
    a download that stopped half-way goes on. Raises FclipError as local_shard, and for a shard whose hash is not the
    manifest's.
    """
    url = str(folder).rstrip("/")
    if not is_url(url):
        return Path(folder)
    system, path = _open_system(url)
    try:
        lists = {name: system.cat_file(f"{path}/{name}") for name in ("splits.json", "classes.json", "manifest.json")}
        identity = hashlib.sha256(b"".join(lists.values())).hexdigest()[:16]
        copy = _shards_folder() / identity / PurePosixPath(url).parent.name / PurePosixPath(url).name
        manifest = parse_sealed(json.loads(lists["manifest.json"]), Manifest, f"{url}/manifest.json")
        for row in manifest.shards:
            name = f"{PurePosixPath(row.stem).name}.tar"
            if row.samples:
                _download(system, f"{path}/{name}", copy / name, row.sha256)
        for name, content in lists.items():
            with atomic_write(copy / name) as temporary:
                temporary.write_bytes(content)
    except (*_FETCH_ERRORS, RecursionError) as error:
        raise FclipError(f"{url}: no packed folder that can be fetched ({error!r})") from error
    return copy


@contextmanager
def fetched(source: str | Path, most: int = MOST_BYTES) -> Iterator[Path]:
    """A source as a file on this machine: a path as it is, a URL as a copy that is deleted afterwards.

    Raises ClipFailure if it cannot be fetched or is larger than `most` bytes, and as local_shard for pipes.
    """
    url = str(source)
    if not is_url(url):
        yield Path(source)
        return
    system, path = _open_system(url)
    with tempfile.TemporaryDirectory(prefix="fclip-") as folder:
        copy = Path(folder) / url_name(url)
        errors: tuple[type[Exception], ...] = (*_FETCH_ERRORS, *_http_errors())
        try:
            with system.open(path, "rb") as remote, copy.open("wb") as file:
                while block := remote.read(1 << 20):
                    file.write(block)
                    if file.tell() > most:
                        raise ClipFailure(f"{url}: over {most >> 30} GiB; download it and give the file")
        except errors as error:
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else _text_of(error)
            raise ClipFailure(f"{url}: cannot be fetched ({reason})") from error
        yield copy


def _http_errors() -> tuple[type[Exception], ...]:
    """What a web server's refusal is raised as, where URLs of that kind can be opened at all."""
    try:
        from aiohttp import ClientError
    except ImportError:
        return ()
    return (ClientError,)


def _text_of(error: BaseException) -> str:
    """An error's text on one line, or its type's name."""
    return one_line(str(error)) or type(error).__name__


def url_name(url: str) -> str:
    """The file name in a URL, without its query; one that a disk can hold."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return re.sub(r"[^\w.-]", "_", name)[-100:] or "source"


def local_name(place: str) -> str:
    """A file:// URL as a path; anything else as it is."""
    return url2pathname(urlsplit(place).path) if place.lower().startswith("file://") else place


def is_url(place: str) -> bool:
    """Whether `place` is no path but a URL (or a shell pipe, which is refused where it would be opened)."""
    return "://" in place or place.startswith("pipe:")


def _open_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it."""
    if "::" in url or url.startswith("pipe:"):
        raise FclipError(f"{url}: pipes and chained URLs are not allowed; give a path or a plain URL")
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except _FETCH_ERRORS as error:
        raise FclipError(f"{url}: cannot be fetched ({error})") from error


def _shards_folder() -> Path:
    return Path(os.environ.get(CACHE_VARIABLE) or cache_folder() / "shards")


def _download(system: Any, path: str, target: Path, sha256: str | None = None) -> None:
    """Copy a remote file to `target`, whole or not at all; raises FclipError if its hash is another."""
    if target.exists():
        return
    with atomic_write(target) as temporary:
        with system.open(path, "rb") as source, open(temporary, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        if sha256 and sha256_file(temporary) != sha256:
            raise FclipError(f"{path}: its hash is not that of the manifest; copy the folder to its place again")


def _cached(system: Any, path: str, url: str) -> Path:
    identity = hashlib.sha256(f"{url} {system.ukey(path)}".encode()).hexdigest()[:16]
    copy = _shards_folder() / f"{identity}-{url.rsplit('/', 1)[-1]}"
    _download(system, path, copy)
    return copy
