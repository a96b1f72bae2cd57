"""What moves: a face track as channels, each the activation of one kind of movement over time.

A channel's activation is 0 at rest and 1 for a full movement. The table resources/captions/channels.json says where
each comes from (a measure of geometry.py or blendshapes) and in which units. The rest level is calibrated on the
clip's own neutral phase, its calmest frames, within bounds that keep a held expression from passing for rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from fclip.captions.template.measures import face_frame, head_angles, measure
from fclip.files import resource_json
from fclip.records import FaceTrack

HEAD = ("pitch", "yaw", "roll")
POSE_DEADBAND = 4.0  # degrees of head turn that leave the measures as they are
MOST_BLENDSHAPE_NOISE = 0.05  # activation; twice that for the difference of two, such as gaze
SMOOTH_ABOVE = 0.03  # frame-to-frame noise, in activation, above which a channel is smoothed over time


@dataclass(frozen=True)
class ChannelSpec:
    """One row of resources/captions/channels.json, which explains the fields."""

    name: str
    measure: str = ""
    sign: int = 1
    typical: float = 0.0
    bias: float = 0.0
    full: float = 1.0
    per_pitch: float = 0.0
    per_yaw: float = 0.0
    per_opening: float = 0.0
    one_way: bool = False
    sided: bool = False
    weight: float = 1.0
    blendshapes: Mapping[str, Any] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    hidden_by: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Channel:
    """Activation over time: `sides` (T, 2), the person's right and left; `noise` its standard deviation."""

    spec: ChannelSpec
    sides: np.ndarray
    noise: float


@cache
def channel_table() -> tuple[ChannelSpec, ...]:
    """The rows of channels.json, in the order in which captions name them."""
    rows = resource_json("captions/channels.json")["channels"]
    return tuple(_spec(**row) for row in rows)


def _spec(hidden_by: Sequence[str] = (), needs: Sequence[str] = (), **row: Any) -> ChannelSpec:
    return ChannelSpec(hidden_by=tuple(hidden_by), needs=tuple(needs), **row)


@cache
def blendshape_names() -> tuple[str, ...]:
    """The 52 coefficients in the order of FaceTrack.blendshapes (ARKit's names, MediaPipe's order)."""
    return tuple(resource_json("captions/blendshapes.json"))


def read_channels(track: FaceTrack, size: tuple[int, int]) -> tuple[dict[str, Channel], np.ndarray]:
    """Channels of a track whose every frame holds a face; `size` = (height, width) of the frames in pixels.

    Returns the channels by name and the head angles (T, 3): pitch, yaw, roll in degrees relative to the frontal
    view (pitch: to the calm frames), positive downwards, towards the person's left, clockwise in the image.
    """
    measures, angles = face_measures(track, size)
    sources = [_source(spec, measures, track.blendshapes) for spec in channel_table()]
    usable = [(spec, source) for spec, source in zip(channel_table(), sources, strict=True) if source is not None]
    calm = _calm_frames([(source.values - source.typical) / source.full for _, source in usable])
    active = [source.activation(calm) for _, source in usable]
    most = [
        MOST_BLENDSHAPE_NOISE * (2 if source.group == "blendshapes" and not source.one_way else 1)
        for _, source in usable
    ]
    noise = _noise(active, [source.group for _, source in usable], most)
    turned = np.maximum(np.abs(angles - np.median(angles[calm], axis=0)) - POSE_DEADBAND, 0.0)
    opened = np.abs(measures["mouth_opening"][:, 0] - np.median(measures["mouth_opening"][calm, 0]))
    channels = {}
    for (spec, source), values, sigma in zip(usable, active, noise, strict=True):
        if source.group != "blendshapes":  # those come without jitter and corrected for the head's pose
            if sigma > SMOOTH_ABOVE:
                values, sigma = _smooth(values), 0.61 * sigma
            tolerance = spec.per_pitch * turned[:, 0] + spec.per_yaw * turned[:, 1] + spec.per_opening * opened
            values = np.sign(values) * np.maximum(np.abs(values) - tolerance[:, None], 0.0)
        if track.blendshapes is not None:
            for name, weight in spec.at_least.items():
                shape = track.blendshapes[:, [blendshape_names().index(name)] * 2]  # (T, 2)
                values = np.maximum(values, weight * _settled(shape.astype(np.float64)))
                sigma = min(sigma, MOST_BLENDSHAPE_NOISE)
        channels[spec.name] = Channel(spec, values, sigma)
    return channels, angles


def face_measures(track: FaceTrack, size: tuple[int, int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Measures of measures.py and the head's angles by name, each (T, 2), and the angles (T, 3); see read_channels."""
    height, width = size
    framed, roll = face_frame(np.asarray(track.landmarks, dtype=np.float64) * [width, height])
    angles = head_angles(framed, roll) if track.pose is None else np.asarray(track.pose, dtype=np.float64)
    measures = measure(framed)
    return measures | {name: np.stack([angles[:, i]] * 2, axis=1) for i, name in enumerate(HEAD)}, angles


def row_blendshapes(spec: ChannelSpec, blendshapes: np.ndarray) -> np.ndarray:
    """Blendshapes (T, 52) combined as the channel's row says: (T, 2), the person's right and left."""
    index = {name: number for number, name in enumerate(blendshape_names())}
    sides = [
        sum(weight * blendshapes[:, index[name]] for name, weight in spec.blendshapes[side].items())
        for side in ("right", "left")
    ]
    return _settled(np.stack(sides, axis=1).astype(np.float64))


@dataclass(frozen=True)
class _Source:
    """Where a channel comes from: values (T, 2) growing with the movement, and their scale (see ChannelSpec)."""

    group: str
    values: np.ndarray
    typical: float
    bias: float
    full: float
    one_way: bool

    def activation(self, calm: np.ndarray) -> np.ndarray:
        """Activation (T, 2): distance from rest, which for the head is where the clip starts, for what only goes one
        way its lowest level, for the others their level in the calm frames.
        """
        if self.group in HEAD:
            level = np.median(self.values[: max(1, len(self.values) // 4)], axis=0)
        elif self.one_way:
            level = np.quantile(self.values, 0.2, axis=0)
        else:
            level = np.median(self.values[calm], axis=0)
        return (self.values - np.clip(level, self.typical - self.bias, self.typical + self.bias)) / self.full


def _source(spec: ChannelSpec, measures: dict[str, np.ndarray], blendshapes: np.ndarray | None) -> _Source | None:
    """The source of a channel: blendshapes where the track has them, else a measure, else None."""
    if spec.blendshapes and blendshapes is not None:
        two_way = any(weight < 0 for weight in spec.blendshapes["right"].values())
        values = row_blendshapes(spec, blendshapes)
        return _Source("blendshapes", values, 0.0, spec.blendshapes["bias"], spec.blendshapes["full"], not two_way)
    if spec.measure:
        group = spec.measure if spec.measure in (*HEAD, "eye_opening") else "landmarks"
        values = spec.sign * measures[spec.measure]
        return _Source(group, values, spec.sign * spec.typical, spec.bias, spec.full, spec.one_way)
    return None


def _settled(values: np.ndarray) -> np.ndarray:
    """Blendshapes (T, 2) with the first frame like the second where it stands alone.

    MediaPipe finds the face of the first frame by detection and those after it by tracking, so its first
    coefficients may be off by a fifth.
    """
    if len(values) >= 8 and np.abs(values[2] - values[1]).max() < 0.5 * np.abs(values[1] - values[0]).max():
        values[0] = values[1]
    return values


def _calm_frames(deviations: list[np.ndarray]) -> np.ndarray:
    """Mask (T,) of the clip's neutral phase: the sixth of the frames, two at least, least away from a face at rest."""
    energy = np.mean([np.maximum(np.abs(values) - 0.4, 0.0).mean(axis=1) for values in deviations], axis=0)  # (T,)
    return energy <= np.sort(energy)[min(len(energy) - 1, max(1, len(energy) // 6))] + 0.002


def _noise(active: list[np.ndarray], groups: list[str], most: list[float]) -> list[float]:
    """Standard deviation of each channel's jitter.

    It is read from second differences, which steady movement leaves small. Channels of one group share their jitter:
    what exceeds the group's median 1.5 times is quick movement and not noise, and what is much below it is chance.
    The jitter of blendshapes is known to be at most that of `most`.
    """
    if len(active[0]) < 5:
        return [0.0] * len(active)
    bends = [np.abs(values[:-2] - 2 * values[1:-1] + values[2:]) for values in active]
    own = [float(np.median(bend) * 1.4826 / np.sqrt(6.0)) for bend in bends]
    shared = {g: float(np.median([n for n, other in zip(own, groups, strict=True) if other == g])) for g in set(groups)}
    return [
        min(sigma, limit) if group == "blendshapes" else float(np.clip(sigma, 0.8 * shared[group], 1.5 * shared[group]))
        for sigma, group, limit in zip(own, groups, most, strict=True)
    ]


def _smooth(values: np.ndarray) -> np.ndarray:
    """Values (T, 2) averaged over three frames with weights 1, 2, 1."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
