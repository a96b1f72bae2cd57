"""The OpenAI back end against a real HTTP server that is busy, broken, slow, silent or wrong."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest
from chat_server import Handler, chat_server, completion
from PIL import Image

from fclip.captions.base import CaptionInput, create_captioner
from fclip.captions.captioners.openai import OpenAICaptioner, check_host
from fclip.errors import ClipFailure, FclipError, UsageError
from fclip.records import CaptionRecord

KEY = "sk-very-secret"


@pytest.fixture
def server() -> Iterator[Any]:
    with chat_server() as httpd:
        yield httpd


@pytest.fixture
def make(server: Any) -> Iterator[Callable[..., OpenAICaptioner]]:
    made: list[Any] = []

    def build(**options: Any) -> Any:
        made.append(
            create_captioner("openai", **({"base_url": server.url, "model": "tiny", "backoff": 0.01} | options))
        )
        return made[-1]

    yield build
    for captioner in made:
        captioner.close()


def clip(index: int = 0, frames: int = 2, size: tuple[int, int] = (16, 16), **fields: Any) -> CaptionInput:
    pixels = np.random.default_rng(index).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    return CaptionInput(f"clip{index}", pixels, np.arange(frames) / 5, **fields)


def test_record_of_a_good_answer(server: Any, make: Any) -> None:
    captioner = make(prices=(2.0, 10.0))
    (record,) = captioner.caption([clip(frames=3)])
    assert isinstance(record, CaptionRecord)
    assert (record.text, record.model, record.revision) == ("The brows rise.", "tiny", "fp7")
    assert record.frames == [0, 1, 2]
    assert not record.label_shown
    assert record.prompt_sha256 == captioner.fingerprint["prompt"]
    assert record.decoding["prompt_tokens"] == 120 and record.decoding["completion_tokens"] == 4
    assert record.decoding["cost_usd"] == pytest.approx((120 * 2 + 4 * 10) / 1e6)
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny", 0, 100)
    parts = body["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url"] * 3 + ["text"]
    assert "3 frames" in parts[3]["text"]
    sent = Image.open(io.BytesIO(base64.b64decode(parts[0]["image_url"]["url"].partition(",")[2])))
    assert sent.format == "JPEG" and sent.size == (16, 16)


def test_video_in_the_request(server: Any, make: Any) -> None:
    server.reply = lambda handler, body, tries: handler.send(200, completion())
    parts = make(media="video")._request(clip(frames=8, size=(65, 48)), None)["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["video_url", "text"]
    kind, _, data = parts[0]["video_url"]["url"].partition(",")
    assert kind == "data:video/mp4;base64"
    with av.open(io.BytesIO(base64.b64decode(data))) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        rate = float(container.streams.video[0].average_rate)
    assert len(decoded) == 8 and decoded[0].shape == (64, 48, 3)
    assert rate == pytest.approx(5.0)


def test_label_is_shown_only_when_asked(server: Any, make: Any) -> None:
    make().caption([clip(label="anger")])
    assert "anger" not in json.dumps(server.bodies[-1])
    (record,) = make(label_aware=True).caption([clip(label="anger")])
    assert "anger" in server.bodies[-1]["messages"][0]["content"][-1]["text"]
    assert record.label_shown
    with pytest.raises(FclipError, match="no label"):
        make(label_aware=True).caption([clip()])


def test_busy_and_broken_servers_are_asked_again(server: Any, make: Any) -> None:
    def reply(handler: Handler, body: dict[str, Any], tries: int) -> None:
        if tries < 3:
            handler.send((429, 500, 503)[tries], {"error": {"message": "busy"}})
        else:
            handler.send(200, completion())

    server.reply = reply
    found = make().caption([clip(i) for i in range(3)])
    assert [record.text for record in found] == ["The brows rise."] * 3
    assert len(server.bodies) == 12


def test_retry_after_is_heeded(server: Any, make: Any) -> None:
    moments: list[float] = []

    def reply(handler: Handler, body: dict[str, Any], tries: int) -> None:
        moments.append(time.monotonic())
        if tries == 0:
            handler.send(429, {}, Retry_After="0.3")
        else:
            handler.send(200, completion())

    server.reply = reply
    make().caption([clip()])
    assert moments[1] - moments[0] >= 0.3


def test_server_that_stays_broken_fails_the_clip_alone(server: Any, make: Any) -> None:
    bad = clip(1)

    def reply(handler: Handler, body: dict[str, Any], tries: int) -> None:
        broken = len(body["messages"][0]["content"]) == 4  # the clip of three frames
        handler.send(500 if broken else 200, completion())

    server.reply = reply
    bad = clip(1, frames=3)
    first, second, third = make(retries=2).caption([clip(0), bad, clip(2)])
    assert isinstance(first, CaptionRecord) and isinstance(third, CaptionRecord)
    assert isinstance(second, ClipFailure)
    assert "failed 3 times, at last with 500" in str(second)
    assert "\n" not in str(second)


def test_slow_answer_is_given_up_and_asked_again(server: Any, make: Any) -> None:
    def reply(handler: Handler, body: dict[str, Any], tries: int) -> None:
        if tries == 0:
            time.sleep(0.6)
        handler.send(200, completion())

    server.reply = reply
    (record,) = make(timeout=0.2).caption([clip()])
    assert isinstance(record, CaptionRecord)
    assert len(server.bodies) == 2


def test_dropped_connections(server: Any, make: Any) -> None:
    def reply(handler: Handler, body: dict[str, Any], tries: int) -> None:
        if tries == 0:  # no answer at all
            handler.close_connection = True
        elif tries == 1:  # half an answer
            handler.send_response(200)
            handler.send_header("Content-Length", "5000")
            handler.end_headers()
            handler.wfile.write(b'{"choices": [')
            handler.close_connection = True
        else:
            handler.send(200, completion())

    server.reply = reply
    (record,) = make().caption([clip()])
    assert isinstance(record, CaptionRecord)
    assert len(server.bodies) == 3


def test_idle_connection_closed_by_the_server_is_no_failure(server: Any, make: Any) -> None:
    def reply(handler: Handler, body: dict[str, Any], tries: int) -> None:
        handler.send(200, completion())
        handler.close_connection = True  # without saying so in a header

    server.reply = reply
    captioner = make(retries=0, concurrency=1)
    assert all(isinstance(found, CaptionRecord) for found in captioner.caption([clip(i) for i in range(4)]))


@pytest.mark.parametrize(
    "content",
    [b"not json", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": 7}}]}', b"null", b"\xff"],
)
def test_wrong_json_fails_the_clip(content: bytes, server: Any, make: Any) -> None:
    server.reply = lambda handler, body, tries: handler.send(200, content)
    (failure,) = make(retries=1).caption([clip()])
    assert isinstance(failure, ClipFailure)
    assert len(server.bodies) == 2


def test_empty_answer_fails_the_clip(server: Any, make: Any) -> None:
    server.reply = lambda handler, body, tries: handler.send(200, completion(" \n"))
    (failure,) = make().caption([clip()])
    assert isinstance(failure, ClipFailure) and "empty answer" in str(failure)


def test_huge_answer_fails_the_clip(server: Any, make: Any) -> None:
    server.reply = lambda handler, body, tries: handler.send(200, b" " * 5_000_000)
    (failure,) = make(retries=0).caption([clip()])
    assert isinstance(failure, ClipFailure) and "over 4,000,000 bytes" in str(failure)


def test_cut_answer_ends_with_a_sentence(server: Any, make: Any) -> None:
    server.reply = lambda handler, body, tries: handler.send(200, completion("The lips part. The bro", "length"))
    (record,) = make().caption([clip()])
    assert record.text == "The lips part."


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refusal_stops_the_run(status: int, server: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.reply = lambda handler, body, tries: handler.send(status, {"error": {"message": f"bad key {KEY}"}})
    with pytest.raises(FclipError, match=f"refused: {status}") as caught:
        make().caption([clip()])
    assert KEY not in str(caught.value)
    assert len(server.bodies) == 1


def test_request_that_cannot_be_served_fails_without_retry(server: Any, make: Any) -> None:
    server.reply = lambda handler, body, tries: handler.send(400, {"error": {"message": "too many\nimages"}})
    (failure,) = make().caption([clip()])
    assert isinstance(failure, ClipFailure) and str(failure).endswith("answered 400 Bad Request: too many images")
    assert len(server.bodies) == 1


def test_no_server(make: Any) -> None:
    with pytest.raises(FclipError, match="no server there"):
        make(base_url="http://127.0.0.1:9/v1", retries=1).caption([clip()])


def test_key_goes_into_the_header_and_nowhere_else(
    server: Any, make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with caplog.at_level(logging.DEBUG):
        captioner = make()
        (record,) = captioner.caption([clip()])
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(server.bodies) + repr(record) + repr(captioner.fingerprint) + caplog.text


def test_requests_run_at_once_but_not_more_than_allowed(server: Any, make: Any) -> None:
    six = threading.Barrier(6, timeout=60)

    def reply(handler: Handler, body: dict[str, Any], tries: int) -> None:
        six.wait()  # until six requests are there at once
        handler.send(200, completion(f"The lips part {len(body['messages'][0]['content'])}."))

    server.reply = reply
    clips = [clip(i, frames=1 + i % 3) for i in range(24)]
    found = make(concurrency=6).caption(clips)
    assert server.most_busy == 6
    assert [record.key for record in found] == [c.key for c in clips]
    assert [record.text for record in found] == [f"The lips part {2 + i % 3}." for i in range(24)]


def test_model_is_found_where_there_is_one(server: Any, make: Any) -> None:
    assert make(model=None).fingerprint["model"] == "tiny"
    server.models = ["a", "b"]
    with pytest.raises(UsageError, match="needs --model; .* has: a, b"):
        make(model=None)


@pytest.mark.parametrize(("answer", "problem"), [("a a a a a a a a", "it repeats 'a'"), ("", "it is empty")])
def test_nonsense_is_reported_once(
    answer: str, problem: str, server: Any, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.reply = lambda handler, body, tries: handler.send(200, completion(answer))
    captioner = make()
    captioner.caption([clip(0), clip(1)])
    captioner.caption([clip(2)])
    assert caplog.text.count(f"makes no sense ({problem})") == 1


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "http://127.0.0.1/v1", "https://[::1]:8/v1", "http://127.8.9.1"]
)
def test_this_machine_is_allowed(url: str) -> None:
    check_host(url, allow_remote=False)


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1", "http://192.168.1.5:8000", "http://localhost.example.com"]
)
def test_another_machine_must_be_permitted(url: str) -> None:
    with pytest.raises(UsageError, match="faces would leave this one; --allow-remote"):
        check_host(url, allow_remote=False)
    check_host(url, allow_remote=True)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://localhost", "no http or https URL"),
        ("localhost:8000", "no http or https URL"),
        ("http://", "no http"),
        ("http://user:pass@localhost", "must not hold a password"),
        ("http://localhost:99999", "is no URL"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_host(url, allow_remote=True)


@pytest.mark.parametrize("options", [{"media": "gif"}, {"concurrency": 0}, {"max_tokens": 0}])
def test_bad_options(options: dict[str, Any], make: Any) -> None:
    with pytest.raises(UsageError):
        make(**options)
