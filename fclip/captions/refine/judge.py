"""Which clauses of a sentence stay, and which of them make a sentence of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from fclip.captions.lexicon import CUT
from fclip.captions.refine.clauses import NOUN_PHRASES, Clause, opens_with_recording
from fclip.captions.refine.words import Word

REASONS = (*CUT, "interpretation", "boilerplate", "off topic", "fragment")  # of a clause with several, the first counts
TELLING = frozenset({"face", "action", "motion"})
JOINT = "joint"  # reason of a comma or `and` that goes with the clause beside it
_SUBORDINATORS = {"while", "whilst", "whereas", "as", "when", "although", "though", "before", "after", "until"}
_NO_SENTENCE = re.compile(r"[rm]*[xvg]|[iwtz]")


def tells(words: Sequence[Word]) -> bool:
    """Whether a stretch of words is about the face or a movement."""
    return any(not word.tags.isdisjoint(TELLING) for word in words)


def main_reason(words: Sequence[Word]) -> str:
    """The reason that counts among those of a stretch of words; empty where there is none."""
    return min((word.reason for word in words if word.reason), key=REASONS.index, default="")


@dataclass
class Verdict:
    """sentences: indices of the words of each sentence that is left; reasons: of the words that go."""

    sentences: list[list[int]] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)

    def cut(self, first: int, last: int, reason: str) -> None:
        """Words that go."""
        self.reasons |= dict.fromkeys(range(first, last), reason)


def judge(words: Sequence[Word], clauses: Sequence[Clause]) -> Verdict:
    """Keep the clauses that may stay and still have what they rest on; join them as they were joined."""
    return _Judgement(words, clauses).verdict()


class _Judgement:
    def __init__(self, words: Sequence[Word], clauses: Sequence[Clause]) -> None:
        self.words, self.clauses = words, clauses
        self.reasons = [self._reason(number) for number in range(len(clauses))]  # empty where the clause stays
        self.bare: set[int] = set()  # clauses of which only the subject stays
        self.free: set[int] = set()  # subordinate clauses that stand alone
        self._save_subjects()
        self._drop_dependents()
        self._close_lists()
        self._drop_dependents()

    def _own(self, clause: Clause) -> Sequence[Word]:
        return self.words[clause.first : clause.last]

    def _reason(self, number: int) -> str:
        """Why a clause must go by its own words; empty where it may stay."""
        clause = self.clauses[number]
        words, body = self._own(clause), self.words[clause.start : clause.last]
        following = self.clauses[number + 1] if number + 1 < len(self.clauses) else None
        heads = clause.kind == "N" and following and following.joint == ":"
        if heads and following and any(word.text[0].isupper() for word in self._own(following)[1:2]):
            return "boilerplate"  # a heading
        if found := main_reason(words):
            return found
        compares = any("compare" in word.tags and word.lower not in NOUN_PHRASES for word in words[1:])
        if clause.kind == "C" or compares:
            return "interpretation"
        if clause.kind == "S" and opens_with_recording(body) and not any("face" in word.tags for word in body):
            return "camera"
        for index, word in enumerate(body):
            leads = clause.kind in "GRV" and index < 4 or clause.verb == clause.start + index
            if leads and word.letter in "vgeb" and "weak_interpret" in word.tags:
                return "" if tells(body[index + 1 :]) else "interpretation"
        return ""

    def _heirs(self, number: int) -> list[int]:
        """The later predicates of a clause's subject that stay."""
        pairs = enumerate(self.clauses)
        return [n for n, clause in pairs if clause.kind == "V" and clause.owner == number and not self.reasons[n]]

    def _save_subjects(self) -> None:
        """A subject whose first predicate goes is kept for the next: he (looks scared and) opens his mouth."""
        for number, clause in enumerate(self.clauses):
            if clause.kind != "S" or not self.reasons[number] and clause.verb is not None:
                continue
            subject = self.words[clause.start : clause.last if clause.verb is None else clause.verb]
            letters = "".join(word.letter for word in subject)
            pronoun = letters.strip("rm") == "h" and subject[0].lower in ("he", "she", "they")
            heirs = self._heirs(number)
            usable = letters == letters.lower() and (pronoun or re.search("[fqa]", letters))
            if heirs and usable and tells(self._own(self.clauses[heirs[0]])):
                self.bare.add(number)

    def _drop_dependents(self) -> None:
        """Drop what rests on a clause that goes; free a subordinate clause that can stand alone."""
        for number, clause in enumerate(self.clauses):
            if self.reasons[number] or clause.kind == "S":
                continue
            owner = clause.owner
            rests = owner is not None and (not self.reasons[owner] or clause.kind == "V" and owner in self.bare)
            if not rests and clause.kind == "W" and self._can_stand(clause):
                self.free.add(number)
            elif not rests or not self._continues(number):
                before = self.reasons[number - 1] if number and clause.kind == "N" else ""
                self.reasons[number] = before if before == "interpretation" else "fragment"

    def _continues(self, number: int) -> bool:
        """Whether a dependent clause still has in front of it what it continues."""
        clause, before = self.clauses[number], self.clauses[number - 1]
        if not number or not self.reasons[number - 1] or clause.kind not in "VRNP":
            return True
        if clause.kind == "V":
            return before.kind not in "CRZ" or "," in clause.joint  # as if to speak or gasp
        if clause.kind == "N":
            return before.kind in "SVWN"
        return clause.kind == "P" and tells(self._own(clause))

    def _can_stand(self, clause: Clause) -> bool:
        joints = {word.lower for word in self.words[clause.first : clause.start] if word.letter == "s"}
        whole = clause.verb is not None and not _NO_SENTENCE.match(clause.letters)
        return whole and joints <= _SUBORDINATORS and tells(self._own(clause))

    def _close_lists(self) -> None:
        """A list that has lost its last item, with the `and`, keeps the first only: A, B and (C) -> A."""
        for number, clause in enumerate(self.clauses):
            owner = clause.owner
            if self.reasons[number] or clause.kind not in "VNP" or clause.joint != ",":
                continue
            if owner is None or owner > number:
                continue
            if clause.kind == "V" and self.clauses[owner].verb is None and self._heirs(owner)[0] == number:
                continue  # the mouth, which ..., opens
            later = range(number + 1, len(self.clauses))
            last = [n for n in later if "c" in self.clauses[n].joint and self._lists(clause, self.clauses[n])]
            if clause.kind == "V" and not last:
                last_stays = self.words[clause.start].lower == "then"
            else:
                last_stays = not last or not all(self.reasons[n] for n in last)
            if not last_stays:
                self.reasons[number] = "fragment"

    @staticmethod
    def _lists(clause: Clause, other: Clause) -> bool:
        """Whether a later clause can be an item of the same list."""
        same = other.kind == "V" if clause.kind == "V" else other.kind in "NP"
        return same and other.owner == clause.owner

    def verdict(self) -> Verdict:
        """Put what stays together; an S that has lost what it was joined to begins a sentence."""
        verdict = Verdict()
        broken = True  # nothing in front to be joined to
        for number, clause in enumerate(self.clauses):
            first, last, reason = clause.first, clause.last, self.reasons[number]
            if number in self.bare and clause.verb is not None:
                verdict.cut(clause.verb, last, reason)
                last = clause.verb
            elif reason and number not in self.bare:
                verdict.cut(first, last, reason)
                broken |= clause.kind == "S" and clause.joint in ("", ":", ";", "-")
                continue
            opening = clause.owner is not None and clause.owner > number
            if new := self._begins_sentence(number, opening, broken or not verdict.sentences):
                verdict.sentences.append([])
            if new or self._follows_bare_subject(number):
                first = clause.start - (1 if opening and clause.joint.endswith("s") else 0)
                verdict.cut(clause.first, first, JOINT)
            if not verdict.sentences:
                verdict.cut(first, last, "fragment")
                continue
            verdict.sentences[-1] += range(first, last)
            broken = False
        self._trim(verdict)
        return verdict

    def _begins_sentence(self, number: int, opening: bool, alone: bool) -> bool:
        """Whether a clause that stays begins a sentence; alone: nothing is in front that it could be joined to."""
        clause = self.clauses[number]
        if not opening and clause.kind != "S" and number not in self.free:
            return False
        led = number and not self.reasons[number - 1] and self.clauses[number - 1].owner
        if led and led == (clause.owner if opening else number):
            return False  # with a sigh, he ...
        if alone or number in self.free:
            return True
        if clause.joint.strip(","):
            return False
        later = [
            other for n, other in enumerate(self.clauses) if n > number and other.kind == "S" and not self.reasons[n]
        ]
        return not (clause.joint and any("c" in other.joint for other in later))  # no more than a comma, or nothing

    def _follows_bare_subject(self, number: int) -> bool:
        """Whether a predicate comes next to its subject now: he (looks scared and) opens his mouth."""
        owner = self.clauses[number].owner
        if self.clauses[number].kind != "V" or owner not in self.bare:
            return False
        between = range(owner + 1 if owner is not None else 0, number)
        return all(self.reasons[n] for n in between)

    def _trim(self, verdict: Verdict) -> None:
        """Marks, coordinators and lonely adverbs (further, thereby) go from the end of what is left."""
        for sentence in verdict.sentences:
            while sentence:
                letter = self.words[sentence[-1]].letter
                lonely = len(sentence) > 1 and letter in "rm" and self.words[sentence[-2]].letter in ",;:-"
                if not lonely and letter not in ",;:c(-":
                    break
                verdict.reasons[sentence.pop()] = "fragment" if lonely else JOINT
