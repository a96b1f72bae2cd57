"""Cleaning captions of all that gives the expression away: whole clauses are kept or dropped by their own words.

A clause goes when it names or implies an emotion, says what a movement means, or tells of the recording, the scene,
clothes or the person; so does what rests on it. Out of a clause that stays, only phrases are taken that any English
sentence can do without (in surprise, sadly). What is left is not rewritten: a clause that has lost its sentence gets a
capital letter and a full stop, and what cannot stand alone goes as well, with the reason on record. No word that names
a label is left, so a caption reads the same whatever label is put in the place of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from fclip.captions.lexicon import KEEP, Lexicon
from fclip.captions.refine.clauses import Clause, opens_with_recording, split_clauses
from fclip.captions.refine.judge import JOINT, REASONS, judge, main_reason, tells
from fclip.captions.refine.words import Reader, Word, grammar, split_sentences, tidy

REVISION = "4"  # raise it with every change that may change a refined caption
MOST_CHARACTERS = 20_000  # of one caption; more is cut off
WHOLE = KEEP | {"face_general"}  # what an untouched sentence must have one of
PART = frozenset({"face", "action"})  # and what is left of one that lost a clause
_SUBJECT = re.compile(r"[^xv]*[hfqanykugt][^xv]*[xv]|[rm]+x[du]|[^xv]*[hfqanyk][rm]*[eny]")
_SPLICE = re.compile(r"^[^xv:]*:|[xv][^;:-]*?(?:,|(?<=[fqrje]))(?:h[rm]*[xv]|[du][djuner]*[fqna]+[rm]*[xv])")
_UNFINISHED = frozenset("doilcstw,;:(-")

Removed = list[tuple[str, str]]


@dataclass(frozen=True)
class Refined:
    """A cleaned caption and what was cut from it: (text, reason) pairs."""

    text: str
    removed: Removed = field(default_factory=list)


class Refiner:
    """Cleans captions for one set of labels. Options as Lexicon's; `fingerprint` holds all that shapes the result."""

    def __init__(
        self,
        labels: Iterable[str] = (),
        lexicon_dir: Path | None = None,
        wordnet: bool = False,
        expressions: bool = False,
    ) -> None:
        self.lexicon = Lexicon(labels, lexicon_dir, wordnet, expressions)
        self.fingerprint = {"refiner": REVISION, "lexicon": self.lexicon.sha256}
        self._reader = Reader(self.lexicon)

    def refine(self, text: str) -> Refined:
        """Clean one caption; the text may come out empty. The result, refined again, stays as it is."""
        removed: Removed = []
        return Refined(self._refine(tidy(text[:MOST_CHARACTERS]), removed), removed)

    def _refine(self, text: str, removed: Removed) -> str:
        kept = []
        for sentence in split_sentences(text):
            left = self._sentence(sentence, removed)
            kept.append(left if left in ("", sentence) else self._refine(left, removed))
        return " ".join(filter(None, kept))

    def _sentence(self, sentence: str, removed: Removed) -> str:
        """What is left of a sentence; what is cut is appended to `removed`."""
        words = self._reader.read(sentence)
        letters = "".join([word.letter for word in words])
        special = [word for word in words if word.length or word.reason or "weak_interpret" in word.tags]
        if special or _SPLICE.search(letters):
            return _Surgery(sentence, words).result(removed)
        if reason := _unfit(words, letters, WHOLE):
            removed.append((sentence, reason))
            return ""
        return sentence[0].upper() + sentence[1:] + ("" if letters.endswith(".") else ".")


def _unfit(words: Sequence[Word], letters: str, wanted: frozenset[str]) -> str:
    """Why a stretch of words cannot be a sentence of a caption; empty where it can."""
    if all(word.tags.isdisjoint(wanted) for word in words):
        return "off topic"
    if opens_with_recording(words) and not any("face" in word.tags for word in words):
        return "camera"
    return "" if _SUBJECT.match(letters) else "fragment"


class _Surgery:
    """One sentence that holds something to cut: each word stays (fate empty) or goes, with the reason as its fate."""

    def __init__(self, sentence: str, words: list[Word]) -> None:
        self.sentence = sentence
        end = len(words)
        while end and words[end - 1].letter == ".":
            end -= 1
        self.words, self.mark = words[:end], "".join(word.text for word in words[end:]) or "."
        self.fate = [""] * end

    def result(self, removed: Removed) -> str:
        """Text of the sentences that are left; what goes is appended to `removed`."""
        self._cut_boilerplate()
        live, words, clauses = self._clauses()
        if self._cut_adjuncts(live, clauses):
            live, words, clauses = self._clauses()
        verdict = judge(words, clauses)
        lost = any(reason != JOINT for reason in verdict.reasons.values())
        kept = []
        for sentence in verdict.sentences:
            reason = self._unfit([words[index] for index in sentence], PART if lost else WHOLE)
            if reason:
                verdict.reasons |= dict.fromkeys(sentence, reason)
            else:
                kept.append([live[index] for index in sentence])
        for index, reason in verdict.reasons.items():
            self.fate[live[index]] = reason
        self._list(removed, whole=not kept)
        return " ".join(self._text(sentence) for sentence in kept)

    def _clauses(self) -> tuple[list[int], list[Word], list[Clause]]:
        """Indices of the words that are left, these words, and their clauses."""
        live = [index for index, fate in enumerate(self.fate) if not fate]
        words = [self.words[index] for index in live]
        return live, words, split_clauses(words) if words else []

    @staticmethod
    def _unfit(words: Sequence[Word], wanted: frozenset[str]) -> str:
        letters = "".join(word.letter for word in words)
        unfinished = not words or letters[-1] in _UNFINISHED or words[-1].lower in grammar()["incomplete"]
        return _unfit(words, letters, wanted) or ("fragment" if unfinished else "")

    def _cut_boilerplate(self) -> None:
        """Phrases such as `in the video` anywhere, others (we can see that, overall) at the beginning only."""
        begun = False
        for index, word in enumerate(self.words):
            if self.fate[index]:
                continue
            end = index + word.length
            mark = end < len(self.words) and self.words[end].letter in ",:"
            opens = not begun and (word.length > 1 or mark)
            within = word.length > 1 and self.words[end - 1].lower in grammar()["media"]
            within &= not index or self.words[index - 1].letter not in "rm"  # late in the clip
            if "boilerplate" in word.tags and word.length and (opens or within):
                end += bool(not begun and mark)
                self.fate[index:end] = ["boilerplate"] * (end - index)
            else:
                begun = True

    def _cut_adjuncts(self, live: list[int], clauses: Sequence[Clause]) -> bool:
        """Cut the adverbs, phrases and adjectives that a clause can do without, where that saves it."""
        changed = False
        for clause in clauses:
            part = live[clause.start : clause.last]
            if clause.kind in "RCZP" or not any(self.words[index].reason for index in part):
                continue
            fates = self._adjuncts(part)
            if all(not self.words[index].reason or index in fates for index in part):
                changed = True
                for index, reason in fates.items():
                    self.fate[index] = reason
        return changed

    def _adjuncts(self, part: list[int]) -> dict[int, str]:
        """Words of a clause that can be cut, with reasons."""
        fates: dict[int, str] = {}
        for pattern in _patterns():
            part = [index for index in part if index not in fates]
            for match in pattern.finditer("".join([self.words[index].letter for index in part])):
                first, last = match.span()
                rest = [self.words[index] for index in part[:first] + part[last:]]
                before = self.words[part[first - 1]].lower if first else ""
                after = self.words[part[last]].lower if last < len(part) else ""
                spoilt = before in ("a", "an") and (after[:1] in tuple("aeiou")) != (before == "an")
                if tells(rest) and not spoilt and before not in grammar()["incomplete"]:
                    cut = part[first:last]
                    fates |= dict.fromkeys(cut, main_reason([self.words[index] for index in cut]))
        return fates

    def _text(self, indices: list[int]) -> str:
        """A kept stretch of words as a sentence."""
        text = ""
        for index, before in zip(indices, [-1, *indices[:-1]], strict=True):
            word = self.words[index]
            text += (word.space if before == index - 1 or word.letter in ",;:)" else " ") + word.text
        text = text.strip()
        return text[0].upper() + text[1:] + (self.mark if indices[-1] == len(self.words) - 1 else ".")

    def _list(self, removed: Removed, whole: bool) -> None:
        """Append what goes, stretch by stretch, without the joints at its ends."""
        fates = list(self.fate)
        for order in (range(len(fates) - 2, -1, -1), range(1, len(fates))):  # boilerplate goes with what it stands in
            for index in order:
                neighbour = fates[index - order.step]
                if fates[index] in ("boilerplate", JOINT) and neighbour and neighbour != JOINT:
                    fates[index] = neighbour
        if whole and len(set(fates)) == 1 and fates[0] in REASONS:
            removed.append((self.sentence, fates[0]))
            return
        first = 0
        for index in range(1, len(fates) + 1):
            if index == len(fates) or fates[index] != fates[first]:
                run = self.words[first:index]
                while run and run[0].letter in ",;:c-":
                    run = run[1:]
                while run and run[-1].letter in ",;:c-":
                    run = run[:-1]
                if run and fates[first]:
                    reason = fates[first] if fates[first] != JOINT else "fragment"
                    removed.append(("".join(word.space + word.text for word in run).strip(), reason))
                first = index


@cache
def _patterns() -> list[re.Pattern[str]]:
    return [re.compile(rule["cut"]) for rule in grammar()["adjuncts"]]
