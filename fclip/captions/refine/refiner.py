"""Cleaning captions of all that gives the expression away by its name (METHOD 4), and checking that nothing is left.

Stage 1 keeps clauses about parts of the face and implied actions and cuts what states or implies an emotion, the
scene, clothing, identity and boilerplate, so that grammatical text is left. Stage 2, counterfactual verification,
replaces each label word by the other labels: if the text then reads differently, a label word was left, and its
sentence goes as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from fclip.captions.lexicon import CUT, KEEP, Lexicon
from fclip.captions.refine.clauses import (
    Clause,
    Token,
    is_plural,
    join_tokens,
    split_clauses,
    split_sentences,
    subject_of,
    tokenize,
    verb_index,
    word_class,
)
from fclip.captions.refine.cuts import (
    CUT_AFTER,
    Removed,
    cut_boilerplate,
    cut_phrases,
    is_dangling,
    may_hedge,
    media_head,
    reason_of,
)
from fclip.captions.refine.joins import Kept, assemble, word

REVISION = "3"  # raise it with every change that may change a refined caption
MOST_CHARACTERS = 20_000  # of one caption; more is cut off
SPEECH = frozenset({"speaking", "talking", "speak", "talk", "breathing", "breathe", "singing", "chewing", "inhaling"})
INTERPRETING = frozenset({"interpret", "weak_interpret", "compare_start"})
_WORDS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Refined:
    """A cleaned caption and what was cut from it: (text, reason) pairs in order."""

    text: str
    removed: list[tuple[str, str]] = field(default_factory=list)


class Refiner:
    """Cleans captions for one set of labels. Options as Lexicon's; `fingerprint` holds all that shapes the result."""

    def __init__(self, labels: Iterable[str] = (), lexicon_dir: Path | None = None, wordnet: bool = False) -> None:
        self.lexicon = Lexicon(labels, lexicon_dir, wordnet)
        self.fingerprint = {"refiner": REVISION, "lexicon": self.lexicon.sha256}

    def refine(self, text: str) -> Refined:
        """Clean one caption; the text may come out empty. The result, refined again, stays as it is."""
        removed: Removed = []
        sentences = [self._sentence(sentence, removed) for sentence in split_sentences(text[:MOST_CHARACTERS])]
        kept = []
        for sentence in sentences:
            if sentence and self.leftover_labels(sentence):
                removed.append((sentence, "label"))
            elif sentence:
                kept.append(sentence)
        return Refined(" ".join(kept), removed)

    def leftover_labels(self, text: str) -> list[str]:
        """Words by which the counterfactual versions of a text differ: those that still name a label."""
        return [found for found in _WORDS.findall(text) if self.lexicon.label_of(found.lower()) is not None]

    def counterfactual(self, text: str, label: str) -> str:
        """The text with every word that names a label replaced by `label`; all versions agree when none is left."""
        return _WORDS.sub(lambda m: m[0] if self.lexicon.label_of(m[0].lower()) is None else label, text)

    def _sentence(self, sentence: str, removed: Removed) -> str:
        """What is left of a sentence; cuts are appended to `removed`."""
        tokens = tokenize(sentence, self.lexicon)
        tags = frozenset().union(*(token.tags for token in tokens)) if tokens else frozenset()
        plain = not tags & (CUT | INTERPRETING | {"boilerplate", "hedge"})
        cuts: Removed = []
        text = sentence
        if not plain or may_hedge(tokens) or media_head(tokens):
            text = self._cut(tokens, cuts)
        if not cuts and tags & (KEEP | {"face_general"}):
            return sentence
        if not text or not cuts:
            cuts, text = [(sentence, _main_reason(cuts) if cuts else "off topic")], ""
        removed += cuts
        return text

    def _cut(self, tokens: list[Token], cuts: Removed) -> str:
        """What is left of a sentence that holds something to cut; empty when that is nothing to keep."""
        mark = ""
        while tokens and tokens[-1].text in ".!?…":
            mark, tokens = tokens[-1].text, tokens[:-1]
        text = self._mend(cut_phrases(cut_boilerplate(tokens, cuts), cuts), cuts)
        if not text or any(reason_of(token) for token in tokenize(text, self.lexicon)):
            return ""
        return text + (mark or ".")

    def _mend(self, tokens: list[Token], cuts: Removed) -> str:
        """Cut the clauses that must go and join the others."""
        clauses: list[Kept] = []
        reason = ""
        for index, clause in enumerate(split_clauses(tokens)):
            previous = reason
            clause, reason = _judge(clause, previous, cuts)
            before = clauses[-1].clause.body[-1:] if clauses else []
            if reason and clause.kind == "compare" and before and before[0].lower in word_class("copulas"):
                clauses[-1] = replace(clauses[-1], stays=False)  # she looks (like she is about to cry)
                cuts.append((join_tokens(clauses[-1].clause.body), reason))
            if reason and clause.body:
                cuts.append((join_tokens(clause.lead + clause.body).lstrip(",; "), reason))
            clauses.append(Kept(clause, index, stays=not reason))
        return assemble(clauses)


def _judge(clause: Clause, previous: str, cuts: Removed) -> tuple[Clause, str]:
    """The clause, mended where that saves it, and why it must go ("" where it stays).

    previous: the reason for which the clause in front of it went, or "". What mending cuts is added to `cuts`.
    """
    body = clause.body
    flagged = next((reason for reason in map(reason_of, body) if reason), "")
    verb = verb_index(body)
    opener = body[verb] if verb is not None else None
    interprets = opener is not None and bool(opener.tags & {"interpret", "weak_interpret"})
    if clause.kind in ("main", "subordinate") and interprets and verb is not None:
        told = _is_told(body[verb:]) and not flagged and "weak_interpret" in body[verb].tags
        subject = subject_of(body)
        if told:
            return clause, ""
        if any(t.tags & {"action", "state"} for t in subject) and not any(map(reason_of, subject)):
            cuts.append((join_tokens(body[verb:]), flagged or "interpretation"))
            plural = is_plural(subject)
            return Clause(clause.lead, [*subject, word("are" if plural else "is"), word("visible")], "main"), ""
        return clause, flagged or "interpretation"
    if flagged:
        return clause, flagged
    if previous and clause.kind == "predicate" and any(token.lower == "or" for token in clause.lead):
        return clause, previous  # as if to speak or gasp
    if clause.kind == "compare" or _interprets(clause):
        return clause, "interpretation"
    if is_dangling(body) and clause.kind != "fragment":
        return clause, previous or "fragment"
    emptied = len(body) > 1 and CUT_AFTER in body[-1].tags and body[-1].lower in word_class("containers")
    if emptied and body[-2].lower in word_class("determiners"):  # there is a look
        return clause, previous or "fragment"
    stops = any(CUT_AFTER in token.tags for token in [*clause.lead, *body])
    if stops and not any(token.tags & KEEP for token in body) and (clause.lead or clause.kind != "fragment"):
        return clause, previous or "fragment"
    joined = {token.lower for token in clause.lead} & word_class("subordinators|prepositional_subordinators")
    if joined and not any(token.tags & KEEP for token in body):
        return clause, "off topic"
    if previous and clause.kind == "with" and clause.lead[0].is_word and not any(t.tags & KEEP for t in body):
        return clause, previous  # unhappy with what he hears
    if previous and clause.kind == "fragment" and clause.lead:
        return clause, previous
    if clause.kind in ("main", "predicate") and not any(token.tags & KEEP for token in body):
        return clause, "off topic"
    return clause, ""


def _interprets(clause: Clause) -> bool:
    """Whether a participle, relative clause or predicate says what a movement means and nothing of what is seen."""
    if clause.kind not in ("participle", "relative", "predicate"):
        return False
    position = next((i for i, t in enumerate(clause.body[:4]) if t.tags & {"interpret", "weak_interpret"}), None)
    if position is None:
        return False
    rest = clause.body[position + 1 :]
    if "weak_interpret" in clause.body[position].tags:
        return not _is_told(rest)
    return not any(token.lower in SPEECH for token in rest)


def _is_told(tokens: Sequence[Token]) -> bool:
    return any(token.tags & {"face", "state"} or token.lower in word_class("movement_nouns") for token in tokens)


def _main_reason(cuts: Removed) -> str:
    """The reason to give for a whole sentence: the first of its cuts' reasons that is not a matter of form."""
    return next((reason for _, reason in cuts if reason not in ("fragment", "boilerplate", "hedge")), cuts[0][1])


@lru_cache(maxsize=8)
def _refiner(labels: tuple[str, ...]) -> Refiner:
    return Refiner(labels)


def refine_text(text: str, labels: Iterable[str] = ()) -> Refined:
    """Clean one caption with the bundled lexicon; `labels` are the class names of the data set."""
    return _refiner(tuple(labels)).refine(text)
