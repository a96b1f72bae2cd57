"""Putting the clauses that are left of a sentence together again, so that it reads as a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fclip.captions.lexicon import CUT, KEEP
from fclip.captions.refine.clauses import (
    PUNCTUATION,
    Clause,
    Token,
    described_at,
    is_plural,
    join_tokens,
    subject_of,
    verb_index,
    word_class,
)

SUBJECT_BEARERS = ("main", "subordinate")


@dataclass(frozen=True)
class Kept:
    """A clause of a sentence, its place in it, and whether it stays."""

    clause: Clause
    index: int
    stays: bool


def word(text: str, space: str = " ") -> Token:
    """A token of our own."""
    return Token(text, text.lower(), space, frozenset())


def assemble(clauses: Sequence[Kept]) -> str:
    """Text of the clauses that stay, without final mark; empty when nothing readable is left."""
    out: list[Token] = []
    subject: list[Token] = []  # of the latest clause that has one, whether it stays or not
    subject_stays = True
    waiting = False  # out is a bare subject that waits for its predicate
    stands = False  # out holds a main clause, or what may become one
    for position, item in enumerate(clauses):
        clause = item.clause
        if item.stays:
            later_main = any(other.stays and other.clause.kind == "main" for other in clauses[position + 1 :])
            if waiting:
                added, waiting = _completing(clauses[position:], out)
            elif not out:
                added = _opening(clause, subject, item.index == 0, later_main)
                waiting = clause.kind == "fragment" and _ends_in_noun(added)
            else:
                added = _following(clause, subject, subject_stays, clauses[position - 1].stays)
                if added and not stands and not later_main and described_at(clause.body) and clause.kind == "with":
                    marks = [token for token in clause.lead if token.text in PUNCTUATION]
                    added = [*marks, *_absolute(clause.body, subject)]  # initially, (with) her lips (are) closed
                elif added and added[0].text == "," and stands and _ends_list(clauses, position):
                    comma = added[:1] if clause.kind == "main" else []
                    added = [*comma, word("and"), *added[1:]]
            out += added
            stands = stands or clause.kind in ("main", "predicate") or waiting
        found = subject_of(clause.body) if clause.kind in SUBJECT_BEARERS else []
        if clause.kind == "fragment" and item.index == 0:
            found = clause.body
        if found:
            subject, subject_stays = found, item.stays
    if waiting and any(token.tags & {"action", "state"} for token in out):  # his furrowed brow
        out += [word("are" if is_plural(out) else "is"), word("visible")]
    elif waiting or not any(token.tags & KEEP for token in out):
        return ""
    return _polish(out)


def _ends_in_noun(tokens: Sequence[Token]) -> bool:
    return bool(tokens) and (
        tokens[-1].lower in word_class("persons|movement_nouns") or bool(tokens[-1].tags & {"face", "face_general"})
    )


def _ends_list(clauses: Sequence[Kept], position: int) -> bool:
    """Whether a clause joined by a comma alone became the last of its list because what followed went."""
    clause, later = clauses[position].clause, clauses[position + 1 :]
    if len(clause.lead) != 1 or clause.kind not in ("main", "predicate"):
        return False
    verb = verb_index(clause.body)
    said = clause.body[verb].lower if verb else ""
    if said.endswith("ed") or said in word_class("irregular_participles"):  # the lips pulled up
        return False
    return bool(later) and not any(other.stays for other in later)


def _opening(clause: Clause, subject: list[Token], first: bool, later_main: bool) -> list[Token]:
    """Tokens of the clause that opens the mended sentence."""
    if clause.kind in ("main", "fragment"):
        verb = verb_index(clause.body)
        if not first and verb and "state" in clause.body[verb].tags and all(t.text == "," for t in clause.lead):
            return _absolute(clause.body, subject)  # he looks scared, his eyes wide open
        return clause.lead + clause.body if first else clause.body
    if clause.kind == "subordinate":
        return clause.lead + clause.body if first and later_main else clause.body
    if clause.kind == "participle":
        if any(token.lower == "to" for token in clause.lead):
            return []
        if first and later_main:
            return clause.body
        agent = person(subject)
        return [*agent, word("are" if is_plural(agent) else "is"), *clause.body]
    if clause.kind == "predicate":
        return [*person(subject), *clause.body]
    if clause.kind == "with" and not any(token.lower == "without" for token in clause.lead):
        return clause.lead + clause.body if first and later_main else _absolute(clause.body, subject)
    return []


def _absolute(body: list[Token], subject: list[Token]) -> list[Token]:
    """`with his eyes wide open` -> his eyes are wide open; `with a slight smile` -> he has a slight smile."""
    described = described_at(body)
    out: list[Token] = []
    phrase = 0  # where in `out` the noun phrase at hand begins
    for index, token in enumerate(body):
        if index in described:
            out.append(word("are" if is_plural(out[phrase:]) else "is"))
        out.append(token)
        if token.lower in ("and", ","):
            phrase = len(out)
    if described:
        return out
    facial = any("face" in token.tags for token in subject)  # it is the person who has a smile, not the gaze
    agent = person([token for token in subject if token.lower in _PRONOUNS] if facial else subject)
    owned = body
    if body[0].lower in ("his", "her", "their"):
        noun = next((token for token in body if "face" in token.tags), body[-1])
        owned = body[1:] if is_plural([noun]) else [word("a"), *body[1:]]
    return [*agent, word("have" if is_plural(agent) else "has"), *owned]


def _completing(clauses: Sequence[Kept], out: Sequence[Token]) -> tuple[list[Token], bool]:
    """What the first of `clauses` adds to a bare subject, and whether that still waits for its predicate."""
    clause = clauses[0].clause
    later = any(other.stays and other.clause.kind == "predicate" for other in clauses[1:])
    if later and clause.kind in ("participle", "with"):
        return clause.lead + clause.body, True  # her lips, trembling, part
    added = _predicate_for(clause, out)
    ends_aside = bool(added) and any(token.text == "," for token in out)
    return [word(",", ""), *added] if ends_aside else added, not added


def _predicate_for(clause: Clause, out: Sequence[Token]) -> list[Token]:
    """What completes a bare subject: a predicate, `who raises ...`, or `raising ...` with a verb put in front."""
    if clause.kind == "participle":
        return [word("are" if is_plural(out) else "is"), *clause.body]
    if clause.kind == "with" and verb_index(clause.body) is not None:  # with raised brows opens his mouth
        return clause.lead + clause.body
    if clause.kind == "with" and "face" not in out[-1].tags:
        return [word("have" if is_plural(out) else "has"), *clause.body]
    if clause.kind in ("predicate", "relative") and verb_index(clause.body) is not None:
        return clause.body
    return []


def _following(clause: Clause, subject: list[Token], subject_stays: bool, previous_stays: bool) -> list[Token]:
    """Tokens of a later clause with the words that join it to what is there."""
    if clause.kind == "predicate" and subject and not subject_stays:
        first, *others = person(subject)
        return [*clause.lead, first._replace(text=lower_first(first)), *others, *clause.body]
    if clause.kind in ("relative", "fragment") and not previous_stays:
        return []
    return clause.lead + clause.body


def person(subject: Sequence[Token]) -> list[Token]:
    """The subject to restore: the words there were, or `he`, `she`, `the person` where those name an expression."""
    words = [token for token in subject if token.is_word]
    usable = words and words[0].lower not in ("there", "it", "this", "that", "what", "you", "we", "i")
    head = {token.lower for token in words[-1:]}
    usable = usable and not head & word_class("containers") and not any(token.tags & CUT for token in words)
    if usable and (any("face" in token.tags for token in words) or head & word_class("persons|pronouns")):
        return [word(token.text) for token in words]
    for token in words:
        pronoun = _PRONOUNS.get(token.lower)
        if pronoun:
            return [word(pronoun)]
    return [word("the"), word("person")]


_PRONOUNS = {"he": "he", "his": "he", "she": "she", "her": "she", "they": "they", "their": "they"}


def lower_first(token: Token) -> str:
    """The token's text in lower case where it only had a capital because it opened a sentence."""
    return token.text if token.text == "I" else token.text[0].lower() + token.text[1:]


def _polish(out: list[Token]) -> str:
    """Text with leading marks and joints cut and a capital at its beginning."""
    joints = word_class("coordinators") - {"then"} | {"also"}
    while out and (out[0].text in PUNCTUATION or out[0].lower in joints):
        out = out[1:]
    while out and (out[-1].text in PUNCTUATION or out[-1].lower in joints):
        if out[-1].text == ")" and any(token.text == "(" for token in out):
            break
        out = out[:-1]
    text = join_tokens(out)
    return text[:1].upper() + text[1:]
