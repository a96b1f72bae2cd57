"""From moves and states to English: two or three short sentences out of the table resources/captions/phrases.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fclip.captions.template.moves import Move
from fclip.captions.template.states import State
from fclip.files import resource_json

MOST_MOVES, MOST_STATES, MOST_WORDS = 6, 8, 45  # what a caption of 20 to 50 tokens can hold
A_SENTENCE = 3  # states in one sentence
ROOM_FOR_REST = 24  # words below which the parts at rest are named as well
STATE_COUNTS = 0.3  # salience of a state's deviation of 1 beside that of a movement of full strength
QUICK, SLOW, SLOW_SHARE = 0.25, 1.0, 0.35  # seconds of onset; a slow one also lasts this share of the clip
BLINK = 0.6  # seconds within which eyes that close and open again blink
PARTS = {
    "brows": ("inner_brows_up", "outer_brows_up", "brows_up", "brows_down", "brows_together"),
    "eyes": ("eyes_close", "blink", "eyes_widen", "gaze_left", "gaze_right", "gaze_up", "gaze_down"),
    "mouth": (
        "corners_up",
        "corners_down",
        "lips_stretch",
        "lips_pucker",
        "lips_press",
        "lips_part",
        "mouth_open",
        "upper_lip_up",
        "teeth_bared",
        "mouth_narrow",
        "chin_up",
        "jaw_left",
        "jaw_right",
    ),
    "head": ("head_left", "head_right", "head_up", "head_down", "tilt_left", "tilt_right"),
}


@cache
def phrase_table() -> dict[str, Any]:
    """Content of phrases.json."""
    return resource_json("captions/phrases.json")


def compose(moves: list[Move], states: list[State], there: set[str], duration: float, step: float) -> str:
    """Write the caption: moves by phase of the clip, then what is held, then which parts keep still, or are at rest.

    there: channels that are not neutral, told or not; duration: seconds from the first to the last frame, 0 for a
    picture; step: seconds between frames (no speed is told below it).
    """
    moves = _name_blinks(_join_brows(moves))
    touched = {move.channel for move in moves} | there
    told = _most_salient(moves, _join_raised(states))
    endings = True
    while True:
        text = _Writer(told, touched, duration, step, endings).text()
        if len(text.split()) <= MOST_WORDS or len(told) <= 2:
            return text
        if endings and duration > 0:
            endings = False
        else:
            told = told[:-1]


def _most_salient(moves: list[Move], states: list[State]) -> list[Move | State]:
    """What to tell, the most salient first; a channel's second move counts less than its first."""
    ranked: list[tuple[float, Move | State]] = [(STATE_COUNTS * state.salience, state) for state in states]
    for move in sorted(moves, key=lambda m: -m.salience):
        again = any(other.channel == move.channel for _, other in ranked)
        ranked.append((move.salience * (0.5 if again else 1.0), move))
    ranked.sort(key=lambda pair: (-pair[0], pair[1].channel))
    counts = {Move: MOST_MOVES, State: MOST_STATES}
    kept: list[Move | State] = []
    for _, one in ranked:
        counts[type(one)] -= 1
        if counts[type(one)] >= 0:
            kept.append(one)
    return kept


@dataclass(frozen=True)
class _Writer:
    """Writes one caption. told: what to tell; touched: channels that move or are not neutral; endings: say also how
    movements that last go on.
    """

    told: list[Move | State]
    touched: set[str]
    duration: float
    step: float
    endings: bool

    def text(self) -> str:
        table = phrase_table()
        moves = [one for one in self.told if isinstance(one, Move)]
        held = [self._held(one) for one in self.told if isinstance(one, State)]
        sentences = []
        for phase, opener in enumerate(table["phases"]):
            group = sorted((m for m in moves if self._phase(m) == phase), key=lambda m: (m.start, m.channel))
            if group:
                sentences.append(f"{opener}, {_listed([self._clause(m) for m in group])}.")
        if not self.touched and self.duration > 0:
            sentences.append(f"{table['still_face']}.")
        if held and self.duration > 0:
            held[0] = f"{table['throughout']}, {held[0]}"
        for first in range(0, len(held), A_SENTENCE):
            sentences.append(_sentence(_listed(held[first : first + A_SENTENCE])))
        if len(" ".join(sentences).split()) < ROOM_FOR_REST or not sentences:
            sentences += self._still_parts()
        return " ".join(sentences) or f"{table['nothing_clear']}."

    def _still_parts(self) -> list[str]:
        """A sentence that names the parts of the face that neither move nor are held in a state, or none."""
        table = phrase_table()
        still = [name for part, name in table["still_parts"].items() if not self.touched & set(PARTS[part])]
        if not still:
            return []
        verb = table["keep_still" if self.duration > 0 else "at_rest"]
        return [_sentence(f"{_listed(still)} {_form(verb, len(still) > 1 or still[0] in table['plural_subjects'])}")]

    def _held(self, state: State) -> str:
        """One state as a clause."""
        words, table = phrase_table()["channels"][state.channel], phrase_table()
        one = state.side != "both" and "one" in words
        subject = words["one"].format(side=state.side) if one else words["subject"]
        plural = not one and subject in table["plural_subjects"]
        verb = _form(table["held_clip" if self.duration > 0 else "held_picture"], plural)
        return f"{subject} {verb} {words['state'][state.level - 1]}"

    def _phase(self, move: Move) -> int:
        """0 early, 1 midway, 2 late: the third of the clip in which a move begins (or, for `leave`, ends)."""
        moment = move.end if move.kind == "leave" else move.start
        return min(int(3 * moment / self.duration), 2) if self.duration > 0 else 0

    def _clause(self, move: Move) -> str:
        """One move as a clause: subject, verb phrase, how it ends."""
        words = phrase_table()["channels"][move.channel]
        one = move.side != "both" and "one" in words
        subject = words["one"].format(side=move.side) if one else words["subject"]
        plural = not one and subject in phrase_table()["plural_subjects"]
        if move.kind == "repeat" or (move.kind == "pulse" and "pulse" in words):
            return f"{subject} {_form(words[move.kind], plural)}"
        if move.kind == "leave":
            return f"{subject.replace('the ', 'the ' + words['first'] + ' ', 1)} {_form(words['leave'], plural)}"
        verb = _form(words[move.level], plural)
        speed = self._speed(move)
        if speed:
            verb += f" and {speed}" if verb.endswith("ly") else f" {speed}"
        if move.kind == "pulse":
            return f"{subject} {verb} and {_form(words['back'], plural)}"
        if not self.endings or self.duration - move.start < 0.25 * self.duration:
            return f"{subject} {verb}"  # no room, or too little was seen of its staying
        return f"{subject} {verb} and {_form(words['stay'], plural)}"

    def _speed(self, move: Move) -> str:
        """Adverb of speed, or nothing where the movement is slight or its speed cannot be told."""
        if move.level == "slight" or move.seconds <= 0:
            return ""
        if move.seconds <= QUICK and self.step <= QUICK / 2:
            return str(phrase_table()["quickly"])
        if move.seconds >= SLOW and move.seconds >= SLOW_SHARE * self.duration:
            return str(phrase_table()["slowly"])
        return ""


def _join_brows(moves: list[Move]) -> list[Move]:
    """Inner and outer brows that move together become the brows."""
    inner = [m for m in moves if m.channel == "inner_brows_up"]
    outer = [m for m in moves if m.channel == "outer_brows_up" and m.side == "both"]
    rest = [m for m in moves if m not in inner and m not in outer]
    for first in inner:
        partner = next((m for m in outer if m.start <= first.end and first.start <= m.end), None)
        if partner is None:
            rest.append(first)
            continue
        outer.remove(partner)
        stronger = max(first, partner, key=lambda m: m.peak)
        rest.append(replace(stronger, channel="brows_up", start=min(first.start, partner.start)))
    return rest + outer


def _join_raised(states: list[State]) -> list[State]:
    """Inner and outer brows that are both raised are raised brows."""
    inner = next((s for s in states if s.channel == "inner_brows_up"), None)
    outer = next((s for s in states if s.channel == "outer_brows_up" and s.side == "both"), None)
    if inner is None or outer is None:
        return states
    stronger = max(inner, outer, key=lambda s: s.deviation)
    return [replace(stronger, channel="brows_up"), *(s for s in states if s not in (inner, outer))]


def _name_blinks(moves: list[Move]) -> list[Move]:
    """Eyes that close for a moment, once or repeatedly, blink."""
    return [
        replace(m, channel="blink")
        if m.channel == "eyes_close"
        and (
            (m.kind == "pulse" and m.level == "strong" and m.end - m.start <= BLINK)
            or (m.kind == "repeat" and m.level != "slight")
        )
        else m
        for m in moves
    ]


def _form(verb: str, plural: bool) -> str:
    """The plural or singular of a verb phrase `plural|singular`."""
    forms = verb.split("|")
    return forms[0] if plural else forms[-1]


def _sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def _listed(clauses: list[str]) -> str:
    """a; a and b; a, b and c."""
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"
