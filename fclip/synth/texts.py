"""Captions of rendered clips, in two styles, from the clip's script. Phrases lie in resources/phrases.json.

"movement": what facial parts do, in which direction, how strongly and in which order, without any emotion word.
"human": as an annotator of MAFW would write ("A young woman raises her brows, opens her mouth, looks startled").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fclip.errors import UsageError
from fclip.files import resource_json
from fclip.synth.actions import INDEX, UNITS
from fclip.synth.script import ClipScript

SMALLEST = 0.14  # activations below this are not mentioned
MOTION_SIZES = {"yaw": 6.0, "pitch": 5.0, "roll": 5.0, "gaze_x": 0.45, "gaze_y": 0.4}


@dataclass(frozen=True)
class Movement:
    """One thing to mention: phrase key, share of its usual size, onset in seconds, whether it is over at the end."""

    phrase: str
    size: float
    onset: float
    faded: bool
    side: str = ""


def describe(script: ClipScript, rng: np.random.Generator, style: str) -> str:
    """Write a caption of the clip in the style "movement" or "human"; `rng` chooses among wordings."""
    if style not in ("movement", "human"):
        raise UsageError(f"unknown caption style {style!r}; use movement or human")
    found = movements(script)
    return _movement_text(found, rng) if style == "movement" else _human_text(script, found, rng)


def movements(script: ClipScript) -> list[Movement]:
    """What visibly happens in the clip, by onset."""
    times, values = script.times, script.channels()
    speech = {wave.channel for wave in script.waves} & set(UNITS)
    found: dict[str, Movement] = {}
    for name in UNITS:
        if name in speech:  # an event on a speaking mouth is mentioned only if it stands out
            continue
        movement = _unit_movement(name, values[:, INDEX[name]], times)
        if movement is not None:
            found[name] = movement
    result = _merge(found)
    for name, usual in MOTION_SIZES.items():
        course = values[:, INDEX[name]] - values[0, INDEX[name]]
        furthest = int(np.argmax(np.abs(course)))
        if abs(course[furthest]) > usual:
            onset = float(times[int(np.argmax(np.abs(course) > abs(course[furthest]) / 2))])
            result.append(Movement(name + ("+" if course[furthest] > 0 else "-"), 0.5, onset, False))
    if speech:
        result.append(Movement("speech", 0.5, 0.0, False))
    return sorted(result, key=lambda movement: movement.onset)


def _unit_movement(name: str, course: np.ndarray, times: np.ndarray) -> Movement | None:
    peak = float(course.max())
    if peak < (0.5 if name == "AU45" else SMALLEST):
        return None
    onset = float(times[int(np.argmax(course >= peak / 2))])
    return Movement(name, peak, onset, bool(course[-1] < peak / 2))


def _merge(found: dict[str, Movement]) -> list[Movement]:
    """Join the two sides of a unit, and inner and outer brows, where both move."""
    merged: dict[str, Movement] = {}
    for name, movement in found.items():
        base, _, side = name.partition("_")
        if not side:
            merged[name] = movement
            continue
        other = found.get(f"{base}_{'right' if side == 'left' else 'left'}")
        if other is not None and min(other.size, movement.size) > 0.5 * max(other.size, movement.size):
            merged[base] = Movement(base, (other.size + movement.size) / 2, movement.onset, movement.faded)
        elif other is None or other.size < movement.size:
            merged[base] = Movement(f"{base}_side", movement.size, movement.onset, movement.faded, side)
    inner, outer = merged.get("AU1"), merged.get("AU2")
    if inner and outer and not outer.side:
        del merged["AU2"]
        merged["AU1"] = Movement("AU1+2", max(inner.size, outer.size), inner.onset, inner.faded)
    if inner and "AU4" in merged:  # raised and lowered at once: what is left to see is the drawing together
        merged["AU4"] = replace(merged["AU4"], phrase="AU4_together")
    if "AU26" in merged:  # an open mouth implies parted lips
        merged.pop("AU25", None)
    if "AU5" in merged and "AU7" in merged:  # opposite: the stronger one shows
        del merged[min(("AU5", "AU7"), key=lambda name: merged[name].size)]
    return list(merged.values())


def _choose(rng: np.random.Generator, options: list[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _phrase(movement: Movement, rng: np.random.Generator) -> str:
    phrases = resource_json("phrases.json")
    grade = "weak" if movement.size < 0.35 else "medium" if movement.size < 0.75 else "strong"
    text = _choose(rng, phrases["movement"][movement.phrase])
    return " ".join(text.format(a=_choose(rng, phrases["adverbs"][grade]), s=movement.side).split())


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _movement_text(found: list[Movement], rng: np.random.Generator) -> str:
    phrases = resource_json("phrases.json")
    if not any(m.phrase[:2] == "AU" and m.phrase != "AU45" and m.size > 0.2 for m in found):
        parts = [_choose(rng, phrases["still_parts"])] if rng.random() < 0.6 else []
        parts += [_phrase(m, rng) for m in found]
        return _sentence(_join([_choose(rng, phrases["still"]), *parts]))
    groups: list[list[Movement]] = []
    for movement in found:
        if groups and movement.onset - groups[-1][0].onset < 0.16 and len(groups[-1]) < 4:
            groups[-1].append(movement)
        else:
            groups.append([movement])
    sentences = []
    for number, group in enumerate(groups):
        opener = _choose(rng, phrases["links"] if number else phrases["openers"])
        sentences.append(_sentence(opener + _join([_phrase(m, rng) for m in group])))
    strong = [m for m in found if m.phrase not in ("AU45", "speech") and m.size > 0.3]
    if strong and all(m.faded for m in strong):
        sentences.append(_choose(rng, phrases["ends"]) + ".")
    return " ".join(sentences)


def _human_text(script: ClipScript, found: list[Movement], rng: np.random.Generator) -> str:
    phrases, person = resource_json("phrases.json"), script.person
    pronoun = "her" if person.gender == "woman" else "his"
    subject = (
        _choose(rng, [f"a {person.gender}", f"the {person.gender}"])
        if rng.random() < 0.5
        else (f"{'an' if person.age == 'old' else 'a'} {person.age} {person.gender}")
    )
    telling = sorted((m for m in found if m.size > 0.25), key=lambda m: -m.size)[: int(rng.integers(2, 5))]
    parts = [_choose(rng, phrases["human"][m.phrase]) for m in found if m in telling]
    if not parts:
        parts = [_choose(rng, phrases["still_human"])]
    if rng.random() < 0.7:
        parts.append(_choose(rng, phrases["states"][script.label]))
    return _sentence(f"{subject} " + ", ".join(dict.fromkeys(parts)).format(p=pronoun))
