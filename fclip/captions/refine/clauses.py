"""Clauses of a sentence: where each begins, what kind it is and what it rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fclip.captions.refine.words import Word, grammar

NOUN_PHRASES = frozenset({"a", "an", "the", "all", "both", "each", "sign", "signs"})  # first words of comparisons
_SENTENCE = r"(?<=[fqrje])(?:h[rm]*[xv]|[du][djuner]*[fqna]+(?:[op][dujn]*[fq])?[rm]*[xv])"  # with no mark in front
_CANDIDATE = re.compile(r"[,;:(cstwzgi-]|(?<=\))|" + _SENTENCE)
_BEGUN = re.compile(r"[,;:c-]+[rm]*s?$|s$")
_ADJECTIVES = re.compile(r"(?:[djneg]*[djeg]|d[nN])$"), re.compile(r",m*[jenJEN]+[fqna]")
_CLAUSE = re.compile(r"s(?:[^,;:()-]*?[xv]|[rm]*g)")
_ITEM = re.compile(r"[^,;:()c-]*")
_PREDICATE = re.compile(r"[rm]*[xv]")
_FINITE = re.compile(r"[xv]")
_LEAD = re.compile(r"[,;:()c-]*")
_PARTICIPLE = re.compile(r"[rm]*g(?![rm]*[xv])")
_RELATIVE = re.compile(r"[rm]?[wt]|[um]ow")


@dataclass
class Clause:
    """Words `first` to `last` of a sentence; from `start` on its own, before that joints (marks, and, while).

    kind: S has subject and finite verb; V a finite verb only; W follows a subordinator; G begins with a participle;
    R is relative, C a comparison or reason, Z a purpose, P a `with` phrase; N is all else. letters: of its own words.
    verb: index of its finite verb. owner: number of the clause that it rests on, None where it stands alone.
    """

    first: int
    start: int
    last: int
    joint: str
    letters: str
    kind: str
    verb: int | None
    owner: int | None = None


def split_clauses(words: Sequence[Word]) -> list[Clause]:
    """Cut a sentence, without its final mark, into clauses; together they hold every word."""
    letters = "".join([word.letter for word in words]).lower()
    finite = _FINITE if _FINITE.search(letters) else re.compile("[xve]")  # the past tense looks like a participle
    likely = {match.start() for match in _CANDIDATE.finditer(letters)}
    starts = [0]
    for index in range(1, len(words)):
        if (index in likely or words[index].length) and _begins(words, letters, index, starts[-1]):
            starts.append(index)
    bounds = zip(starts, [*starts[1:], len(words)], strict=True)
    clauses = [_clause(words, letters, first, last, finite) for first, last in bounds]
    _mend_subject(clauses, words, letters, finite)
    _set_owners(clauses)
    return clauses


def opens_with_recording(words: Sequence[Word]) -> bool:
    """Whether a clause begins with the recording as its subject: the video ends."""
    start = next((word for word in words[:4] if word.letter not in "djm"), None)
    return start is not None and start.lower in grammar()["media"]


def _begins(words: Sequence[Word], letters: str, index: int, start: int) -> bool:
    """Whether a clause begins at `index`; `start` is where the one before it began."""
    letter, before, word = letters[index], letters[start:index], words[index]
    previous = before[-1]
    if before[0] == "(" and ")" not in before:
        return False
    if letter == "(" or previous == ")":
        return True
    if _BEGUN.match(before):
        return letter in ",;:-" and previous in "rm"
    if "compare" in word.tags and word.length and before.strip("rm"):
        looks = words[index - 1].lower in ("look", "looks", "looked")
        return word.lower not in NOUN_PHRASES and previous not in "xbpoilzduk" and not looks
    if letter in ",;:-":
        adverb = re.fullmatch("[rm]+", letters[:index]) and not words[index - 1].reason
        return not adverb and not (_ADJECTIVES[0].search(before) and _ADJECTIVES[1].match(letters, index))
    if letter == "c":
        return _parts_at_coordinator(words, letters, index, start)
    if letter == "s":
        compares = "compare" in words[index - 1].tags and words[index - 1].length > 1  # as though
        return not compares and bool(_CLAUSE.match(letters, index))
    if letter == "z":
        return letters[index + 1 : index + 2] == "b" and bool(words[index + 1].reason)
    if letter == "g":
        return bool(word.tags & {"interpret", "weak_interpret"}) and previous in "fqnayrjegvk"
    if letter == "t":
        return previous in "fqnayk" and bool(_PREDICATE.match(letters, index + 1))
    if letter == "w":
        return previous not in "op" and not opens_with_recording(words[start:index])
    if not _FINITE.search(before):
        return False
    if letter == "i":
        return words[index - 1].lower not in grammar()["incomplete"] and not opens_with_recording(words[start:index])
    return letter in "hdu" and "t" not in before  # two sentences without a mark between them


def _parts_at_coordinator(words: Sequence[Word], letters: str, index: int, start: int) -> bool:
    """Whether what follows `and` is a clause, or an item that must go after some that need not."""
    match = _ITEM.match(letters, index + 1)
    item = match[0] if match else ""
    if _FINITE.search(item) or re.match("[rm]*g", item):
        return True
    clean = not any(word.reason for word in words[start:index])
    return clean and any(word.reason for word in words[index : index + 1 + len(item)])


def _clause(words: Sequence[Word], letters: str, first: int, last: int, finite: re.Pattern[str]) -> Clause:
    lead = _LEAD.match(letters, first, last)
    start = lead.end() if lead else first
    while start < last and letters[start] == "s" and _CLAUSE.match(letters, start, last):
        start += 1
    body = letters[start:last]
    found = finite.search(body)
    if start < last and "compare" in words[start].tags or any("compare" in word.tags for word in words[first:start]):
        kind = "C"
    elif "s" in letters[first:start]:
        kind = "W"
    elif _RELATIVE.match(body):
        kind = "R"
    elif _PARTICIPLE.match(body):
        kind = "G"
    elif body[:1] in ("z", "i"):
        kind = "Z" if body[0] == "z" else "P"
    elif not found:
        kind = "N"
    else:
        kind = "S" if body[: found.start()].strip("rm") else "V"
    verb = start + found.start() if found else None
    return Clause(first, start, last, letters[first:start], body, kind, verb)


def _mend_subject(clauses: list[Clause], words: Sequence[Word], letters: str, finite: re.Pattern[str]) -> None:
    """Give a subject that is cut off from its verb (the mouth, which ..., opens) or in two (brow and lips) its due."""
    later = next((number for number, clause in enumerate(clauses) if clause.kind in "SV"), 0)
    if not later or clauses[0].kind != "N" or clauses[0].letters[-1:] not in tuple("fqnayhk"):
        return
    if clauses[later].kind == "V" and ":" not in clauses[later].joint:
        clauses[0].kind = "S"
    elif "c" in clauses[later].joint and all(clause.kind == "N" for clause in clauses[:later]):
        clauses[: later + 1] = [_clause(words, letters, 0, clauses[later].last, finite)]


def _set_owners(clauses: list[Clause]) -> None:
    """Fill in what each clause rests on: an earlier one, or, before the first S, the S to come."""
    main = head = None
    for number, clause in enumerate(clauses):
        following = clauses[number + 1] if number + 1 < len(clauses) else None
        opens = "c" in clause.joint and clause.kind in "WP" and following and following.kind == "S"
        if clause.kind == "S":
            main = head = number
        elif main is None or opens and following and following.joint == ",":
            clause.owner = next((n for n in range(number, len(clauses)) if clauses[n].kind == "S"), None)
        else:
            clause.owner = main if clause.kind in "VW" else head
            if clause.kind in "VW":
                head = number
