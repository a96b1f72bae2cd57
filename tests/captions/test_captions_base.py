"""Captioners by name, prompts, human captions, and what becomes of a model's answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fclip.captions.base import CaptionInput, create_captioner
from fclip.captions.captioners.answers import nonsense, tidy
from fclip.captions.captioners.prompts import PromptOptions, load_prompt
from fclip.captions.probe.lengths import length_statistics, length_summary
from fclip.errors import ClipFailure, FclipError, UsageError
from fclip.records import CaptionRecord
from fclip.registry import CAPTIONERS


def test_list_names_what_can_be_made() -> None:
    names = CAPTIONERS.names()
    assert names[:3] == ["template", "human", "openai"]
    assert {"video-llava", "qwen3-vl", "internvl", "llava-onevision", "llava-next-video", "smolvlm2"} <= set(names)
    assert all(row["needs"] for row in CAPTIONERS.table())


def test_unknown_captioner_and_option() -> None:
    with pytest.raises(
        UsageError,
        match=r"unknown captioner 'templat'; did you mean template\? there are: template, human, openai, video-llava",
    ):
        create_captioner("templat")
    with pytest.raises(UsageError, match="captioner template: unknown option 'colour'"):
        create_captioner("template", colour="red")
    with pytest.raises(UsageError, match="needs --base-url"):
        create_captioner("openai")


def test_folder_that_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(FclipError, match="cannot be loaded"):
        create_captioner(str(tmp_path))


def test_fingerprints_are_text() -> None:
    for name in ("template", "human"):
        captioner = create_captioner(name)
        assert captioner.name == captioner.fingerprint["captioner"] == name
        assert all(isinstance(value, str) for value in captioner.fingerprint.values())
    assert create_captioner("template").needs_faces
    assert not create_captioner("human").needs_faces


def test_human_captions_pass_through() -> None:
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    clips = [
        CaptionInput("a", frames, np.arange(3.0), info={"caption": " A man\n raises his brows. "}, label="anger"),
        CaptionInput("b", frames, np.arange(3.0), info={"caption": ""}),
        CaptionInput("c", frames, np.arange(3.0)),
    ]
    first, second, third = create_captioner("human").caption(clips)
    assert isinstance(first, CaptionRecord)
    assert (first.text, first.model, first.label_shown) == ("A man raises his brows.", "human", True)
    assert isinstance(second, ClipFailure) and isinstance(third, ClipFailure)


def test_prompt_is_blind_unless_asked() -> None:
    blind, aware = load_prompt(), load_prompt(label_aware=True)
    assert "{label}" not in blind.text and "Annotation" not in blind.text
    assert "anger" not in blind.fill(16, 100, "anger")
    assert aware.fill(16, 100, "anger").endswith("anger")
    assert blind.sha256 != aware.sha256
    assert len(blind.sha256) == 64
    for text in (blind.fill(16, 100), aware.fill(16, 100, "anger")):
        assert "16 frames" in text and "at most 100 tokens" in text and "{" not in text
        assert text.count("\n6. ") == 1
    with pytest.raises(FclipError, match="no label"):
        aware.fill(16, 100)


def test_prompt_of_the_paper_always_shows_the_label() -> None:
    paper = load_prompt("paper")
    assert paper == load_prompt("paper", label_aware=True) and paper.label_aware
    assert PromptOptions(prompt="paper").shows_label and not PromptOptions().shows_label
    text = paper.fill(16, 100, "anger")
    order = ["breathing", "Example\nInput:", "Answer:", "1. Format", "2. Progression", "3. Role", "4. Annotation"]
    order += ["5. No emotion words", "at most 100 tokens", 'annotation "anger"']
    places = [text.index(word) for word in order]
    assert places == sorted(places)
    assert "{" not in text
    with pytest.raises(FclipError, match="no label; run without --label-aware and --prompt paper"):
        paper.fill(16, 100)


def test_prompt_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text('Say {"json": 1} of {frames} frames.\nIt is {label}.\n', encoding="utf-8")
    assert load_prompt(path).fill(8, 10) == 'Say {"json": 1} of 8 frames.'
    assert load_prompt(path, label_aware=True).fill(8, 10, "{frames}").endswith("It is {frames}.")
    for content, message in (("{colour}", "unknown placeholder {colour}"), ("\n{label}\n", "is empty")):
        path.write_text(content)
        with pytest.raises(UsageError, match=message):
            load_prompt(path)
    path.write_text("no place for it")
    with pytest.raises(UsageError, match="--label-aware needs a line with {label}"):
        load_prompt(path, label_aware=True)
    path.write_bytes(b"\xff\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_prompt(path)
    with pytest.raises(UsageError, match=r"no such file, and no built-in prompt; there are: default, paper"):
        load_prompt(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("answer", "unfinished", "text"),
    [
        (' "The brows\n rise." ', False, "The brows rise."),
        ("The brows rise. The mouth ope", True, "The brows rise."),
        ("The brows ri", True, "The brows ri"),
        ("<think>anger?</think> The lips part.", False, "The lips part."),
        ("<think>without end", False, ""),
        ("Rises by 2.5 units. And th", True, "Rises by 2.5 units."),
    ],
)
def test_tidy(answer: str, unfinished: bool, text: str) -> None:
    assert tidy(answer, unfinished) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("The brows rise.", ""),
        ("", "empty"),
        ("... !!", "empty"),
        ("the the the the the the lips", "repeats 'the'"),
        ("Stock prices went over the moon", "no part of the face"),
    ],
)
def test_nonsense(text: str, problem: str) -> None:
    assert problem in nonsense(text)
    assert bool(nonsense(text)) == bool(problem)


def test_length_statistics() -> None:
    texts = ["a", "a b", "a b c", " ".join("a" * 80), " ".join("a" * 300)]
    found = length_statistics(texts, lambda text: len(text.split()))
    assert found == {
        "count": 5,
        "mean": pytest.approx(77.2),
        "median": 3.0,
        "p95": pytest.approx(256.0),
        "longest": 300,
        "target": 35,
        "over_limit": {"CLIP": 0.4, "Long-CLIP": 0.2},
    }
    assert length_summary(found).endswith("longest 300; 40.0 % over CLIP's 77, 20.0 % over Long-CLIP's 248")
    assert length_summary(length_statistics([], len)) == "no captions"
