"""The offline captioner: describes what the face does from its landmarks, blendshapes and pose, in plain sentences.

Deterministic, blind to the label and free of emotion words, so it is the honest baseline for captions by video
language models. Data flow: track -> activation.py -> moves.py (what changes) and track -> states.py (what is held,
against neutral faces), both -> wording.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fclip.captions.base import Captioner, CaptionInput, OnCaption
from fclip.captions.template.activation import Channel, channel_table, read_channels
from fclip.captions.template.moves import CLEAR, Move, find_moves
from fclip.captions.template.states import State, find_states
from fclip.captions.template.wording import compose
from fclip.config import NoOptions
from fclip.errors import ClipFailure
from fclip.files import resource_text
from fclip.records import CaptionRecord, FaceTrack
from fclip.registry import register

BARED_TEETH = 0.9  # opening that a smile alone does not reach
REVISION = "5"  # raise it with every change that may change a caption


@register(cpu_only=True)
class TemplateCaptioner(Captioner):
    """Captions from face tracks; see the module. Needs no package, no network and no label."""

    name = "template"
    revision = REVISION
    needs_faces = True

    def __init__(self, options: NoOptions, device: str = "cpu") -> None:
        tables = "".join(
            resource_text(f"captions/{name}.json") for name in ("channels", "phrases", "blendshapes", "neutral_faces")
        )
        self.tables_sha256 = hashlib.sha256(tables.encode()).hexdigest()
        self.fingerprint = {"captioner": self.name, "revision": REVISION, "tables": self.tables_sha256}

    def caption(
        self, clips: Sequence[CaptionInput], on_caption: OnCaption | None = None
    ) -> list[CaptionRecord | ClipFailure]:
        """Caption each clip from its track; a clip without a track or without a face in any frame fails."""
        return [self._caption(clip) for clip in clips]

    def _caption(self, clip: CaptionInput) -> CaptionRecord | ClipFailure:
        try:
            text, frames = describe(clip.track, clip.times, clip.frames.shape[1:3])
        except ClipFailure as failure:
            return failure
        return CaptionRecord(
            clip.key, text, self.name, REVISION, self.tables_sha256, frames, {"back_end": self.name}, label_shown=False
        )


def describe(track: FaceTrack | None, times: np.ndarray, size: tuple[int, int]) -> tuple[str, list[int]]:
    """Caption of one track and the indices of the frames it rests on.

    times (T,) seconds; size (height, width) of the frames. Raises ClipFailure when no frame has a face.
    """
    if track is None:
        raise ClipFailure("no face track for this clip; run: fclip face-analyze")
    seen = (track.confidence > 0) & np.isfinite(track.landmarks).all(axis=(1, 2))
    if not seen.any():
        raise ClipFailure("no face in any frame, so there is nothing to describe")
    times = np.asarray(times, dtype=np.float64)[seen]
    track = track.take(seen)
    moves = list_moves(track, times, size)
    states, there = find_states(track, size)
    duration = float(times[-1] - times[0])
    step = duration / max(len(times) - 1, 1)
    return compose(moves, unmoved(states, moves), there, duration, step), np.flatnonzero(seen).tolist()


def unmoved(states: list[State], moves: list[Move]) -> list[State]:
    """States of what does not move in the clip, or against which nothing moves."""
    moving = {move.channel for move in moves}
    moving |= {"mouth_open"} if "lips_part" in moving else set()
    without = {spec.name: {spec.name, *spec.state.get("without", ())} for spec in channel_table()}
    return [state for state in states if not moving & without[state.channel]]


def list_moves(track: FaceTrack, times: np.ndarray, size: tuple[int, int]) -> list[Move]:
    """All moves of a track whose every frame holds a face, the implausible ones (hidden by others) left out."""
    channels, angles = read_channels(track, size)
    moves = {name: find_moves(channel, times, angles[:, 1]) for name, channel in channels.items()}
    speaking = any(move.kind == "repeat" for move in moves["mouth_open"])
    kept: list[Move] = []
    for name, found in moves.items():
        spec = channels[name].spec
        if "mouth_moves" in spec.hidden_by and speaking:
            continue
        hiding = [move for other in spec.hidden_by for move in moves.get(other, []) if move.peak >= CLEAR]
        helping = [move for other in spec.needs for move in moves.get(other, [])]
        kept += [
            move
            for move in found
            if not any(_together(move, other) for other in hiding)
            and (not spec.needs or any(_together(move, other) for other in helping))
        ]
    return [_lips_or_mouth(move, channels, times) for move in kept]


def _together(one: Move, other: Move) -> bool:
    """Whether two moves overlap in time."""
    return one.start <= other.end and other.start <= one.end


def _lips_or_mouth(move: Move, channels: dict[str, Channel], times: np.ndarray) -> Move:
    """A small opening, or one that raised corners bring about, parts the lips; a larger one opens the mouth."""
    if move.channel != "mouth_open" or move.kind == "repeat" or move.peak >= BARED_TEETH:
        return move
    seconds = times - times[0]
    meant = (seconds >= move.start) & (seconds <= move.end)
    unsmiling = meant & (channels["corners_up"].sides.mean(axis=1) < CLEAR)
    opening = channels["mouth_open"].sides.mean(axis=1)[unsmiling]
    return move if opening.max(initial=0.0) >= CLEAR else replace(move, channel="lips_part")
