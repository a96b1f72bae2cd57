"""Sentences and clauses of a caption: tokens with tags, segmentation at clause boundaries, subjects and predicates.

No parser and no trained model: English captions are regular enough for closed word classes (resources/captions/
grammar.json) and the lexicon's verbs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from fclip.captions.lexicon import CUT, KEEP, Lexicon
from fclip.files import resource_json

_TOKENS = re.compile(
    r"(\s*)((?<=[a-z])['’]s\b|[\"“][^\W\d_]+[\"”]|(?i:there|it|s?he|who|what|here)(?=['’]s\b)"
    r"|[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+(?:[.,]\d+)*|[^\w\s]|_)"
)
_SENTENCES = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]*[A-Z0-9])|\s*\n+\s*")
_MARKUP = re.compile(r"\*\*[^*\n]{1,40}:\*\*|\*\*|__|`|^\s*(?:[-*•#]+|\d+[.)])\s+", re.MULTILINE)
_MENDING = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\s+(?=[,.;:!?])", ""),
        (r"\s+", " "),
        (r"([,;:])(?:\s*[,;:])+", r"\1"),
        (r"\b([Aa])n (?=[b-df-hj-np-tv-z])(?!hour|honest)", r"\1 "),
        (r"\b([Aa]) (?=[aeiou])(?!uni|one|use|eu)", r"\1n "),
    )
)
PUNCTUATION = frozenset(',;:—–-()"“”')


class Token(NamedTuple):
    """A word or punctuation mark, the white space in front of it and its categories in the lexicon."""

    text: str
    lower: str
    space: str
    tags: frozenset[str]

    @property
    def is_word(self) -> bool:
        """Whether it is a word and not a mark or number."""
        return self.text[0].isalpha()


@dataclass(frozen=True)
class Clause:
    """lead: commas and connecting words; body: the rest. kind: main (has subject and predicate), predicate (has no
    subject), participle, with, relative, subordinate, compare, or fragment (no predicate).
    """

    lead: list[Token]
    body: list[Token]
    kind: str


@cache
def word_class(name: str) -> frozenset[str]:
    """A word class of grammar.json, or several: `persons|pronouns`."""
    classes = resource_json("captions/grammar.json")
    return frozenset(word for part in name.split("|") for word in classes[part])


_BY = ("by", "in", "from")
_LISTING = ("including", "such", "as")


def split_sentences(text: str) -> list[str]:
    """Sentences of a text, Markdown marks and list numbers left out."""
    return [part.strip() for part in _SENTENCES.split(_MARKUP.sub("", text).strip()) if part and part.strip()]


def tokenize(sentence: str, lexicon: Lexicon) -> list[Token]:
    """Tokens of a sentence with the tags of their words and of the phrases they belong to."""
    pairs = _TOKENS.findall(sentence)
    lowers = [_lower(text) for _, text in pairs]
    tags = [lexicon.tags(lower) for lower in lowers]
    for start, lower in enumerate(lowers):
        length, category = lexicon.phrase(lowers, start) if lower in lexicon.phrase_starts else (0, "")
        for index in range(start, start + length):
            tags[index] = (tags[index] - KEEP if category == "emotion" else tags[index]) | {category}
        if length and category == "compare":
            tags[start] |= {"compare_start"}
    return [Token(text, lower, space, tag) for (space, text), lower, tag in zip(pairs, lowers, tags, strict=True)]


def _lower(text: str) -> str:
    """What a token is looked up as: there's -> there, 's -> is, "O" -> o."""
    lower = text.lower().replace("’", "'").strip('"“”') or text
    return "is" if lower == "'s" else lower.removesuffix("'s")


def join_tokens(tokens: Sequence[Token]) -> str:
    """Text of tokens, spaces mended and a/an made to fit after cuts."""
    spaces = [
        " " if before.is_word and token.is_word and not token.space else token.space
        for before, token in zip(tokens, tokens[1:], strict=False)
    ]
    text = "".join(space + token.text for space, token in zip(["", *spaces], tokens, strict=False))
    for pattern, replacement in _MENDING:
        text = pattern.sub(replacement, text)
    return text.strip()


def verb_index(tokens: Sequence[Token]) -> int | None:
    """Index of the first finite verb of a stretch of words, or None."""
    for index, token in enumerate(tokens):
        if token.lower in word_class("auxiliaries"):
            return index
        if not token.tags & {"verb", "action", "interpret", "weak_interpret"} or token.lower.endswith("ing"):
            continue
        if not _is_modifier(tokens, index):
            return index
    return None


def _is_modifier(tokens: Sequence[Token], index: int) -> bool:
    """Whether a word that may be a verb is an adjective or noun here: `his raised brows`, `a smile`, `open mouth`."""
    back = index - 1
    while back >= 0 and (
        tokens[back].lower.endswith("ly")
        or "state" in tokens[back].tags
        or tokens[back].lower.endswith(("ed", "ing"))
        or "emotion" in tokens[back].tags
    ):
        back -= 1
    before = tokens[back].lower if back >= 0 else ""
    if before in word_class("determiners|prepositions") and before != "to":
        return True
    if index and tokens[index - 1].text.lower().endswith(("'s", "’s")):
        return True
    token = tokens[index]
    after = next((t for t in tokens[index + 1 : index + 3] if t.lower not in word_class("positions")), None)
    if before and before in word_class("coordinators") or back < 0:
        return after is not None and "face" in after.tags and not token.lower.endswith("s")
    return token.lower.endswith("ed") and after is not None and "face" in after.tags


def is_predicate(tokens: Sequence[Token]) -> bool:
    """Whether a stretch begins with its verb (adverbs may stand in front)."""
    index = verb_index(tokens)
    return index is not None and all(_is_adverb(token) for token in tokens[:index])


def is_participle(tokens: Sequence[Token]) -> bool:
    """Whether a stretch begins with a verb in -ing."""
    rest = [token for token in tokens[:3] if not _is_adverb(token)]
    return bool(rest) and rest[0].lower.endswith("ing") and len(rest[0].lower) > 4


def _is_adverb(token: Token) -> bool:
    return token.lower.endswith("ly") or token.lower in {"also", "then", "now", "even", "not", "still", "just", "soon"}


def described_at(tokens: Sequence[Token]) -> list[int]:
    """Indices of the words that say how a part of the face is in `his eyes wide open and his lips pressed together`."""
    found, open_phrase = [], True
    for index, token in enumerate(tokens):
        if token.lower in ("and", ","):
            open_phrase = True
        elif open_phrase and index and "face" in tokens[index - 1].tags and _describes(token):
            found.append(index)
            open_phrase = False
    return found


def _describes(token: Token) -> bool:
    irregular = token.lower in word_class("irregular_participles")
    return "state" in token.tags or irregular or token.lower.endswith(("ed", "ing", "ly"))


def subject_of(tokens: Sequence[Token]) -> list[Token]:
    """The words in front of the verb; empty where there is no verb or too much in front of it."""
    index = verb_index(tokens)
    subject = list(tokens[: index or 0])
    while subject and _is_adverb(subject[-1]):
        subject.pop()
    return subject if len(subject) <= 12 else []


def is_plural(subject: Sequence[Token]) -> bool:
    """Whether a verb after this subject takes its plural form."""
    words = [token for token in subject if token.is_word]
    if not words or any(token.lower == "and" for token in words):
        return bool(words)
    for position, token in enumerate(words):  # the head stands in front of `of the face`
        if token.lower in word_class("prepositions") and position:
            words = words[:position]
            break
    last = words[-1].lower
    return last in word_class("plurals") or (last.endswith("s") and not last.endswith("ss") and last != "his")


def split_clauses(tokens: Sequence[Token]) -> list[Clause]:
    """Cut a sentence (without its final mark) at its clause boundaries; joining all clauses gives it back."""
    starts = [0]
    for index in range(1, len(tokens)):
        if _is_boundary(tokens, index, starts[-1]):
            starts.append(index)
    clauses = []
    for first, last in zip(starts, [*starts[1:], len(tokens)], strict=True):
        part = list(tokens[first:last])
        lead = _lead_length(part)
        clauses.append(Clause(part[:lead], part[lead:], _kind(part[:lead], part[lead:])))
    return clauses


def _is_boundary(tokens: Sequence[Token], index: int, start: int) -> bool:
    """Whether a clause begins at `index`; `start` is where the one before it began."""
    token, before = tokens[index], tokens[index - 1]
    if token.text in PUNCTUATION:
        return (token.text != "-" or bool(token.space)) and not _between_adjectives(tokens, index)
    if _listing_length(tokens, index):
        return before.text not in PUNCTUATION
    if before.text in PUNCTUATION or before.lower in word_class("coordinators|subordinators"):
        return False  # the boundary is in front of that word
    if "compare" in token.tags & before.tags or token.lower == "which" and before.lower == "of":
        return False  # all of which
    if token.lower in word_class("subordinators|relatives") or "compare_start" in token.tags:
        return True
    if token.lower.endswith("ing"):
        interprets = bool(token.tags & {"interpret", "weak_interpret"})
        attached = before.lower in word_class("auxiliaries|determiners")
        return interprets and not attached or before.lower in word_class("persons")
    if token.lower in ("with", "without"):
        return True
    if token.lower.endswith("s") and "action" in token.tags and before.tags & CUT:  # a smile that shows joy spreads
        opens = tokens[start].lower.endswith("ing")  # a man wearing a scarf turns
        return opens or any(t.lower in word_class("relatives") or t.lower == "that" for t in tokens[start:index])
    joins = token.lower in word_class("coordinators|prepositional_subordinators")
    if not joins and token.lower not in ("that", "to"):
        return False
    rest = _until_boundary(tokens, index + 1)
    if joins:
        verb = verb_index(rest)
        if token.lower in ("and", "or") and verb and verb_index(tokens[start:index]) is None:
            return False  # two nouns share the verb
        return verb is not None or is_participle(rest)
    if token.lower == "that":
        return is_predicate(rest) and not before.tags & {"interpret", "weak_interpret"}
    return token.lower == "to" and bool(rest) and "interpret" in rest[0].tags


def _between_adjectives(tokens: Sequence[Token], index: int) -> bool:
    """Whether the comma at `index` stands within a noun's adjectives: `a long, shuddering breath`."""
    if index < 2 or tokens[index].text != "," or tokens[index - 2].lower not in word_class("determiners"):
        return False
    adjective, after = tokens[index - 1], tokens[index + 1 : index + 3]
    if adjective.tags & {"face", "face_general"} or adjective.lower in word_class("persons|movement_nouns|bearers"):
        return False
    return len(after) == 2 and after[0].is_word and after[1].lower in word_class("movement_nouns")


def _listing_length(tokens: Sequence[Token], index: int) -> int:
    """Length of words that announce what is seen (`such as`, `as evidenced by`) at `index`; 0 where there are none."""
    if tokens[index].lower not in word_class("evidence") and tokens[index].lower not in _LISTING:
        return 0
    words = [token.lower for token in tokens[index : index + 3]]
    if words[0] == "including":
        return 1
    if words[:2] == ["such", "as"]:
        return 2
    start = 1 if words[0] == "as" else 0
    named = len(words) >= start + 2 and words[start] in word_class("evidence") and words[start + 1] in _BY
    return start + 2 if named else 0


def _until_boundary(tokens: Sequence[Token], start: int) -> Sequence[Token]:
    """The words from `start` to the next comma or coordinator."""
    for index in range(start, len(tokens)):
        if tokens[index].text in PUNCTUATION or tokens[index].lower in word_class("coordinators"):
            return tokens[start:index]
    return tokens[start:]


def _lead_length(part: Sequence[Token]) -> int:
    connecting = word_class("coordinators|subordinators|relatives|prepositional_subordinators|connectors")
    length = 0
    while length < len(part) and (
        part[length].text in PUNCTUATION
        or (
            part[length].lower in connecting
            and "compare_start" not in part[length].tags
            and not (part[length].lower == "that" and length == 0 and not is_predicate(part[1:]))
        )
    ):
        length += 1
    return length + _listing_length(part, length) if length < len(part) else length


def _kind(lead: Sequence[Token], body: Sequence[Token]) -> str:
    words = {token.lower for token in lead}
    if body and "compare_start" in body[0].tags:
        return "compare"
    if words & word_class("relatives") or "that" in words:
        return "relative"
    if words & {"with", "without", "including", "such"} or words & word_class("evidence"):
        return "with"
    if is_participle(body) or "to" in words:
        return "participle"
    if verb_index(body) is None:
        return "with" if lead and described_at(body) else "fragment"
    if is_predicate(body):
        return "predicate"
    return "subordinate" if words & word_class("subordinators|prepositional_subordinators") else "main"
