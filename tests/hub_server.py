"""A real HTTP server with the addresses of the Hugging Face hub (model pages, files at a commit) and of plain files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + 34 * "0"


class Hub(ThreadingHTTPServer):
    """repositories: {owner/name: {file: bytes}}; plain: {path: bytes}; asked: what was requested, in order."""

    def __init__(self, repositories: dict[str, dict[str, bytes]], plain: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.plain = repositories, plain
        self.asked: list[str] = []
        self.wrong_hash = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(f"{self.command} {path}")
        data = self.server.plain.get(path)
        for repository, files in self.server.repositories.items():
            if path.startswith(f"api/models/{repository}"):
                data = json.dumps(self._page(repository, files)).encode()
            elif path.startswith(f"{repository}/resolve/{COMMIT}/"):
                data = files.get(path.partition(f"{COMMIT}/")[2])
        self._answer(data)

    def _page(self, repository: str, files: dict[str, bytes]) -> dict[str, object]:
        def sha(data: bytes) -> str:
            return hashlib.sha256(b"other" if self.server.wrong_hash else data).hexdigest()

        siblings = [
            {"rfilename": name, "size": len(data), "lfs": {"sha256": sha(data), "size": len(data), "pointerSize": 1}}
            for name, data in files.items()
        ]
        return {"id": repository, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "cc0-1.0"}}

    def _answer(self, data: bytes | None) -> None:
        self.send_response(404 if data is None else 200)
        content = data or b""
        self.send_header("Content-Type", "application/json" if content[:1] == b"{" else "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@contextmanager
def serve(repositories: dict[str, dict[str, bytes]], plain: dict[str, bytes]) -> Iterator[Hub]:
    """The server, running in a thread."""
    server = Hub(repositories, plain)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
