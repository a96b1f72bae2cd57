"""Captions a second: refined ones, template ones, those of a model at batch 8 against 1, and requests to a server.

The server is a mock in a process of its own that answers after 50 ms, so that 32 requests at once can reach 640 a
second; the second figure is the share of that. Refining is measured in CPU time of one core, on the known answers of
the tests (most of them full of leaks) joined to captions of about 30 and 60 words. The model is a tiny LLaVA-OneVision
with random weights, on the GPU where there is one: its figure tells what batching gains on our path, not a real
model's speed.

    python -m tests.bench.bench_captions
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from fclip.captions.base import CaptionInput, create_captioner
from fclip.captions.refine.refiner import Refiner
from fclip.captions.template.captioner import describe
from fclip.records import CaptionRecord, FaceTrack

LATENCY, CONCURRENCY, REQUESTS = 0.05, 32, 1500
LABELS = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")
TESTS = Path(__file__).parents[1] / "captions"


def main() -> None:
    """Print the figures."""
    measure_refine()
    measure_template()
    measure_model()
    measure_openai()


def measure_refine() -> None:
    """Captions a second, by length."""
    rows = json.loads((TESTS / "captions.json").read_text(encoding="utf-8"))
    texts = [row["text"] for row in rows if row["kind"] != "mixed"]
    refiner = Refiner(LABELS)
    for joined in (1, 3, 6):
        captions = [" ".join(texts[i : i + joined]) for i in range(len(texts) - joined)]
        words = np.mean([len(caption.split()) for caption in captions])
        for caption in captions:
            refiner.refine(caption)
        start = time.process_time()
        for _ in range(3):
            for caption in captions:
                refiner.refine(caption)
        rate = 3 * len(captions) / (time.process_time() - start)
        print(f"refine, {words:.0f} words a caption: {rate:,.0f} captions/s on one core (target 2,000)")


def measure_template() -> None:
    """Captions a second from 16 frames of landmarks."""
    face = np.array(json.loads((TESTS / "face68.json").read_text()))
    points = face + np.random.default_rng(0).normal(0, 0.004, (100, 16, 68, 2))
    seconds = np.arange(16) / 8
    tracks = [FaceTrack(np.zeros((16, 4, 4), np.uint8), p.astype(np.float32), np.ones(16, np.float32)) for p in points]
    describe(tracks[0], seconds, (224, 224))
    start = time.process_time()
    for track in tracks:
        describe(track, seconds, (224, 224))
    print(f"template, 16 frames: {len(tracks) / (time.process_time() - start):,.0f} captions/s on one core")


def measure_model() -> None:
    """Captions a second of a transformers model, clip by clip and in batches of 8."""
    import torch

    from tests.captions.tiny_models import SAVERS

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rng = np.random.default_rng(0)
    clips = [
        CaptionInput(f"clip{i}", rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), np.arange(8) / 5)
        for i in range(32)
    ]
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        SAVERS["llava-onevision"](Path(folder) / "model")
        for batch in (1, 8):
            options = {"device": device, "batch_size": batch, "max_tokens": 32}
            captioner = create_captioner(str(Path(folder) / "model"), **options)
            captioner.caption(clips[:batch])
            start = time.perf_counter()
            captioner.caption(clips)
            rates[batch] = len(clips) / (time.perf_counter() - start)
    print(f"model on {device}: batch 8 makes {rates[8] / rates[1]:.1f} times as many captions/s as batch 1 (GPU: 3)")


def measure_openai() -> None:
    """Requests a second at a latency of 50 ms."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        frames = np.zeros((2, 32, 32, 3), np.uint8)
        clips = [CaptionInput(f"clip{i}", frames, np.arange(2) / 5) for i in range(REQUESTS)]
        url = f"http://127.0.0.1:{here.recv()}/v1"
        captioner = create_captioner("openai", base_url=url, model="mock", concurrency=CONCURRENCY)
        captioner.caption(clips[:CONCURRENCY])
        start, busy = time.perf_counter(), time.process_time()
        found = captioner.caption(clips)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        captioner.close()  # type: ignore[attr-defined]
        failed = sum(not isinstance(record, CaptionRecord) for record in found)
        rate, most = REQUESTS / seconds, CONCURRENCY / LATENCY
        print(
            f"openai, {CONCURRENCY} at once, {1000 * LATENCY:.0f} ms: {rate:.0f} requests/s of {most:.0f} possible "
            f"(target 500), {1000 * busy / REQUESTS:.2f} ms of CPU each, {failed} failed"
        )
    finally:
        server.terminate()
        server.join()


def serve(pipe: Connection) -> None:
    """A server that answers every request after LATENCY; sends its port through the pipe."""
    import asyncio

    content = json.dumps(
        {"model": "mock", "choices": [{"message": {"content": "The brows rise."}, "finish_reason": "stop"}]}
    ).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content) + content

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                )
                await reader.readexactly(length)
                await asyncio.sleep(LATENCY)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        pipe.send(listening.sockets[0].getsockname()[1])
        await listening.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
