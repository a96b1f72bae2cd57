"""Weights files: where they are looked for, downloads from a real server, hashes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fclip.errors import FclipError
from fclip.faces import weights
from fclip.faces.weights import cache_folder, find_file, find_or_download

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "w.bin").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/w.bin"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FCLIP_MODELS", raising=False)
    return cache_folder()


def test_downloaded_once(url: str, cache: Path) -> None:
    path = find_or_download("w.bin", url, SHA256)
    assert path == cache / "w.bin" and path.read_bytes() == CONTENT
    assert find_or_download("w.bin", "http://127.0.0.1:1/not-there", SHA256) == path
    assert [p.name for p in cache.iterdir()] == ["w.bin"]


def test_folder_of_the_environment_comes_first(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path / "models", cache):
        folder.mkdir(parents=True)
        (folder / "w.bin").write_bytes(CONTENT)
    assert find_file("w.bin") == cache / "w.bin"
    monkeypatch.setenv("FCLIP_MODELS", str(tmp_path / "models"))
    assert find_or_download("w.bin", "http://127.0.0.1:1/", SHA256) == tmp_path / "models" / "w.bin"


def test_download_with_another_hash_is_not_kept(url: str, cache: Path) -> None:
    with pytest.raises(FclipError, match=f"{SHA256}, expected {'0' * 64}; it was not kept"):
        find_or_download("w.bin", url, "0" * 64)
    assert list(cache.iterdir()) == []


def test_file_with_another_hash_is_refused(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "w.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(FclipError, match="w.bin: sha256 is .* delete the file"):
        find_or_download("w.bin", "http://127.0.0.1:1/", SHA256)


def test_endless_download_is_stopped(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_DOWNLOAD", 100)
    with pytest.raises(FclipError, match="more than 100 bytes"):
        find_or_download("w.bin", url, SHA256)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/w.bin", "{url}.missing"])
def test_no_network(address: str, url: str, cache: Path) -> None:
    with pytest.raises(FclipError, match="w.bin cannot be downloaded .*; put it into .* or set FCLIP_MODELS") as error:
        find_or_download("w.bin", address.format(url=url), SHA256)
    assert "\n" not in str(error.value)
