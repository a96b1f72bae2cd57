"""What the face shows all the while: signals of a track against their distribution over neutral real faces.

Each row of resources/captions/channels.json may say by which signals its state is read; neutral_faces.json beside it
holds, per signal, the quantiles of neutral faces. A deviation is 0 at the base quantile (the median, unless the row
says otherwise), 1 at the quantile from which a state counts as slight, 2 as clear, 3 as strong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from fclip.captions.template.activation import (
    ChannelSpec,
    blendshape_names,
    channel_table,
    face_measures,
    row_blendshapes,
)
from fclip.captions.template.moves import SIDE_VISIBLE
from fclip.files import resource_json
from fclip.records import FaceTrack

QUANTILES = (0.5, 0.95, 0.98, 0.995)  # of neutral faces: base, slight, clear, strong
MOST = 5.0  # deviations above it are not told apart
NEAR = 0.8  # deviation from which a channel is not called neutral: up to 1 neither its state nor rest is told
HELD = 0.8  # share of the frames in which a state must be there to be held
MOST_ANGLE = 40.0  # degrees of head turn beyond which measures are corrected no further
Signals = Mapping[str, np.ndarray]  # a signal's name -> (T, 2), the person's right and left


@dataclass(frozen=True)
class State:
    """A state held through the clip. side: both, left, right; level 1 slight, 2 clear, 3 strong."""

    channel: str
    side: str
    level: int
    deviation: float
    weight: float

    @property
    def salience(self) -> float:
        """How much it matters to tell this: how rare it is among neutral faces, times the channel's weight."""
        return self.weight * self.deviation


def find_states(track: FaceTrack, size: tuple[int, int]) -> tuple[list[State], set[str]]:
    """States held in at least HELD of the frames, and the channels that are there in more than the rest of them.

    A track whose every frame holds a face; size (height, width) of the frames. What the second set leaves out is
    neutral: below NEAR in at least HELD of the frames.
    """
    return held_states(*read_deviations(track, size))


def held_states(deviations: Mapping[str, np.ndarray], yaw: np.ndarray) -> tuple[list[State], set[str]]:
    """The same from the channels' deviations (T, 2) and the yaw (T,) in degrees."""
    specs = {spec.name: spec for spec in channel_table()}
    sides = np.stack(list(deviations.values()))  # (K, T, 2)
    courses = np.concatenate([sides, sides.mean(axis=2, keepdims=True)], axis=2)  # (K, T, 3): right, left, both
    lasting, usual, most = np.quantile(courses, (1 - HELD, 0.5, HELD), axis=1)  # each (K, 3)
    frontal = np.median(np.abs(yaw)) < SIDE_VISIBLE
    there, held, neutral = {}, {}, set()
    for name, least, middle, top in zip(deviations, lasting, usual, most, strict=True):
        spec = specs[name]
        there[name] = top[2] >= 1 or (spec.sided and top.max() >= 2)
        if top[2] < NEAR and not there[name]:
            neutral.add(name)
        one_sided = spec.sided and frontal and least[:2].max() >= 2 and least[:2].min() < 1
        column = int(np.argmax(least[:2])) if one_sided else 2
        if least[column] >= (2 if spec.state.get("clear") else 1):
            level = int(np.clip(middle[column], 1, 3))
            held[name] = State(name, ("right", "left", "both")[column], level, float(middle[column]), spec.weight)
    told = [
        state
        for name, state in held.items()
        if all(other in held for other in specs[name].state.get("with", ()))
        and not any(there.get(other) for other in specs[name].state.get("without", ()))
    ]
    return told, {name for name in there if name not in neutral and not specs[name].state.get("resting")}


def read_deviations(track: FaceTrack, size: tuple[int, int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Channel -> deviation (T, 2) from neutral faces, and the yaw (T,) in degrees; see the module."""
    signals, angles = read_signals(track, size)
    complete = track.blendshapes is not None and track.pose is not None
    table = neutral_table()["mediapipe" if complete else "landmarks"]
    deviations = {}
    for spec in channel_table():
        rows = [(name, row) for name, row in table.get(spec.name, {}).items() if name in signals]
        if rows:
            each = [_deviation(_sides(spec, signals[name], angles, row["pose"]), row["levels"]) for name, row in rows]
            deviations[spec.name] = np.max(each, axis=0)
    return deviations, angles[:, 1]


def _sides(spec: ChannelSpec, values: np.ndarray, angles: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Values (T, 2) corrected for pose; both sides hold their mean where the channel is of the whole face."""
    values = corrected(values, angles, weights)
    return values if spec.sided else np.repeat(values.mean(axis=1, keepdims=True), 2, axis=1)


def _deviation(values: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Values in units of the levels, linear between and above them, within 0 and MOST."""
    last = max(levels[-1] - levels[-2], 1e-12)
    inside = np.interp(values, levels, np.arange(len(levels)))
    beyond = len(levels) - 1 + (values - levels[-1]) / last
    return np.minimum(np.where(values > levels[-1], beyond, inside), MOST)


def corrected(values: np.ndarray, angles: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Values (T, 2) less what the head's angles (T, 3) in degrees account for; no weights: the values as they are."""
    return values - (pose_terms(angles) @ np.asarray(weights))[:, None] if len(weights) else values


def pose_terms(angles: np.ndarray) -> np.ndarray:
    """Terms (T, 4) of the correction by pose: pitch, its square, the yaw's amount and square; unit 20 degrees."""
    turned = np.clip(np.asarray(angles, dtype=np.float64), -MOST_ANGLE, MOST_ANGLE) / 20.0
    pitch, yaw = turned[:, 0], turned[:, 1]
    return np.stack([pitch, pitch**2, np.abs(yaw), yaw**2], axis=1)


def read_signals(track: FaceTrack, size: tuple[int, int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All signals that channels.json names as states' sources and the track has, and the head's angles (T, 3).

    A signal is a measure of measures.py or an angle of the head with its sign, a blendshape (both sides of it), or
    `CHANNEL`: the blendshapes that the channel's own row combines.
    """
    measures, angles = face_measures(track, size)
    signals: dict[str, np.ndarray] = {}
    for spec in channel_table():
        for name in [name for names in spec.state.get("from", {}).values() for name in names]:
            plain, sign = name.lstrip("-"), -1.0 if name.startswith("-") else 1.0
            if plain in measures:
                signals[name] = sign * measures[plain]
            elif track.blendshapes is not None:
                if plain == "blendshapes":
                    signals[spec.name] = row_blendshapes(spec, track.blendshapes)
                else:
                    signals[name] = sign * _both_sides(plain, track.blendshapes)
    return signals, angles


def state_sources(spec: ChannelSpec, kind: str) -> list[str]:
    """Names of the signals of a channel's state for `mediapipe` or `landmarks`, as read_signals gives them."""
    names = spec.state.get("from", {}).get(kind, [])
    return [spec.name if name == "blendshapes" else name for name in names]


def _both_sides(name: str, blendshapes: np.ndarray) -> np.ndarray:
    """A blendshape (T, 2) by its name without Right or Left; one of the midline holds the same value twice."""
    names = blendshape_names()
    sides = [name + side if name + side in names else name for side in ("Right", "Left")]
    return blendshapes[:, [names.index(side) for side in sides]].astype(np.float64)


@cache
def neutral_table() -> dict[str, Any]:
    """Content of neutral_faces.json: kind -> channel -> signal -> {pose: weights, levels: quantiles}."""
    table: dict[str, Any] = resource_json("captions/neutral_faces.json")
    return table
