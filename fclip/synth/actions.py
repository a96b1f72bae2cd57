"""What a face does over time: action units (FACS), head and gaze as time courses, and how an expression is acted.

Prototypes (core and optional action units of each expression) lie in resources/action_units.json. Those of the
seven basic expressions and of contempt follow the FACS prototypes (Ekman, Friesen & Hager, 2002); anxiety,
helplessness and disappointment have none, theirs are this project's own choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fclip.files import resource_json

UNITS = (
    "AU1",
    "AU2_left",
    "AU2_right",
    "AU4",
    "AU5",
    "AU6",
    "AU7",
    "AU9",
    "AU10",
    "AU12_left",
    "AU12_right",
    "AU14_left",
    "AU14_right",
    "AU15",
    "AU16",
    "AU17",
    "AU18",
    "AU20",
    "AU23",
    "AU24",
    "AU25",
    "AU26",
    "AU27",
    "AU43",
    "AU45",
)  # 0..about 1.2; left and right are the person's own; AU43 drooping lid, AU45 blink
MOTIONS = ("yaw", "pitch", "roll", "shift_x", "shift_y", "zoom", "gaze_x", "gaze_y")
# degrees: yaw > 0 turns the face to the image's right, pitch > 0 down, roll > 0 clockwise in the image; shift in
# frame sizes; zoom as a change of scale; gaze -1..1 to the image's right and down
LIMITS = {"yaw": 25.0, "pitch": 15.0, "roll": 15.0}  # degrees, never exceeded
CHANNELS = UNITS + MOTIONS
INDEX = {name: number for number, name in enumerate(CHANNELS)}
TWO_SIDED = ("AU2", "AU12", "AU14")


@dataclass(frozen=True)
class Event:
    """One movement of a channel: onset at `start` seconds, rising for `rise`, held for `hold`, falling for `fall`."""

    channel: str
    amplitude: float
    start: float
    rise: float
    hold: float
    fall: float


@dataclass(frozen=True)
class Wave:
    """A repeated movement: amplitude * sin(2 pi frequency t + phase); `rectified` keeps the positive half (speech)."""

    channel: str
    amplitude: float
    frequency: float
    phase: float
    rectified: bool = False


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def activations(events: tuple[Event, ...], waves: tuple[Wave, ...], times: np.ndarray) -> np.ndarray:
    """Time courses of all CHANNELS at `times` (T,) seconds: (T, C) float64; action units are clipped to [0, 1.25].

    Movements of one action unit do not add up: the strongest counts. Motions add up; angles end softly at LIMITS.
    """
    values = np.zeros((len(times), len(CHANNELS)))
    for event in events:
        rising = _smooth((times - event.start) / event.rise)
        falling = _smooth((times - event.start - event.rise - event.hold) / event.fall)
        course = event.amplitude * rising * (1.0 - falling)
        column = INDEX[event.channel]
        if column < len(UNITS):
            values[:, column] = np.maximum(values[:, column], course)
        else:
            values[:, column] += course
    for wave in waves:
        course = wave.amplitude * np.sin(2 * np.pi * wave.frequency * times + wave.phase)
        values[:, INDEX[wave.channel]] += np.maximum(course, 0.0) if wave.rectified else course
    values[:, : len(UNITS)] = np.clip(values[:, : len(UNITS)], 0.0, 1.25)
    for name, limit in LIMITS.items():
        values[:, INDEX[name]] = limit * np.tanh(values[:, INDEX[name]] / limit)
    return values


def _sides(unit: str, one_sided: bool, asymmetry: float, side: str) -> dict[str, float]:
    """Channels of a unit with their factors: both sides with some asymmetry, or the named side only."""
    if unit not in TWO_SIDED:
        return {unit: 1.0}
    if one_sided:
        return {f"{unit}_{side}": 1.0}
    return {f"{unit}_left": 1.0 + 0.25 * asymmetry, f"{unit}_right": 1.0 - 0.25 * asymmetry}


def expression_events(
    label: str, strength: float, asymmetry: float, duration: float, rng: np.random.Generator
) -> list[Event]:
    """Act an expression once: which units take part, how strongly, and when (onset, apex, offset)."""
    prototype = resource_json("action_units.json")["prototypes"][label]
    amplitudes: dict[str, float] = {}
    for unit, weight in prototype["core"].items():
        if rng.random() < 0.95:
            amplitudes[unit] = weight * strength * rng.uniform(0.8, 1.2)
    for unit, weight in prototype["optional"].items():
        if rng.random() < 0.45:
            amplitudes[unit] = weight * strength * rng.uniform(0.4, 1.2)
    for channel, weight in prototype["channels"].items():
        if rng.random() < 0.5:
            sign = rng.choice((-1.0, 1.0)) if channel in ("yaw", "roll", "gaze_x") else 1.0
            amplitudes[channel] = sign * weight * min(strength, 1.0) * rng.uniform(0.3, 1.2)
    side = str(rng.choice(("left", "right")))
    one_sided = bool(prototype.get("one_sided")) or rng.random() < 0.03
    early = rng.random() < 0.15  # some clips begin with the expression already there
    start = -0.6 if early else rng.uniform(0.0, 0.3) * duration
    rise, hold = rng.uniform(0.12, 0.4), rng.uniform(0.25, 0.9) + 0.5 * early
    fall = rng.uniform(0.25, 0.6)
    events = []
    for unit, amplitude in amplitudes.items():
        lag, speed, stay = rng.normal(0.0, 0.05), rng.uniform(0.8, 1.25), rng.uniform(0.85, 1.2)
        for channel, factor in _sides(unit, one_sided, asymmetry, side).items():
            events.append(Event(channel, amplitude * factor, start + lag, rise * speed, hold * stay, fall))
    if prototype.get("restless") and rng.random() < 0.7:  # quick repeated movements on top
        begin = rng.uniform(0.1, 0.4) * duration
        unit = str(rng.choice(("AU24", "AU18", "AU20")))
        events.append(Event(unit, 0.7 * strength, begin, 0.1, 0.1, 0.1))
        events.append(Event("AU45", 1.0, begin + 0.25, 0.08, 0.03, 0.1))
    return events


def nuisance_events(duration: float, rng: np.random.Generator) -> tuple[list[Event], list[Wave]]:
    """What happens besides the expression: blinks, glances, small stray action units, speech, head motion."""
    events, waves = [], []
    for _ in range(int(rng.choice((0, 1, 2), p=(0.45, 0.42, 0.13)))):
        events.append(Event("AU45", float(rng.uniform(0.85, 1.05)), rng.uniform(0, duration), 0.08, 0.04, 0.1))
    for channel in ("gaze_x", "gaze_y"):
        if rng.random() < 0.35:
            size = float(rng.normal(0, 0.5))
            events.append(Event(channel, size, rng.uniform(-0.3, 0.8) * duration, 0.06, rng.uniform(0.2, 0.9), 0.06))
    for _ in range(int(rng.choice((0, 1, 2), p=(0.45, 0.4, 0.15)))):
        unit = str(rng.choice([name for name in UNITS if name not in ("AU45", "AU27", "AU26")]))
        events.append(
            Event(
                unit,
                float(rng.uniform(0.05, 0.3)),
                rng.uniform(-0.4, 0.8) * duration,
                rng.uniform(0.1, 0.4),
                rng.uniform(0.1, 0.6),
                rng.uniform(0.2, 0.5),
            )
        )
    if rng.random() < 0.22:  # speech
        rate, loud = rng.uniform(2.2, 4.5), rng.uniform(0.12, 0.34)
        phase = rng.uniform(0, 2 * np.pi)
        waves.append(Wave("AU26", loud, rate, phase, True))
        waves.append(Wave("AU25", loud * 1.2, rate * 0.63, phase + 1.0, True))
        waves.append(Wave("AU18", loud * 0.9, rate * 0.47, phase + 2.0, True))
        waves.append(Wave("AU20", loud * 0.6, rate * 0.31, phase + 4.0, True))
    for channel, size in (
        ("yaw", 4.0),
        ("pitch", 2.5),
        ("roll", 2.5),
        ("shift_x", 0.012),
        ("shift_y", 0.01),
        ("zoom", 0.012),
    ):
        waves.append(Wave(channel, float(abs(rng.normal(0, size))), rng.uniform(0.2, 1.2), rng.uniform(0, 2 * np.pi)))
    return events, waves
