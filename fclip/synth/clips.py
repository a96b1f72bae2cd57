"""Clips of rendered faces: a script decides everything at random, rendering it is exact and repeatable.

`sample_clip` -> ClipScript -> `render_clip` -> RenderedClip with frames and all that is true about them. Identities
below 100 000 are for data sets, those from 1 000 000 on for training the bundled weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fclip.synth.actions import CHANNELS, UNITS, Event, expression_events, nuisance_events
from fclip.synth.identity import sample_identity
from fclip.synth.look import sample_look
from fclip.synth.render import Scene, paint_frame, trace_scene
from fclip.synth.script import ClipScript
from fclip.synth.texts import describe

FPS = 25.0
WEAK, BLENDED = 0.045, 0.055  # shares of clips that are hard to tell: barely shown, or mixed with a second expression


@dataclass(frozen=True)
class RenderedClip:
    """A rendered clip and the truth about it.

    frames (T, size, size, 3) uint8 RGB; landmarks (T, 68, 2) float32 in [0, 1] of the frame; parsing (T, size, size)
    uint8 ids of PARSING_CLASSES; action_units (T, n) float32 with their unit_names; pose (T, 3) float32 degrees
    (pitch, yaw, roll).
    """

    frames: np.ndarray
    landmarks: np.ndarray
    parsing: np.ndarray
    action_units: np.ndarray
    unit_names: tuple[str, ...]
    pose: np.ndarray
    caption: str
    fps: float
    label: str


def sample_clip(label: str, identity: int, seed: int, classes: Sequence[str]) -> ClipScript:
    """Decide a clip of the expression `label` by person `identity`; `classes` are those it may be mixed with."""
    rng = np.random.default_rng([32452843, identity, seed])
    person = sample_identity(identity)
    frames = int(rng.integers(24, 33))
    duration = frames / FPS
    draw, strength, blend = rng.random(), float(rng.uniform(0.75, 1.2)), None
    others = [name for name in classes if name != label and name != "neutral"]
    if draw < WEAK:
        strength = float(rng.uniform(0.1, 0.3))
    elif draw < WEAK + BLENDED and others:
        blend = (str(rng.choice(others)), float(rng.uniform(0.35, 0.6)))
    own = strength * person.expressiveness * (1 - 0.5 * blend[1] if blend else 1.0)
    events = expression_events(label, own, person.asymmetry, duration, rng)
    if blend:
        events += expression_events(blend[0], strength * blend[1] * 1.3, person.asymmetry, duration, rng)
    more, waves = nuisance_events(duration, rng)
    pose = (("yaw", 11.0, 22.0), ("pitch", 6.0, 12.0), ("roll", 5.0, 12.0))
    for channel, spread, bound in pose:  # the constant part of the pose: "events" that have long begun
        more.append(Event(channel, float(np.clip(rng.normal(0, spread), -bound, bound)), -10.0, 1.0, 100.0, 1.0))
    return ClipScript(
        label,
        identity,
        seed,
        tuple(classes),
        blend,
        strength,
        frames,
        FPS,
        tuple(events + more),
        tuple(waves),
        sample_look(identity, rng),
    )


def frame_indices(total: int, count: int | None) -> np.ndarray:
    """Indices of `count` equally spaced segment centres of `total` frames (None: all frames)."""
    if count is None:
        return np.arange(total)
    return np.floor((np.arange(count) + 0.5) * total / count).astype(int)


def render_clip(script: ClipScript, size: int = 160, frames: int | None = None) -> RenderedClip:
    """Render a script: all frames, or `frames` equally spaced ones, exactly as they are in the whole clip."""
    indices = frame_indices(script.frames, frames)
    values = script.channels(script.times[indices])  # (T, C)
    scene: Scene = trace_scene(script.person, script.look, values, indices / script.fps, script.seed, size)
    pictures = np.empty((len(indices), size, size, 3), np.uint8)
    parsing = np.empty((len(indices), size, size), np.uint8)
    for row, index in enumerate(indices):
        pictures[row], parsing[row] = paint_frame(scene, row, int(index))
    rng = np.random.default_rng([49979687, script.identity, script.seed])
    pose = values[:, [CHANNELS.index(name) for name in ("pitch", "yaw", "roll")]]
    return RenderedClip(
        pictures,
        scene.landmarks,
        parsing,
        values[:, : len(UNITS)].astype(np.float32),
        UNITS,
        pose.astype(np.float32),
        describe(script, rng, "human"),
        script.fps,
        script.label,
    )
