"""A real HTTP server that plays the OpenAI endpoint; a test says through `reply` what it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Answers through the server's `reply`, which gets the request and the number of its key's tries before it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tag = body["messages"][0]["content"][0]["image_url"]["url"][-40:] if "messages" in body else ""
        with server.lock:
            tries = server.tries[tag] = server.tries.get(tag, -1) + 1
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
        try:
            server.reply(self, body, tries)
        finally:
            with server.lock:
                server.busy -= 1

    def do_GET(self) -> None:
        self.send(200, {"data": [{"id": name} for name in self.server.models]})  # type: ignore[attr-defined]

    def send(self, status: int, content: Any, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def completion(text: str = "The brows rise.", finish: str = "stop") -> dict[str, Any]:
    return {
        "model": "tiny-v1",
        "system_fingerprint": "fp7",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 4},
    }


@contextmanager
def chat_server() -> Iterator[Any]:
    """Serve on a free port until the block ends; `url`, `bodies`, `headers` and `reply` are the server's."""
    httpd: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.lock, httpd.tries, httpd.bodies, httpd.headers = threading.Lock(), {}, [], []
    httpd.busy = httpd.most_busy = 0
    httpd.models = ["tiny"]
    httpd.daemon_threads = True
    httpd.handle_error = lambda *_: None  # a client that hung up
    httpd.reply = lambda handler, body, tries: handler.send(200, completion())
    httpd.url = f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield httpd
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
