"""Captions of rendered clips."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from fclip.errors import UsageError
from fclip.files import resource_json
from fclip.synth.actions import Event
from fclip.synth.clips import sample_clip
from fclip.synth.dataset import CLASSES
from fclip.synth.script import ClipScript
from fclip.synth.texts import describe

DEMO11 = CLASSES["demo11"]
EMOTION_WORDS = {
    word
    for states in resource_json("phrases.json")["states"].values()
    for state in states
    for word in re.findall(r"[a-z]+", state.lower())
}
EMOTION_WORDS -= {"looks", "is", "seems", "expresses", "shows", "no", "keeps", "a", "at", "let", "down", "loss"}
EMOTION_WORDS |= {*DEMO11, "smile", "smiles", "frown", "frowns", "emotion"}


def acted(*events: Event) -> ClipScript:
    """A clip in which only these events happen."""
    return dataclasses.replace(sample_clip("neutral", 4, 0, DEMO11), events=events, waves=())


def test_movement_style_has_no_emotion_word() -> None:
    rng = np.random.default_rng(0)
    for k in range(330):
        text = describe(sample_clip(DEMO11[k % 11], k, k, DEMO11), rng, "movement")
        words = set(re.findall(r"[a-z]+", text.lower()))
        assert not words & EMOTION_WORDS, text
        assert text[0].isupper() and text.endswith(".") and "{" not in text and "  " not in text
        assert len(text.split()) < 110


def test_movement_style_tells_part_direction_strength_and_order() -> None:
    script = acted(
        Event("AU12_left", 0.2, 0.1, 0.1, 9, 1),
        Event("AU12_right", 0.2, 0.1, 0.1, 9, 1),
        Event("AU4", 1.0, 0.6, 0.1, 9, 1),
    )
    for seed in range(20):
        text = describe(script, np.random.default_rng(seed), "movement").lower()
        assert re.search(r"mouth corners|corners of the mouth", text) and re.search(r"rise|lift|pull up", text)
        assert re.search(r"brows", text) and re.search(r"lower|pull down|move down", text)
        assert re.search(r"slightly|faintly", text) and re.search(r"strongly|markedly|greatly", text)
        assert text.index("mouth") < text.index("brows")


def test_one_side_is_named_and_a_still_face_is_called_still() -> None:
    left = describe(acted(Event("AU14_left", 0.8, 0.1, 0.1, 9, 1)), np.random.default_rng(0), "movement")
    assert "left" in left and "right" not in left
    still = describe(acted(), np.random.default_rng(0), "movement")
    assert re.search(r"still|hardly|little movement|keep their places", still)


def test_opposite_movements_are_not_both_told() -> None:
    sizes = {"AU5": 0.5, "AU7": 0.8, "AU1": 0.9, "AU2_left": 0.9, "AU2_right": 0.9, "AU4": 0.6}
    script = acted(*(Event(unit, size, 0.1, 0.1, 9, 1) for unit, size in sizes.items()))
    for seed in range(10):
        text = describe(script, np.random.default_rng(seed), "movement")
        assert not re.search(r"widen|open|upper eyelids rise|lower and|move down|pull down", text)
        assert re.search(r"together", text)


def test_movements_that_fade_are_said_to_fade() -> None:
    text = describe(acted(Event("AU1", 0.9, 0.0, 0.1, 0.1, 0.1)), np.random.default_rng(0), "movement")
    assert re.search(r"fades|relaxes|return", text)


def test_human_style_names_person_and_often_the_state() -> None:
    rng = np.random.default_rng(0)
    states, named = resource_json("phrases.json")["states"], 0
    for k in range(110):
        script = sample_clip(DEMO11[k % 11], k, k, DEMO11)
        text = describe(script, rng, "human")
        assert script.person.gender in text and "{" not in text
        assert ("his " not in text) if script.person.gender == "woman" else ("her " not in text)
        named += any(state in text for state in states[script.label])
    assert 0.5 * 110 < named < 0.9 * 110


def test_unknown_style() -> None:
    script = sample_clip("contempt", 1, 1, DEMO11)
    with pytest.raises(UsageError, match="unknown caption style 'poem'"):
        describe(script, np.random.default_rng(0), "poem")
