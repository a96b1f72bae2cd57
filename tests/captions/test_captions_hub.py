"""Models of transformers: tiny ones with random weights, saved and loaded through the path that real ones take."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import SAVERS

from fclip.captions.base import CaptionInput, create_captioner
from fclip.captions.captioners.hub import HubCaptioner, HubOptions, model_table, named_models
from fclip.errors import ClipFailure, FclipError, MissingExtra, UsageError
from fclip.records import CaptionRecord

PROMPT = "Describe {frames} frames.\nThe label is {label}.\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "prompt.txt").write_text(PROMPT)

    def path_of(name: str) -> Path:
        if name == "smolvlm2":
            pytest.importorskip("num2words", reason="SmolVLM's processor needs the package num2words")
        if not (folder / name).exists():
            SAVERS[name](folder / name)
        return folder / name

    return path_of


def load(saved: Callable[[str], Path], name: str, **options: Any) -> Any:
    path = saved(name)
    return create_captioner(str(path), prompt=str(path.parent / "prompt.txt"), **({"max_tokens": 8} | options))


def clips(counts: tuple[int, ...] = (8, 8, 12, 8, 12), size: tuple[int, int] = (32, 32)) -> list[CaptionInput]:
    rng = np.random.default_rng(0)
    labels = ("anger", "happiness", "fear", "a", "disappointment and more")
    return [
        CaptionInput(
            f"clip{i}",
            rng.integers(0, 256, (count, *size, 3), dtype=np.uint8),
            np.arange(count) / 5,
            label=labels[i % len(labels)],
        )
        for i, count in enumerate(counts)
    ]


@pytest.mark.parametrize("name", SAVERS)
def test_batch_and_single_agree(name: str, saved: Callable[[str], Path]) -> None:
    """Prompts differ in length (their labels do), so rows of a batch are padded."""
    captioner = load(saved, name, label_aware=True, batch_size=4)
    together = captioner.caption(clips())
    alone = [captioner.caption([clip])[0] for clip in clips()]
    assert together == alone
    assert all(isinstance(found, CaptionRecord) for found in together)
    assert len({found.text for found in together}) > 1
    assert [found.key for found in together] == [f"clip{i}" for i in range(5)]
    assert captioner.processor.tokenizer.padding_side == "left"


@pytest.mark.parametrize("name", SAVERS)
def test_frames_and_label_reach_the_model(name: str, saved: Callable[[str], Path]) -> None:
    captioner = load(saved, name, label_aware=True)
    first, second = clips((8, 8))
    second.label = first.label
    chats = [captioner._chat(clip, 8) for clip in (first, second)]
    assert chats[0] == chats[1]
    assert "anger" in chats[0] and "8 frames" in chats[0]
    inputs = [captioner.caption([clip])[0].text for clip in (first, second)]
    assert inputs[0] != inputs[1]  # only the pixels differ
    blind = load(saved, name)
    assert "label" not in blind._chat(first, 8) and "anger" not in blind._chat(first, 8)
    assert not blind.caption([first])[0].label_shown


def test_record_says_how_it_was_made(saved: Callable[[str], Path]) -> None:
    captioner = load(saved, "video-llava", label_aware=True)
    long, short = captioner.caption(clips((12, 5)))
    assert long.frames == [0, 2, 3, 5, 6, 8, 9, 11]  # eight segment centres
    assert short.frames == [0, 0, 1, 2, 2, 3, 4, 4]
    assert long.model == "local/video-llava"
    assert long.label_shown and long.revision.startswith("local-")
    assert long.prompt_sha256 == captioner.fingerprint["prompt"]
    assert long.decoding == {"back_end": "transformers", "greedy": True, "max_tokens": 8, "dtype": "float32"}
    assert all(isinstance(value, str) for value in captioner.fingerprint.values())
    assert load(saved, "llava-onevision").caption(clips((5,)))[0].frames == [0, 1, 2, 3, 4]


def test_same_again_after_loading_again(saved: Callable[[str], Path]) -> None:
    first, second = (load(saved, "llava-onevision") for _ in range(2))
    assert first.caption(clips((8, 8))) == second.caption(clips((8, 8)))
    assert first.fingerprint == second.fingerprint


def test_frame_times_reach_a_model_that_wants_them(saved: Callable[[str], Path]) -> None:
    captioner = load(saved, "qwen3-vl", label_aware=True)
    quick, slow = clips((8, 8))
    slow.frames, slow.label, slow.times = quick.frames, quick.label, quick.times * 7
    assert captioner.caption([quick])[0].text != captioner.caption([slow])[0].text


def test_clips_of_different_sizes(saved: Callable[[str], Path]) -> None:
    mixed = clips((8, 8), (32, 32)) + clips((8,), (48, 64))
    found = load(saved, "qwen3-vl", batch_size=4).caption(mixed)
    assert all(isinstance(record, CaptionRecord) for record in found)


def test_clip_that_the_model_cannot_take_fails_alone(saved: Callable[[str], Path]) -> None:
    captioner = load(saved, "qwen3-vl", batch_size=4)
    good, bad, other = clips((8, 8, 8))
    bad.frames = np.zeros((8, 4, 1600, 3), np.uint8)  # an aspect ratio beyond the model's limit
    first, second, third = captioner.caption([good, bad, other])
    assert isinstance(first, CaptionRecord) and isinstance(third, CaptionRecord)
    assert isinstance(second, ClipFailure)
    assert "\n" not in str(second)


def test_first_nonsense_is_reported_once(saved: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    captioner = load(saved, "video-llava")
    with caplog.at_level(logging.WARNING, logger="fclip"):
        captioner.caption(clips((8,)))
        captioner.caption(clips((8,)))
    assert caplog.text.count("makes no sense") == 1


def test_prompt_format_of_a_processor_without_chat_template(saved: Callable[[str], Path]) -> None:
    captioner = load(saved, "video-llava")
    with_template = captioner._chat(clips((8,))[0], 8)
    captioner.processor.chat_template = None
    without = captioner._chat(clips((8,))[0], 8)
    assert "".join(with_template.split()) == "".join(without.split()) == "USER:<video>Describe8frames.ASSISTANT:"
    captioner.family = {"frames": None, "prompt": None}
    with pytest.raises(FclipError, match="no chat template"):
        captioner.caption(clips((8,)))


def test_damaged_weights_are_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(saved("llava-onevision"), folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(FclipError, match="cannot be loaded"):
        HubCaptioner(str(folder), HubOptions())


def test_quantization_needs_its_package(saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fclip.captions.captioners.hub.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="bitsandbytes is not installed"):
        load(saved, "video-llava", quantize="4bit")


@pytest.mark.parametrize("options", [{"dtype": "int3"}, {"quantize": "2bit"}, {"batch_size": 0}, {"max_tokens": 0}])
def test_bad_options(options: dict[str, Any], saved: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError):
        load(saved, "video-llava", **options)


def test_hub_model_that_is_not_there() -> None:
    with pytest.raises(FclipError, match="fclip fetch nobody/no-such-model"):
        create_captioner("nobody/no-such-model")


def test_table_of_models_is_sound() -> None:
    rows = named_models()
    assert all(row["id"].count("/") == 1 for row in rows.values())
    assert all("{text}" in kind["prompt"] and "{video}" in kind["prompt"] for kind in model_table()["types"].values())
    assert model_table()["types"]["video_llava"]["frames"] == rows["video-llava"]["frames"] == 8
