"""Sentences as words with grammar letters: what clauses.py cuts apart and judge.py keeps or drops.

resources/captions/grammar.json gives each closed class of words a letter; open classes get theirs from the lexicon and
the ending. A capital letter marks a word that must not be left.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from fclip.captions.lexicon import Lexicon
from fclip.files import resource_json

MARKS = frozenset(",;:()-")
VERBS = {"action", "motion", "verb", "interpret", "weak_interpret"}
NOUN_ENDINGS = ("ion", "ions", "ment", "ness", "ance", "ence")
_TOKENS = re.compile(
    r"(\s*)((?i:it|he|she|there|here|who|that|what)(?=['’]s\b)|['’]s\b|[^\W_]+(?:['’.:-][^\W_]+)*['’]?|\S)"
)
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|approx|mr|mrs|ms|dr|st|fig|no)\.$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<![.!?…])([.!?…]+[\"'”’)]*)(?=\s|$|[A-Z][a-z])|\n+")
_TIDYING = (
    (re.compile(r"^\s*(?:[-*•#>]+|\(?\d+[.)])\s+|\*\*|__|`", re.MULTILINE), " "),
    (re.compile(r"[ \t\r\f\v]+"), " "),
    (re.compile(r" +(?=[,;:!?]|\.(?:\s|$))"), ""),
    (re.compile(r"([,;:])(?:\s*[,;:])+"), r"\1"),
    (re.compile(r"(?<=[^\W\d_])([,;:])(?=[^\W\d_])"), r"\1 "),
)
_PLURAL = re.compile(r"[qy][oip][dujnaek]*[fn]$|[fqa]c[dujne]*f$")  # the corners of the mouth, his brow and lip


class Entry(NamedTuple):
    """What is known of a word by itself. letter: 0 and 1 for a verb form (open, opens) that may be something else.
    opens: whether a listed phrase may begin with it.
    """

    lower: str
    letter: str
    reason: str
    tags: frozenset[str]
    opens: bool


class Word(NamedTuple):
    """A word or mark of a sentence: white space in front of it, text, what it is looked up as, its letter (a capital
    where it must go), the reason why it must go, its categories in the lexicon, and the words of a phrase it begins.
    """

    space: str
    text: str
    lower: str
    letter: str
    reason: str
    tags: frozenset[str]
    length: int


@cache
def grammar() -> dict[str, Any]:
    """Content of grammar.json, word lists as sets and the letters turned round: word -> letter."""
    found: dict[str, Any] = dict(resource_json("captions/grammar.json"))
    letters = found["letters"].items()
    found["letters"] = {word: letter for letter, words in reversed(letters) for word in words.split()}
    for name in ("containers", "incomplete", "media"):
        found[name] = frozenset(found[name].split())
    return found


def tidy(text: str) -> str:
    """The text without Markdown and list numbers and with its blanks set right; words stay as they are."""
    for pattern, replacement in _TIDYING:
        text = pattern.sub(replacement, text)
    return text.strip()


def split_sentences(text: str) -> list[str]:
    """Sentences of a text; a full stop needs no blank behind it, and a line ends a sentence."""
    sentences, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        goes_on = len(match[1] or "") > 1 and text[end:].lstrip()[:1].islower()  # an ellipsis within a sentence
        if goes_on or match[1] and _ABBREVIATION.search(text, max(start, end - 8), end):
            continue
        sentences.append(text[start:end].strip())
        start = end
    return [sentence for sentence in [*sentences, text[start:].strip()] if sentence]


class Reader:
    """Reads sentences with one lexicon; remembers the words it has met."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._entries: dict[str, Entry] = {}

    def read(self, sentence: str) -> list[Word]:
        """The words of a sentence, with letters that fit their neighbours."""
        pairs = _TOKENS.findall(sentence)
        entries = [self._entries.get(text) or self._entry(text) for _, text in pairs]
        lengths, phrases = self._phrases(entries)
        letters, containers = "", grammar()["containers"]
        words: list[tuple[Any, ...]] = []
        add = words.append
        for index, ((space, text), entry) in enumerate(zip(pairs, entries, strict=True)):
            lower, letter, reason, tags, _ = entry
            if letter in "01":
                letter = _resolve(letters, letter, entries[index + 1].letter if index + 1 < len(entries) else ".", tags)
            if letter in "nfy" and lower in containers:
                letter = "k"
            letters += letter
            if index in phrases:
                tags = tags | {phrases[index]}
                reason = self._reason(tags)
            if not reason and letter in "vgeb" and "interpret" in tags and "weak_interpret" not in tags:
                reason = "interpretation"
            add((space, text, lower, letter.upper() if reason else letter, reason, tags, lengths[index]))
        return list(map(Word._make, words))

    def _entry(self, text: str) -> Entry:
        lower = text.lower().replace("’", "'")
        if lower in ("—", "–"):
            lower = "-"
        elif lower != "'s":
            lower = lower.removesuffix("'s").rstrip("'") or lower
        tags = self._lexicon.tags(lower)
        opens = self._lexicon.begins_phrase(lower) or bool(tags & {"compare", "boilerplate"})
        entry = self._entries[text] = Entry(lower, _letter(lower, tags), self._reason(tags), tags, opens)
        return entry

    def _reason(self, tags: frozenset[str]) -> str:
        return next((name for name in self._lexicon.cut if name in tags), "")

    def _phrases(self, entries: list[Entry]) -> tuple[list[int], dict[int, str]]:
        """Length of the comparison or boilerplate that begins at each word (0: none), and categories by phrases."""
        lengths, found = [0] * len(entries), {}
        for start in [index for index, entry in enumerate(entries) if entry.opens]:
            length, category = self._lexicon.phrase([entry.lower for entry in entries[start : start + 12]], 0)
            if category in ("compare", "boilerplate"):
                lengths[start] = length
                found[start] = category
            elif length:
                found |= dict.fromkeys(range(start, start + length), category)
            elif entries[start].tags & {"compare", "boilerplate"}:
                lengths[start] = 1
        return lengths, found


def _letter(lower: str, tags: frozenset[str]) -> str:
    """Letter of a word by itself."""
    if not lower[0].isalnum() and lower != "'s":
        return lower if lower in MARKS else "."
    if letter := grammar()["letters"].get(lower):
        return str(letter)
    if tags & VERBS and not lower.endswith(NOUN_ENDINGS):
        if lower.endswith("ing"):
            return "g"
        if lower.endswith("ed"):
            return "e"
        return "1" if lower.endswith("s") and not lower.endswith("ss") else "0"
    if "face" in tags or "face_general" in tags:
        return "q" if lower.endswith("s") else "f"
    for ending, letter in (("ly", "r"), ("ing", "g"), ("ed", "e")):
        if lower.endswith(ending) and len(lower) > len(ending) + 2:
            return letter
    if "state" in tags:
        return "j"
    return "y" if lower.endswith("s") and not lower.endswith(("ss", "us", "is")) else "n"


def _resolve(before: str, letter: str, following: str, tags: frozenset[str]) -> str:
    """What a word like `open` or `smiles` is after the letters `before`: verb, infinitive, adjective or noun."""
    before = before.rstrip("rm")
    previous = before[-1:] or "^"
    if previous in MARKS or previous == ".":
        previous = ","
    found = str(grammar()["verbs_after"].get(previous, "nn")["01".index(letter)])
    if letter == "0" and previous in "fn" and _PLURAL.search(before):
        return "v"  # the corners of the mouth turn
    if (
        found == "v"
        and previous in "^c,u"
        and (letter == "0" and following in "fqnya" or previous == "^" and following in "1x")
    ):
        found = "n"  # open mouth, gaze shifts
    if found == "n" and tags & {"face", "action", "face_general"}:
        found = "f" if letter == "0" else "q"
    return found
