"""Answers of language models made into captions: white space, unfinished ends, and a check for nonsense."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from functools import cache

from fclip.captions.lexicon import KEEP, Lexicon

MOST_CHARACTERS = 20_000  # of an answer
log = logging.getLogger(__name__)
_REASONING = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*(?=\s|$)")
_WORDS = re.compile(r"[^\W\d_]+")


def tidy(answer: str, unfinished: bool = False) -> str:
    """One line of text; a model's thinking is left out, and the last sentence too where the answer was cut short.

    unfinished: the answer ended because it ran out of tokens. A single unfinished sentence is kept.
    """
    text = " ".join(_REASONING.sub("", answer[:MOST_CHARACTERS]).split()).strip("\"'“” ")
    if unfinished:
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        if ends:
            text = text[: ends[-1]]
    return text


def nonsense(text: str) -> str:
    """Why a caption looks like the output of a broken model, or "" where it does not.

    Known causes: a wrong data type, damaged weights, a wrong prompt format (reported for Video-LLaVA in float16).
    """
    words = [word.lower() for word in _WORDS.findall(text)]
    if not words:
        return "it is empty"
    most, times = Counter(words).most_common(1)[0]
    if len(words) >= 6 and times > 0.5 * len(words):
        return f"it repeats {most!r}"
    if not any(_plain_lexicon().tags(word) & (KEEP | {"face_general"}) for word in words):
        return "it names no part of the face and no movement"
    return ""


class FirstCaptionCheck:
    """Looks at the first caption of a run, from whatever thread, and warns once when it makes no sense."""

    def __init__(self, model: str) -> None:
        self._model, self._lock, self._done = model, threading.Lock(), False

    def __call__(self, text: str) -> None:
        """Be told of a caption, which may be empty."""
        with self._lock:
            first, self._done = not self._done, True
        if first and (problem := nonsense(text)):
            log.warning(
                "the first caption of %s makes no sense (%s): %.80r; check the model, weights, --dtype and versions",
                self._model,
                problem,
                text,
            )


@cache
def _plain_lexicon() -> Lexicon:
    return Lexicon()
