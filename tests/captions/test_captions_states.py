"""Template captions of rendered faces whose action is known: each action unit at rest, held and moving."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest

from fclip.captions.template.activation import channel_table
from fclip.captions.template.captioner import describe
from fclip.captions.template.states import neutral_table, state_sources
from fclip.captions.template.wording import phrase_table
from fclip.records import FaceTrack
from fclip.synth.actions import INDEX
from fclip.synth.clips import sample_clip
from fclip.synth.render import trace_scene

PEOPLE, FRAMES, SIDE = range(2_000_000, 2_000_010), 16, 160
MOST_SAY, HARDLY_ANY = 8, 1  # of ten people
DEGREE = r"(slightly|clearly|strongly)"
ACTIONS = {  # action units -> how a caption says that it is held, that it happens, and what would be its contrary
    "AU1": (f"brows stay {DEGREE} (lifted|raised)", r"brows rise", "brows (stay .*lowered|draw down)"),
    "AU2_left AU2_right": (f"brows stay {DEGREE} (arched|raised)", r"outer brows rise", "brows (stay .*lowered|draw)"),
    "AU4": (
        r"brows stay (slightly|clearly|strongly|tightly) (lowered|drawn together)",
        r"brows draw down",
        "inner brows (stay .*lifted|rise)",
    ),
    "AU5": (f"eyes stay {DEGREE} widened", r"eyes widen", "eyes (stay .*(narrowed|closed)|narrow|close)"),
    "AU12_left AU12_right": (
        f"mouth corners stay {DEGREE} upturned",
        r"mouth corners rise",
        "corners (stay .*down|turn)",
    ),
    "AU12_left": (f"left mouth corner stays {DEGREE} upturned", r"left mouth corner rises", "downturned|right mouth"),
    "AU15": (f"mouth corners stay {DEGREE} downturned", r"mouth corners turn down", "corners (stay .*upturned|rise)"),
    "AU18": (f"lips stay {DEGREE} pursed", r"lips purse", "lips (stay .*stretched|stretch)"),
    "AU20": (f"lips stay {DEGREE} stretched", r"lips stretch sideways", "lips (stay .*pursed|purse)"),
    "AU24": (f"lips stay {DEGREE} pressed", r"lips press together", "mouth (stays .*open|opens)|lips part"),
    "AU26": (r"mouth stays (slightly|clearly|wide) open", r"mouth opens", "mouth stays shut|lips stay .*pressed"),
    "AU45": (r"eyes stay (half )?closed", r"eyes (close|narrow)", "eyes (stay .*widened|widen)"),
}
COURSES = {
    "rest": np.zeros(FRAMES),
    "held": np.ones(FRAMES),
    "moving": np.clip((np.arange(FRAMES) / (FRAMES - 1) - 0.4) / 0.15, 0, 1),
}


@cache
def caption(units: str, course: str, person: int, frames: int = FRAMES) -> str:
    script = sample_clip("neutral", person, 0, ("neutral",))
    values, times = np.zeros((frames, len(INDEX))), np.arange(frames) / 8
    for unit in units.split():
        values[:, INDEX[unit]] = COURSES[course][:frames]
    scene = trace_scene(script.person, script.look, values, times, 0, SIDE)
    track = FaceTrack(np.zeros((frames, 1, 1), np.uint8), scene.landmarks, np.ones(frames, np.float32))
    return describe(track, times, (SIDE, SIDE))[0]


def saying(words: str, units: str, course: str, frames: int = FRAMES) -> int:
    """Of how many people the caption says it."""
    return sum(bool(re.search(words, caption(units, course, person, frames))) for person in PEOPLE)


@pytest.mark.parametrize("units", ACTIONS)
def test_each_action_at_rest_held_and_moving(units: str) -> None:
    held, moving, contrary = ACTIONS[units]
    assert saying(held, units, "held") >= MOST_SAY
    assert saying(moving, units, "moving") >= MOST_SAY
    assert saying(moving, units, "held") == 0
    assert saying(contrary, units, "held") == 0
    assert saying(held, units, "rest") <= 2 * HARDLY_ANY
    assert saying(moving, units, "rest") == 0


@pytest.mark.parametrize("units", ACTIONS)
def test_a_picture_is_told_in_states_only(units: str) -> None:
    told = ACTIONS[units][0].replace("stays", "is").replace("stay", "are")
    assert saying(told, units, "held", frames=1) >= MOST_SAY
    for person in PEOPLE:
        text = caption(units, "held", person, 1)
        assert not re.search(r"keeps? still|stays?|Throughout|Midway|rises?|opens|part\b", text), text


def test_what_is_held_does_not_keep_still() -> None:
    parts = {"AU4": "brows", "AU45": "eyes", "AU15": "mouth", "AU26": "mouth"}
    for units, part in parts.items():
        still = rf"[Tt]he {part}[a-z, ]* keeps? still|The face keeps still"
        assert saying(still, units, "rest") >= 5
        assert saying(still, units, "held") <= HARDLY_ANY


def test_bared_teeth_are_no_smile() -> None:
    assert saying("teeth stay", "AU10 AU25", "held") > saying("teeth stay", "AU12_left AU12_right AU25", "held") == 0
    assert saying("upturned", "AU10 AU25", "held") == 0


def test_every_state_has_words_and_levels_that_rise() -> None:
    table, words = neutral_table(), phrase_table()["channels"]
    assert min(table["faces"].values()) >= 400  # two of them lie above the 99.5th percentile
    for spec in channel_table():
        for kind in ("mediapipe", "landmarks"):
            assert list(table[kind].get(spec.name, {})) == state_sources(spec, kind)
            for row in table[kind].get(spec.name, {}).values():
                assert np.all(np.diff(row["levels"]) > 0) and len(row["pose"]) in (0, 4)
        assert not spec.state or len(words[spec.name]["state"]) == 3
