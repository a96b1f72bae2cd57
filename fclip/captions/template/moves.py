"""When it moves: the activation of a channel over time as moves with onset, apex and return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fclip.captions.template.activation import Channel

PRESENT, CLEAR, STRONG = 0.25, 0.5, 0.85  # activation from which a state is there, is clear, is strong
LEVELS = ("slight", "clear", "strong")
LEAVE_COUNTS = 0.8  # what was there from the start says less than what begins in the clip
LEAST_MOVE = 0.25  # change of activation that counts as movement in a clip without noise
NOISE_FACTOR = 5.0  # a movement must exceed this many standard deviations of the channel's noise
ONE_SIDED = 0.4  # the weaker side reaches less than this share of the stronger one
SIDE_VISIBLE = 20.0  # degrees of yaw up to which both sides of the face can be compared


@dataclass(frozen=True)
class Move:
    """One thing to tell of a channel.

    kind: `rise` (begins and stays), `pulse` (begins and goes back), `leave` (there at first, goes back), `repeat`.
    side: both, left, right. start, end: seconds from the clip's first frame between which the state is there; peak:
    its greatest activation; seconds: duration of the onset.
    """

    channel: str
    kind: str
    side: str
    start: float
    end: float
    peak: float
    seconds: float
    weight: float

    @property
    def level(self) -> str:
        """slight, clear or strong."""
        return LEVELS[int(self.peak >= CLEAR) + int(self.peak >= STRONG)]

    @property
    def salience(self) -> float:
        """How much it matters to tell this."""
        return self.weight * min(self.peak, 1.2) * (LEAVE_COUNTS if self.kind == "leave" else 1.0)


def find_moves(channel: Channel, times: np.ndarray, yaw: np.ndarray) -> list[Move]:
    """All moves of a channel; times (T,) seconds, yaw (T,) degrees tells when both sides can be seen."""
    values, side = _choose_side(channel, yaw)
    values = np.maximum(values, 0.0)
    floor = max(LEAST_MOVE, NOISE_FACTOR * channel.noise)
    moves = []
    runs = _runs(values >= PRESENT)
    for number, (first, last) in enumerate(runs):
        previous = runs[number - 1][1] + 1 if number else 0
        following = runs[number + 1][0] if number + 1 < len(runs) else len(values)
        move = _describe(channel, side, values, times, (first, last), (previous, following), floor)
        if move is not None:
            moves.append(move)
    pulses = [move for move in moves if move.kind == "pulse"]
    if len(pulses) >= 3 or (len(pulses) == 2 and len(moves) >= 3):
        peak = float(np.median([move.peak for move in moves]))
        return [Move(channel.spec.name, "repeat", side, moves[0].start, moves[-1].end, peak, 0.0, channel.spec.weight)]
    return moves


def _describe(
    channel: Channel,
    side: str,
    values: np.ndarray,
    times: np.ndarray,
    run: tuple[int, int],
    around: tuple[int, int],
    floor: float,
) -> Move | None:
    """The move of one run [first, last] of frames in which the state is there, or None when it is held or but noise."""
    first, last = run
    apex = first + int(np.argmax(values[first : last + 1]))
    peak = float(values[apex])
    low_before = around[0] + int(np.argmin(values[around[0] : apex + 1]))
    rises = peak - values[low_before] >= floor
    falls = peak - float(values[apex : around[1]].min()) >= floor
    if not rises and not falls:
        return None
    onset, seconds = first, 0.0
    if rises:
        climb = (values[low_before : apex + 1] - values[low_before]) / (peak - values[low_before])
        onset = low_before + int(np.argmax(climb >= 0.3))
        settled = low_before + int(np.argmax(climb >= 0.8))
        seconds = float(times[settled] - times[max(onset - 1, low_before)])
    kind = "pulse" if rises and falls else "rise" if rises else "leave"
    start, end = float(times[onset] - times[0]), float(times[last] - times[0])
    return Move(channel.spec.name, kind, side, start, end, peak, seconds, channel.spec.weight)


def _choose_side(channel: Channel, yaw: np.ndarray) -> tuple[np.ndarray, str]:
    """The activation (T,) to describe and its side: one side where only that one moves, else the mean of both."""
    mean = channel.sides.mean(axis=1)
    if not channel.spec.sided:
        return mean, "both"
    strong = int(np.argmax(channel.sides.max(axis=0)))
    apex = int(np.argmax(channel.sides[:, strong]))
    stronger, weaker = channel.sides[apex, strong], channel.sides[apex, 1 - strong]
    if stronger >= CLEAR and weaker < ONE_SIDED * stronger and abs(yaw[apex]) < SIDE_VISIBLE:
        return channel.sides[:, strong], ("right", "left")[strong]
    return mean, "both"


def _runs(present: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each stretch of True; in long clips a gap of one frame does not end a stretch."""
    present = present.copy()
    if len(present) >= 12:
        present[1:-1] |= present[:-2] & present[2:]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
