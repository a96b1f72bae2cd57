"""Word lists of the caption tools: which words name emotions, parts of the face, scenery and so on.

The lists are text files in fclip/resources/captions/lexicon, one per category: a term per line, `#` for comments,
`[name]` for the expression that the following terms give away. Inflections are found by stemming (Porter); a term
after `=` is matched as it stands. A folder of a user's own, with files of the same names, adds to them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from fclip.errors import FclipError
from fclip.files import resource_text

CATEGORIES = (
    "emotion",
    "scene",
    "clothing",
    "identity",
    "interpret",
    "weak_interpret",
    "compare",
    "hedge",
    "boilerplate",
    "face",
    "face_general",
    "action",
    "state",
    "verb",
)
KEEP = frozenset({"face", "action", "state"})  # what a caption is about
CUT = frozenset({"emotion", "label", "scene", "clothing", "identity"})  # what must not be left in it
VERB_FORMS = ("interpret", "weak_interpret")  # lists of verbs whose nouns (expression, show) are innocent
MOST_BYTES = 1_000_000  # of a user's lexicon file


@cache
def stem(word: str) -> str:
    """Porter's stem of a lower-case word."""
    return str(_stemmer().stem(word))


@cache
def _stemmer() -> Any:
    from nltk.stem import PorterStemmer  # here, for it takes a second to import

    return PorterStemmer()


class Lexicon:
    """Tags of words and phrases. labels: class names, which become terms of the category `label`.

    extra: a folder with files `<category>.txt` that add terms. wordnet: add the names of feelings that NLTK's
    WordNet gives as synonyms of the emotion words; needs that corpus to be installed by the user.
    """

    def __init__(self, labels: Iterable[str] = (), extra: Path | None = None, wordnet: bool = False) -> None:
        self.labels = tuple(labels)
        self.sections: dict[str, set[str]] = defaultdict(set)  # expression -> stems and exact forms that give it away
        self._exact: dict[str, set[str]] = defaultdict(set)
        self._stems: dict[str, set[str]] = defaultdict(set)
        self.phrase_starts: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        self._cache: dict[str, frozenset[str]] = {}
        self._named: dict[str, str | None] = {}
        texts = {name: resource_text(f"captions/lexicon/{name}.txt") for name in CATEGORIES}
        if extra is not None:
            for name, text in _read_folder(extra).items():
                texts[name] += "\n" + text
        for name, text in texts.items():
            self._add(name, text)
        for label in self.labels:
            self._add_term("label", label.lower(), label.lower())
        if wordnet:
            for word in wordnet_feelings(tuple(sorted(self._exact))):
                self._add_term("emotion", word, "other")
        content = repr((sorted(texts.items()), self.labels, wordnet))
        self.sha256 = hashlib.sha256(content.encode()).hexdigest()

    def _add(self, category: str, text: str) -> None:
        section = "other"
        for line in text.splitlines():
            term = line.partition("#")[0].strip().lower()
            if term.startswith("["):
                section = term.strip("[]")
            elif term:
                self._add_term(category, term, section)

    def _add_term(self, category: str, term: str, section: str) -> None:
        words = term.lstrip("=").split()
        if len(words) > 1:
            self.phrase_starts[words[0]].append((tuple(words), category))
            self.phrase_starts[words[0]].sort(key=lambda pair: -len(pair[0]))
        elif category in VERB_FORMS:
            for form in inflections(words[0]):
                self._exact[form].add(category)
        else:
            self._exact[words[0]].add(category)
            if not term.startswith("=") and category != "state":
                self._stems[stem(words[0])].add(category)
        if category in ("emotion", "label") and section != "other":
            self.sections[section].add(term.lstrip("=") if " " in term or term.startswith("=") else stem(words[0]))

    def tags(self, word: str) -> frozenset[str]:
        """Categories of a lower-case word; of a compound (fear-stricken) those of its parts as well."""
        known = self._cache.get(word)
        if known is None:
            exact, inflected = self._exact.get(word, set()), self._stems.get(stem(word), set())
            if exact & KEEP or inflected & KEEP:
                inflected = inflected - CUT  # `lowering` is a movement whatever else shares its stem
            parts = [part for part in word.split("-") if part != word]
            known = frozenset(exact | inflected | {tag for part in parts for tag in self.tags(part) & CUT})
            if not known & KEEP and any(root in word for root in self._label_roots):
                known |= {"label"}
            self._cache[word] = known
        return known

    def phrase(self, words: list[str], start: int) -> tuple[int, str]:
        """Length and category of the longest listed phrase that begins at `start`; (0, "") if there is none."""
        for terms, category in self.phrase_starts.get(words[start], ()):
            if tuple(words[start : start + len(terms)]) == terms:
                return len(terms), category
        return 0, ""

    @cached_property
    def _label_stems(self) -> dict[str, str]:
        """Stem -> label, for the labels and the words that give one of them away."""
        stems = {term: label for label in self.labels for term in sorted(self.sections.get(label.lower(), ()))}
        return stems | {stem(label.lower()): label for label in self.labels}

    @cached_property
    def _label_roots(self) -> dict[str, str]:
        """Stems of the labels themselves, looked for inside longer words (unsurprised)."""
        return {stem(label.lower()): label for label in self.labels if len(stem(label.lower())) >= 4}

    def label_of(self, word: str) -> str | None:
        """The label that a lower-case word names, by its stem or by a label inside it; None for all other words."""
        if word not in self._named:
            tags = self.tags(word)
            label = self._label_stems.get(word) or self._label_stems.get(stem(word)) if tags & CUT else None
            inside = next((name for root, name in self._label_roots.items() if root in word), None)
            self._named[word] = None if tags & KEEP else label or inside
        return self._named[word]


def inflections(verb: str) -> set[str]:
    """Forms of a regular verb: convey -> convey, conveys, conveyed, conveying."""
    if verb.endswith("e"):
        base, past, running = verb, verb + "d", verb[:-1] + "ing"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        base, past, running = verb[:-1] + "ie", verb[:-1] + "ied", verb + "ing"
    else:
        base, past, running = verb, verb + "ed", verb + "ing"
    third = base + ("es" if base.endswith(("s", "x", "ch", "sh")) else "s")
    doubled = {verb + verb[-1] + ending for ending in ("ed", "ing")} if verb[-1] in "lt" else set()
    irregular = {"show": {"shown"}, "give": {"gave", "given"}}.get(verb, set())
    return {verb, third, past, running} | doubled | irregular


def wordnet_feelings(words: tuple[str, ...]) -> tuple[str, ...]:
    """Single-word synonyms of `words` among WordNet's names of feelings; raises FclipError without the corpus."""
    try:
        from nltk.corpus import wordnet

        found = {
            lemma.name().lower()
            for word in words
            for synset in wordnet.synsets(word)
            if synset.lexname() in ("noun.feeling", "verb.emotion")
            for lemma in synset.lemmas()
        }
    except (LookupError, OSError) as error:
        raise FclipError("WordNet is not installed: run python -m nltk.downloader wordnet") from error
    return tuple(sorted(word for word in found if word.isalpha()))


def _read_folder(folder: Path) -> dict[str, str]:
    """Text of each category's file in a user's folder."""
    if not folder.is_dir():
        raise FclipError(f"{folder}: no such lexicon folder")
    texts = {}
    for path in sorted(folder.glob("*.txt")):
        if path.stem not in CATEGORIES:
            raise FclipError(f"{path}: unknown lexicon category; there are: {', '.join(CATEGORIES)}")
        if path.stat().st_size > MOST_BYTES:
            raise FclipError(f"{path}: over {MOST_BYTES:,} bytes; split the lexicon or shorten it")
        try:
            texts[path.stem] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise FclipError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    return texts
