"""Captions from any server that speaks the OpenAI chat protocol (vLLM, llama.cpp, the OpenAI API ...).

Frames travel as JPEG images or as one MP4 video inside the request. Only the standard library's HTTP client is used:
one kept-alive connection a worker, several times as many requests a second as the `openai` package reaches. Faces
leave the machine only when `allow_remote` says so. The API key comes from the environment (OPENAI_API_KEY) and goes
nowhere but into the request's header.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from fclip.captions.base import Captioner, CaptionInput, OnCaption
from fclip.captions.captioners.answers import FirstCaptionCheck, tidy
from fclip.captions.captioners.chat import Chat, ServerProblem
from fclip.captions.captioners.media import image_parts, video_parts
from fclip.captions.captioners.prompts import PromptOptions, load_prompt
from fclip.config import option
from fclip.errors import ClipFailure, FclipError, UsageError
from fclip.records import CaptionRecord
from fclip.registry import register

KEY_VARIABLE = "OPENAI_API_KEY"
REVISION = "1"  # raise it with every change that may change what is asked


@dataclass(frozen=True)
class OpenAIOptions(PromptOptions):
    """Options of the captioner that asks a server."""

    base_url: str | None = option(None, "the server, e.g. http://localhost:8000/v1")
    model: str | None = option(None, "name of the model there [the only one that the server has]", output=True)
    concurrency: int = option(8, "requests at once")
    media: Literal["images", "video"] = option("images", "how the frames are sent", output=True)
    timeout: float = option(120.0, "seconds to wait for an answer before asking again")
    retries: int = option(5, "how often a busy, broken or silent server is asked again")
    backoff: float = option(0.5, "seconds before it is asked again the first time; then twice as long, and so on")
    prices: tuple[float, ...] = option(
        (), "USD per million prompt,completion tokens, for the cost on record", output=True
    )
    allow_remote: bool = option(False, "let faces go to a server on another machine")

    def __post_init__(self) -> None:
        if not self.base_url:
            return  # asked for when it is used: its help needs none
        if self.concurrency < 1 or self.max_tokens < 1:
            raise UsageError("--concurrency and --max-tokens must be at least 1")
        if len(self.prices) not in (0, 2):
            raise UsageError("--prices are two numbers: USD per million prompt tokens and completion tokens")
        check_host(self.base_url, self.allow_remote)


@register(OpenAIOptions, cpu_only=True)
class OpenAICaptioner(Captioner):
    """Asks a server for each clip, several at once."""

    name = "openai"
    expensive = True

    def __init__(self, options: OpenAIOptions, device: str = "cpu") -> None:
        if not options.base_url:
            raise UsageError("--mllm openai needs --base-url, e.g. http://localhost:8000/v1")
        self.options = options
        self.prompt = load_prompt(options.prompt, options.label_aware)
        key = os.environ.get(KEY_VARIABLE)
        self.chat = Chat(options.base_url, key, options.timeout, options.retries, options.backoff)
        self.model = options.model or self._only_model()
        self.revision = REVISION
        self.fingerprint = {
            "captioner": self.name,
            "revision": REVISION,
            "model": self.model,
            "prompt": self.prompt.sha256,
            "label_aware": str(self.prompt.label_aware),
            "max_tokens": str(options.max_tokens),
            "media": options.media,
        }
        self.runs_on = f"model {self.model} at {options.base_url}"
        self.batch_size = 4 * options.concurrency  # the wait for the slowest answer of a round is shared by four
        self._workers = ThreadPoolExecutor(options.concurrency, thread_name_prefix="caption")
        self._check = FirstCaptionCheck(self.model)

    def caption(
        self, clips: Sequence[CaptionInput], on_caption: OnCaption | None = None
    ) -> list[CaptionRecord | ClipFailure]:
        """Caption clips, `concurrency` at once. Raises FclipError when the server refuses everybody (wrong key, no
        such model) or is not there; a clip whose request fails in the end yields its ClipFailure.
        """
        return list(self._workers.map(lambda clip: self._told(clip, on_caption), clips))

    def close(self) -> None:
        """End the workers and their connections."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        self.chat.close()

    def _only_model(self) -> str:
        try:
            return self.chat.only_model()
        except ServerProblem as problem:
            raise FclipError(str(problem)) from problem
        finally:
            self.chat.close()

    def _told(self, clip: CaptionInput, on_caption: OnCaption | None) -> CaptionRecord | ClipFailure:
        found = self._caption(clip)
        if on_caption and isinstance(found, CaptionRecord):
            on_caption(found)
        return found

    def _caption(self, clip: CaptionInput) -> CaptionRecord | ClipFailure:
        label = clip.label if self.prompt.label_aware else None
        try:
            answer = self.chat.ask(self._request(clip, label))
        except ServerProblem as problem:
            return ClipFailure(str(problem))
        text = tidy(answer.text, answer.finish == "length")
        self._check(text)
        if not text:
            return ClipFailure(f"{self.model} gave an empty answer")
        decoding: dict[str, Any] = {
            "back_end": self.name,
            "media": self.options.media,
            "temperature": 0,
            "max_tokens": self.options.max_tokens,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        }
        if self.options.prices and answer.prompt_tokens is not None and answer.completion_tokens is not None:
            tokens = (answer.prompt_tokens, answer.completion_tokens)
            decoding["cost_usd"] = round(
                sum(n * price for n, price in zip(tokens, self.options.prices, strict=True)) / 1e6, 8
            )
        return CaptionRecord(
            clip.key,
            text,
            self.model,
            answer.revision,
            self.prompt.sha256,
            list(range(len(clip.frames))),
            decoding,
            label_shown=label is not None,
        )

    def _request(self, clip: CaptionInput, label: str | None) -> dict[str, Any]:
        """Body of the request: media first, then the prompt; greedy decoding with a fixed seed."""
        parts = video_parts(clip.frames, clip.times) if self.options.media == "video" else image_parts(clip.frames)
        text = self.prompt.fill(len(clip.frames), self.options.max_tokens, label)
        content = [*parts, {"type": "text", "text": text}]
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.options.max_tokens,
            "temperature": 0,
            "seed": 0,
        }


def check_host(base_url: str, allow_remote: bool) -> None:
    """Raise UsageError unless the URL is sound and its host is this machine or remote hosts are allowed."""
    try:
        url = urlsplit(base_url)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise UsageError(f"--base-url {base_url!r} is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not host:
        raise UsageError(f"--base-url {base_url!r} is no http or https URL, such as http://localhost:8000/v1")
    if url.username or url.password:
        raise UsageError(f"--base-url must not hold a password; put the key into the environment as {KEY_VARIABLE}")
    if not _is_this_machine(host) and not allow_remote:
        raise UsageError(
            f"--base-url names {host}, another machine: faces would leave this one; --allow-remote permits it"
        )


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
