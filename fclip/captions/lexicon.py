"""Word lists of the caption tools: which words name emotions, parts of the face, scenery and so on.

The lists are text files in fclip/resources/captions/lexicon, one per category: a term (word or phrase) per line, `#`
for comments. Inflections are found by stemming (Porter); a term after `=` is matched as it stands. A folder of a
user's own, with files of the same names, adds to them.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fclip.errors import FclipError
from fclip.files import resource_text

CUT = ("label", "emotion", "expression", "meta", "camera", "scene", "clothing", "identity")  # the first counts
CATEGORIES = (
    *CUT[1:],
    *("interpret", "weak_interpret", "compare", "boilerplate"),
    *("face", "face_general", "action", "motion", "state", "verb"),
)
KEEP = frozenset({"face", "action", "motion", "state"})  # what a caption is about
MOST_BYTES = 1_000_000  # of a user's lexicon file
LONG = 7  # letters of a word from which one with other double letters counts as a misspelling of it
_DOUBLE = re.compile(r"(.)\1+")


@cache
def stem(word: str) -> str:
    """Porter's stem of a lower-case word."""
    return str(_stemmer().stem(word))


@cache
def _stemmer() -> Any:
    from nltk.stem import PorterStemmer  # here, for it takes a second to import

    return PorterStemmer()


class Lexicon:
    """Categories of words and phrases. labels: class names, which become terms of the category `label`.

    extra: a folder with files `<category>.txt` that add terms. wordnet: add the names of feelings that NLTK's
    WordNet gives as synonyms of the emotion words; needs that corpus to be installed by the user. expressions: whether
    words for a whole expression (smile, frown) must go as well. `cut` holds the categories that must go.
    """

    def __init__(
        self,
        labels: Iterable[str] = (),
        extra: Path | None = None,
        wordnet: bool = False,
        expressions: bool = False,
    ) -> None:
        self.cut = tuple(name for name in CUT if name != "expression" or expressions)
        texts = {name: resource_text(f"captions/lexicon/{name}.txt") for name in CATEGORIES}
        texts["label"] = "\n".join(label.lower() for label in labels)
        for name, text in _read_folder(extra).items() if extra is not None else ():
            texts[name] += "\n" + text
        self._exact: dict[str, set[str]] = defaultdict(set)
        self._stems: dict[str, set[str]] = defaultdict(set)
        self._phrases: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        self._cache: dict[str, frozenset[str]] = {}
        for name, text in texts.items():
            for line in text.splitlines():
                self._add(name, line.partition("#")[0].strip().lower())
        for word in wordnet_feelings(tuple(sorted(self._exact))) if wordnet else ():
            self._add("emotion", word)
        for phrases in self._phrases.values():
            phrases.sort(key=lambda pair: -len(pair[0]))
        self._roots = {root for word in texts["label"].split() for root in (word, stem(word)) if len(root) >= 4}
        feelings = (word for word, found in self._exact.items() if found & {"label", "emotion"} and len(word) >= LONG)
        self._single = {_DOUBLE.sub(r"\1", word) for word in feelings}
        self.sha256 = hashlib.sha256(repr((sorted(texts.items()), wordnet, self.cut)).encode()).hexdigest()

    def _add(self, category: str, term: str) -> None:
        words = term.lstrip("=").split()
        if len(words) > 1:
            self._phrases[words[0]].append((tuple(words), category))
        elif words:
            self._exact[words[0]].add(category)
            if not term.startswith("=") and category != "state":
                self._stems[stem(words[0])].add(category)

    def tags(self, word: str) -> frozenset[str]:
        """Categories of a lower-case word; of a compound (fear-stricken) what condemns its parts as well.

        A word of the face or of movement is innocent of what it only shares a stem with. A label inside a longer word
        (unsurprised) and an emotion with other double letters (terified) are found.
        """
        known = self._cache.get(word)
        if known is None:
            exact, inflected = self._exact.get(word, set()), self._stems.get(stem(word), set())
            if (exact | inflected) & KEEP:
                inflected = inflected.difference(CUT) | inflected & {"expression"}
            parts = [part for part in word.split("-") if part != word]
            found = exact | inflected | {tag for part in parts for tag in self.tags(part) if tag in CUT}
            if not found & KEEP and any(root in word for root in self._roots):
                found = found | {"label"}
            if not found and len(word) >= LONG and _DOUBLE.sub(r"\1", word) in self._single:
                found = {"emotion"}
            known = self._cache[word] = frozenset(found)
        return known

    def begins_phrase(self, word: str) -> bool:
        """Whether a listed phrase begins with a lower-case word."""
        return word in self._phrases

    def phrase(self, words: Sequence[str], start: int) -> tuple[int, str]:
        """Length and category of the longest listed phrase that begins at `start`; (0, "") if there is none."""
        for terms, category in self._phrases.get(words[start], ()):
            if tuple(words[start : start + len(terms)]) == terms:
                return len(terms), category
        return 0, ""


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
