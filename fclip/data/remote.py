"""Shards behind fsspec URLs (s3://, gs://, https://): fetched whole into a cache folder when first used."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from fclip.data.files import atomic_write
from fclip.errors import FclipError

CACHE_VARIABLE = "FCLIP_CACHE"


def local_shard(shard: str | Path) -> Path:
    """Return the path of a shard on this machine; an fsspec URL is downloaded once.

    The copy lies in $FCLIP_CACHE (default ~/.cache/fclip/shards) under a name made from the URL and the
    remote file's identity, so that a changed shard is fetched again. Raises FclipError if it cannot be
    fetched, and for chained URLs (`::`) and shell pipes, which other WebDataset readers would run.
    """
    url = str(shard)
    if "://" not in url and not url.startswith("pipe:"):
        return Path(shard)
    if "::" in url or url.startswith("pipe:"):
        raise FclipError(f"{url}: pipes and chained URLs are not allowed; give a path or a plain URL")
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        return _cached(system, path, url)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise FclipError(f"{url}: cannot be fetched ({error})") from error


def _cached(system: Any, path: str, url: str) -> Path:
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "fclip" / "shards")
    identity = hashlib.sha256(f"{url} {system.ukey(path)}".encode()).hexdigest()[:16]
    copy = folder / f"{identity}-{url.rsplit('/', 1)[-1]}"
    if not copy.exists():
        with atomic_write(copy) as temporary, system.open(path, "rb") as source, open(temporary, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return copy
