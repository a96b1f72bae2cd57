"""Videos behind URLs: fetched for as long as they are read, by predict's list of sources and by lists of clips."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from media_files import write_numbered

from fclip.data.layouts import open_dataset
from fclip.data.layouts.validation import validate
from fclip.errors import ClipFailure, FclipError
from fclip.runner.remote import fetched, url_name
from fclip.seeing.sources import find_sources, output_names
from fclip.stages import preprocess


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server's address, and the folder that it shows."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", folder
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_url_is_a_file_for_as_long_as_it_is_read(site: tuple[str, Path], tmp_path: Path) -> None:
    """Byte for byte, then gone; too large, missing and unreachable ones fail in one line."""
    pytest.importorskip("aiohttp")
    address, folder = site
    (folder / "a b.mp4").write_bytes(b"video" * 1000)
    with fetched(f"{address}/a%20b.mp4?key=1") as path:
        assert path.read_bytes() == b"video" * 1000 and path.name == "a_b.mp4"
    assert not path.exists() and not list(Path(tempfile.gettempdir()).glob(f"{path.parent.name}*"))
    for url, most, message in (
        (f"{address}/a%20b.mp4", 100, "over 0 GiB; download it"),
        (f"{address}/none.mp4", 1 << 30, r"none.mp4: cannot be fetched \(there is no such file\)"),
        ("http://127.0.0.1:9/x.mp4", 1 << 30, "x.mp4: cannot be fetched"),
    ):
        with pytest.raises(ClipFailure, match=message) as caught, fetched(url, most):
            pass
        assert "\n" not in str(caught.value)


def test_rows_with_urls(site: tuple[str, Path], tmp_path: Path) -> None:
    """They are clips with keys of host and path; one that is not there fails alone."""
    pytest.importorskip("aiohttp")
    address, folder = site
    write_numbered(folder / "v1.mp4", 4)
    (tmp_path / "l.csv").write_text(
        f"path,label\n{address}/v1.mp4,a\n{address}/gone.mp4,a\n{(folder / 'v1.mp4').as_uri()},b\n"
    )
    dataset = open_dataset("csv", tmp_path / "l.csv")
    assert not validate(dataset).findings["missing_files"]["count"]
    assert [Path(clip.source).name for clip in dataset.clips] == ["v1.mp4", "gone.mp4", "v1.mp4"]
    config = {"root": tmp_path / "ws", "dataset": "csv", "source": tmp_path / "l.csv", "max_failed": 0.5}
    report = preprocess.run(preprocess.Config(**config, frames="2", size=32, workers=1))
    assert report.counts == {"ok": 2, "skipped": 0, "failed": 1} and report.exit_code == 0


def test_sources_of_predict(tmp_path: Path) -> None:
    """URLs stay what they are, file:// is a path, and a camera has no end."""
    (tmp_path / "a b.mp4").touch()
    url = "https://example.org/videos/talk.mp4?x=1"
    assert list(find_sources([url, (tmp_path / "a b.mp4").as_uri()])) == [url, tmp_path / "a b.mp4"]
    assert url_name(url) == "talk.mp4" and output_names([url, Path("x/talk.mp4")], ".mp4")[0] != "talk.mp4"
    for name in ("0", "/dev/video0", "rtsp://host/stream"):
        with pytest.raises(FclipError, match="record first"):
            list(find_sources([name]))


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "DFEW.zip").write_bytes(b"PK")
    with pytest.raises(FclipError, match="DFEW.zip: an archive; unpack it first"):
        open_dataset("dfew", tmp_path / "DFEW.zip")
