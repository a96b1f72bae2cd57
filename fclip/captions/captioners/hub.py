"""Captions from a video language model run here, through transformers: Video-LLaVA, Qwen3-VL, InternVL and others.

One path serves all: the processor's own chat format with one video and the prompt, frames handed over as they are
(sampled already, with their times), left padding, greedy decoding. What differs between families lies in
resources/captions/models.json.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fclip.captions.base import Captioner, CaptionInput, OnCaption
from fclip.captions.captioners.answers import FirstCaptionCheck, tidy
from fclip.captions.captioners.media import frame_rate
from fclip.captions.captioners.prompts import PromptOptions, load_prompt
from fclip.catalogue import FETCHED, require
from fclip.config import option
from fclip.errors import ClipFailure, FclipError, MissingExtra, UsageError
from fclip.files import read_json, resource_json
from fclip.records import CaptionRecord
from fclip.registry import register

REVISION = "1"  # raise it with every change that may change what is asked

log = logging.getLogger(__name__)


@cache
def model_table() -> dict[str, Any]:
    """Content of resources/captions/models.json: video language models and what their families need."""
    table: dict[str, Any] = resource_json("captions/models.json")
    return table


def named_models() -> dict[str, dict[str, Any]]:
    """Name -> row, for the models with a name of their own."""
    return {row["name"]: row for row in model_table()["models"]}


@dataclass(frozen=True)
class HubOptions(PromptOptions):
    """Options of a model that runs here."""

    batch_size: int = option(8, "clips that the model describes at once")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "type of the weights; auto = bfloat16 on a GPU, float32 on the CPU"
    )
    quantize: Literal["none", "8bit", "4bit"] = option("none", "quantised weights (needs bitsandbytes)")
    revision: str | None = option(None, "revision of a hub model", output=True)

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.max_tokens < 1:
            raise UsageError("--batch-size and --max-tokens must be at least 1")


@register(HubOptions)
class HubCaptioner(Captioner):
    """Runs one model. name: a name of models.json, a hub id or a folder."""

    expensive = True

    def __init__(self, name: str, options: HubOptions, device: str = "cpu") -> None:
        self.name, self.options, self.prompt = name, options, load_prompt(options.prompt, options.label_aware)
        source = named_models().get(name, {}).get("id", name)
        folder = _folder(name, source, options.revision)
        self.model, self.processor = _load(folder, device, options.dtype, options.quantize)
        self.family = model_table()["types"].get(self.model.config.model_type, {"frames": None, "prompt": None})
        if "warning" in self.family:
            log.warning(self.family["warning"])
        self.revision = _revision(folder)
        self.dtype = str(next(self.model.parameters()).dtype).removeprefix("torch.")
        self.fingerprint = {
            "captioner": f"local/{folder.resolve().name}" if Path(name).is_dir() else source,
            "revision": self.revision,
            "code": REVISION,
            "prompt": self.prompt.sha256,
            "label_aware": str(self.prompt.label_aware),
            "max_tokens": str(options.max_tokens),
            "dtype": self.dtype,
            "quantize": options.quantize,
        }
        self.runs_on = f"{source} on {device} in {self.dtype}"
        self.batch_size = 8 * options.batch_size  # among so many clips there are enough of one length
        self._check = FirstCaptionCheck(name)

    def caption(
        self, clips: Sequence[CaptionInput], on_caption: OnCaption | None = None
    ) -> list[CaptionRecord | ClipFailure]:
        """Caption clips in batches of similar length; a clip that the model cannot take yields its ClipFailure.

        The results do not depend on how clips are batched, up to the rounding of the data type.
        """
        chosen = [self._frame_indices(len(clip.frames)) for clip in clips]
        order = sorted(range(len(clips)), key=lambda i: (chosen[i].size, clips[i].frames.shape[1:3], i))
        results: dict[int, CaptionRecord | ClipFailure] = {}
        while order:
            first = clips[order[0]].frames.shape[1:3], chosen[order[0]].size
            alike = [
                i for i in order[: self.options.batch_size] if (clips[i].frames.shape[1:3], chosen[i].size) == first
            ]
            order = order[len(alike) :]
            batch = [clips[i] for i in alike], [chosen[i] for i in alike]
            for index, found in zip(alike, self._batch(*batch), strict=True):
                results[index] = found
                if on_caption and isinstance(found, CaptionRecord):
                    on_caption(found)
        return [results[index] for index in range(len(clips))]

    def _frame_indices(self, count: int) -> np.ndarray:
        """Frames to show: all, or centres of equal segments where the family takes a fixed number."""
        wanted = self.family["frames"]
        if wanted is None:
            return np.arange(count)
        return ((np.arange(wanted) + 0.5) * count / wanted).astype(int)

    def _batch(self, clips: list[CaptionInput], frames: list[np.ndarray]) -> list[CaptionRecord | ClipFailure]:
        """Caption a batch; when it fails as a whole, clip by clip."""
        try:
            texts = self._generate(clips, frames)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if len(clips) > 1:
                return [
                    found for clip, chosen in zip(clips, frames, strict=True) for found in self._batch([clip], [chosen])
                ]
            return [ClipFailure(f"{self.name} failed: {' '.join(str(error).split())[:200]}")]
        return [
            self._record(clip, chosen, text, length)
            for clip, chosen, (text, length) in zip(clips, frames, texts, strict=True)
        ]

    def _record(self, clip: CaptionInput, frames: np.ndarray, answer: str, length: int) -> CaptionRecord | ClipFailure:
        text = tidy(answer, unfinished=length >= self.options.max_tokens)
        self._check(text)
        if not text:
            return ClipFailure(f"{self.name} gave an empty answer")
        decoding = {
            "back_end": "transformers",
            "greedy": True,
            "max_tokens": self.options.max_tokens,
            "dtype": self.dtype,
        }
        return CaptionRecord(
            clip.key,
            text,
            self.fingerprint["captioner"],
            self.revision,
            self.prompt.sha256,
            frames.tolist(),
            decoding,
            label_shown=self.prompt.label_aware,
        )

    def _generate(self, clips: list[CaptionInput], frames: list[np.ndarray]) -> list[tuple[str, int]]:
        """Answers and their lengths in tokens, for clips of which equally many frames of equal size are shown."""
        import torch
        from transformers.video_utils import VideoMetadata

        count = len(frames[0])
        texts = [self._chat(clip, count) for clip in clips]
        rates = [frame_rate(clip.times[chosen]) for clip, chosen in zip(clips, frames, strict=True)]
        metadata = [
            VideoMetadata(total_num_frames=count, fps=rate, duration=count / rate, frames_indices=list(range(count)))
            for rate in rates
        ]
        inputs = self.processor(
            text=texts,
            videos=[clip.frames[chosen] for clip, chosen in zip(clips, frames, strict=True)],
            video_metadata=metadata,
            do_sample_frames=False,
            input_data_format="channels_last",
            padding=True,
            return_tensors="pt",
        )
        inputs = inputs.to(self.model.device)
        for key, value in inputs.items():
            if torch.is_floating_point(value):
                inputs[key] = value.to(self.model.dtype)
        with torch.inference_mode():
            output = self.model.generate(**inputs, max_new_tokens=self.options.max_tokens, do_sample=False)
        answers = output[:, inputs["input_ids"].shape[1] :]  # (B, new tokens)
        pad = self.processor.tokenizer.pad_token_id
        lengths = (answers != pad).sum(dim=1).tolist()
        decoded = self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return list(zip(decoded, lengths, strict=True))

    def _chat(self, clip: CaptionInput, count: int) -> str:
        """The prompt of a clip in the model's chat format, with a place for the video."""
        text = self.prompt.fill(count, self.options.max_tokens, clip.label if self.prompt.label_aware else None)
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "video"}, {"type": "text", "text": text}]
            chat = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            return str(chat)
        if not self.family["prompt"]:
            raise FclipError(f"{self.name}: its processor has no chat template, so its prompt format is unknown")
        video = getattr(self.processor, "video_token", "<video>")
        return str(self.family["prompt"].replace("{video}", video).replace("{text}", text))


def _folder(name: str, source: str, revision: str | None) -> Path:
    """The folder of a model: the one named, or what `fclip fetch` or another program brought from the hub.

    FclipError in one line where it is not there.
    """
    if Path(name).is_dir():
        return Path(name)
    return require(f"{source}@{revision}" if revision else name)


def _load(folder: Path, device: str, dtype: str, quantize: str) -> tuple[Any, Any]:
    """Model and processor, ready to generate. Raises FclipError when they cannot be loaded."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "use_safetensors": True}
    if quantize != "none":
        if find_spec("bitsandbytes") is None:
            raise MissingExtra("quantize", "bitsandbytes")
        from transformers import BitsAndBytesConfig

        bits = BitsAndBytesConfig(load_in_8bit=True) if quantize == "8bit" else BitsAndBytesConfig(load_in_4bit=True)
        options |= {"quantization_config": bits, "device_map": device}
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FclipError(f"--mllm {folder}: cannot be loaded: {reason}") from error
    if getattr(processor, "video_processor", None) is None:
        raise FclipError(f"--mllm {folder}: this model takes no videos; choose one that does (--mllm list)")
    processor.tokenizer.padding_side = "left"  # generation continues at the right end of every row
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    if quantize == "none":
        model.to(torch.device(device))  # type: ignore[arg-type]  # its wrapper hides the signature
    return model.eval(), processor


def _revision(folder: Path) -> str:
    """The hub's commit; for a folder of one's own a hash of its configuration and of its weights' names and sizes."""
    if (folder / FETCHED).is_file():
        return str(read_json(folder / FETCHED)["commit"])
    if folder.parent.name == "snapshots":  # of the hub's own cache
        return folder.name
    weights = sorted((path.name, path.stat().st_size) for path in folder.glob("*.safetensors"))
    content = (folder / "config.json").read_bytes() + repr(weights).encode()
    return f"local-{hashlib.sha256(content).hexdigest()[:16]}"
