"""A small client of the OpenAI chat protocol: kept-alive connections, retries with back-off, bounded answers."""

from __future__ import annotations

import http.client
import json
import random
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fclip.errors import FclipError, UsageError

MOST_BYTES = 4_000_000  # of an answer
LONGEST_WAIT = 60.0  # seconds between two tries
RETRY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # statuses that may pass
REFUSED = frozenset({401, 403, 404})  # statuses that no clip will escape


class ServerProblem(Exception):
    """One request failed in the end; the message is one line."""


@dataclass(frozen=True)
class Answer:
    """A chat completion: text, why it ended, the model revision that the server names, token counts or None."""

    text: str
    finish: str
    revision: str
    prompt_tokens: int | None
    completion_tokens: int | None


class Chat:
    """Requests to one server. Every thread has its own connection; see OpenAICaptioner for the arguments."""

    def __init__(self, base_url: str, key: str | None, timeout: float, retries: int, backoff: float) -> None:
        url = urlsplit(base_url.rstrip("/"))
        self.base_url, self._path = base_url.rstrip("/"), url.path
        self._secure, self._host, self._port = url.scheme == "https", str(url.hostname), url.port
        self._key, self._timeout, self._retries, self._backoff = key, timeout, retries, backoff
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def only_model(self) -> str:
        """The name of the server's model where it has just one; else UsageError lists them."""
        found = self._send("GET", "/models", None)
        rows = found.get("data") if isinstance(found, dict) else None
        names = [str(row.get("id")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        if len(names) != 1:
            raise UsageError(f"--mllm openai needs --model; {self.base_url} has: {', '.join(names) or 'none'}")
        return names[0]

    def ask(self, request: dict[str, Any]) -> Answer:
        """Send a chat request. Raises ServerProblem when it fails for good, FclipError when all requests would."""
        for _ in range(2):  # a server that answers, but not in the protocol, gets one more chance
            try:
                return _answer(self._send("POST", "/chat/completions", json.dumps(request).encode()))
            except (KeyError, IndexError, TypeError):
                continue
        raise ServerProblem(f"{self.base_url} gave an answer that is no chat completion")

    def close(self) -> None:
        """Close all connections; those that are needed again open by themselves."""
        for connection in self._open:
            connection.close()

    def _send(self, method: str, path: str, body: bytes | None) -> Any:
        """The parsed JSON of an answer, after as many tries as it takes or are allowed."""
        problem = ""
        for attempt in range(self._retries + 1):
            wait = self._backoff * 2**attempt * (0.75 + 0.5 * random.random())  # spread
            try:
                status, reason, retry_after, content = self._exchange(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
                self._drop_connection()
            else:
                if status == 200:
                    try:
                        return json.loads(content)
                    except (ValueError, RecursionError):
                        problem = "an answer that is not JSON"
                elif status in REFUSED:
                    raise FclipError(f"{self.base_url} refused: {status} {reason}: {self._said(content)}")
                elif status not in RETRY:
                    raise ServerProblem(f"{self.base_url} answered {status} {reason}: {self._said(content)}")
                else:
                    problem = f"{status} {reason}"
                    wait = max(wait, retry_after)
            if attempt < self._retries:
                time.sleep(min(wait, LONGEST_WAIT))
        if "Refused" in problem or "gaierror" in problem:
            raise FclipError(f"{self.base_url}: no server there ({problem}); start it or correct --base-url")
        raise ServerProblem(f"{self.base_url} failed {self._retries + 1} times, at last with {problem}")

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, str, float, bytes]:
        """One request and its answer: status, reason, seconds of Retry-After, content."""
        fresh = getattr(self._local, "connection", None) is None
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connection = self._connection()
        try:
            connection.request(method, self._path + path, body, headers)
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if fresh:
                raise
            self._drop_connection()  # the server had closed an idle connection: that is no failure
            return self._exchange(method, path, body)
        with response:  # one that is left half read would keep its socket
            content = response.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            self._drop_connection()
            raise ServerProblem(f"{self.base_url} gave an answer of over {MOST_BYTES:,} bytes")
        return response.status, response.reason, _seconds(response.headers.get("Retry-After")), content

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            if self._secure:
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=context)
            else:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            self._local.connection = connection
            self._open.append(connection)
        return connection

    def _drop_connection(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._open.remove(connection)
            self._local.connection = None

    def _said(self, content: bytes) -> str:
        """What the server said of an error: one short line without the key."""
        try:
            error = json.loads(content)["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError, RecursionError):
            text = content.decode("utf-8", "replace")
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(text.split())[:200]


def _answer(found: Any) -> Answer:
    """Read a chat completion; KeyError, IndexError or TypeError where it is none."""
    choice = found["choices"][0]
    text = choice["message"]["content"]
    if text is not None and not isinstance(text, str):
        raise TypeError("content is no text")
    usage = found.get("usage") or {}
    return Answer(
        text or "",
        str(choice.get("finish_reason") or ""),
        str(found.get("system_fingerprint") or found.get("model") or "unknown"),
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
    )


def _seconds(header: str | None) -> float:
    """Seconds of a Retry-After header; 0 for none and for a date."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
