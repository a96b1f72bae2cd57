"""Where the weights of face back ends lie: the folder FCLIP_MODELS, else the user's cache, else downloaded once."""

from __future__ import annotations

import logging
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from fclip.errors import FclipError
from fclip.files import atomic_write, cache_folder, find_file, sha256_file

FACEXFORMER_FILE, MEDIAPIPE_FILE = "facexformer.safetensors", "face_landmarker.task"
MAX_DOWNLOAD = 64 << 20  # bytes
TIMEOUT = 60  # seconds without a byte

log = logging.getLogger(__name__)


def find_or_download(name: str, url: str, sha256: str) -> Path:
    """The file `name`, downloaded from `url` into the cache when no folder has it.

    Raises FclipError when it cannot be had, or when the file found or downloaded has another hash: it is then not used,
    and a download not kept.
    """
    path = find_file(name)
    if path is None:
        path = cache_folder() / name
        log.info("downloading %s from %s", name, url)
        _download(url, path, sha256)
    elif (found := sha256_file(path)) != sha256:
        raise FclipError(f"{path}: sha256 is {found}, expected {sha256}; delete the file and it is downloaded again")
    return path


def _download(url: str, path: Path, sha256: str) -> None:
    """Fetch `url` into a temporary file beside `path`, check its hash, and only then put it in place."""
    try:
        with atomic_write(path) as temporary:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response, temporary.open("wb") as file:
                total = 0
                while block := response.read(1 << 16):
                    total += len(block)
                    if total > MAX_DOWNLOAD:
                        raise FclipError(f"{url}: more than {MAX_DOWNLOAD} bytes, which cannot be {path.name}")
                    file.write(block)
            found = sha256_file(temporary)
            if found != sha256:
                raise FclipError(f"{url}: sha256 of the download is {found}, expected {sha256}; it was not kept")
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise FclipError(
            f"{path.name} cannot be downloaded from {url} ({error}); put it into {path.parent} or set FCLIP_MODELS"
        ) from error
