"""Small cuts inside a clause: phrases of boilerplate and doubt, adverbs, adjectives and `in surprise` phrases.

Each function takes the tokens of a sentence and returns those that stay, and appends (text, reason) to `removed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fclip.captions.lexicon import CUT, KEEP
from fclip.captions.refine.clauses import PUNCTUATION, Token, is_plural, join_tokens, word_class

Removed = list[tuple[str, str]]
REASONS = ("label", "emotion", "scene", "clothing", "identity")  # the categories of CUT, the first that holds counts
CUT_AFTER = "cut_after"  # tag of the word in front of a cut
_FILLERS = frozenset({"boilerplate", "hedge"})
FARTHEST = 7  # words that a prepositional phrase may have in front of the word that condemns it


def reason_of(token: Token) -> str:
    """Why a flagged token is cut: the first category of CUT that it has, labels before others; else empty."""
    if token.tags.isdisjoint(CUT):
        return ""
    return next(category for category in REASONS if category in token.tags)


def cut_boilerplate(tokens: list[Token], removed: Removed) -> list[Token]:
    """Cut phrases such as `in the video` and `we can see that`, a head such as `The video shows`, words of doubt."""
    if not tokens:
        return tokens
    head = media_head(tokens)
    if head:
        removed.append((join_tokens(tokens[:head]), "boilerplate"))
        tokens = tokens[head:]
    if all(token.tags.isdisjoint(_FILLERS) for token in tokens):
        return mend_hedges(tokens, removed)
    kept: list[Token] = []
    index = 0
    while index < len(tokens):
        category = next((c for c in ("boilerplate", "hedge") if c in tokens[index].tags), "")
        end = index + 1
        while category and end < len(tokens) and category in tokens[end].tags:
            end += 1
        if not category or index and tokens[index - 1].lower in word_class("time_words"):  # late in the clip
            kept += tokens[index:end]
        else:
            removed.append((join_tokens(tokens[index:end]), category))
            if not kept and end < len(tokens) and tokens[end].text in PUNCTUATION:
                end += 1
        index = end
    return mend_hedges(kept, removed)


def media_head(tokens: Sequence[Token]) -> int:
    """Length of a head such as `The video shows`, 0 where there is none."""
    if len(tokens) < 4 or tokens[0].lower not in word_class("determiners"):
        return 0
    verb = next((i for i, token in enumerate(tokens[:6]) if token.lower in word_class("media_verbs")), 0)
    if not verb or not any(token.lower in word_class("media") for token in tokens[1:verb]):
        return 0
    return verb + (2 if tokens[verb + 1].lower in ("with", "on", "that") else 1)


def may_hedge(tokens: Sequence[Token]) -> bool:
    """Whether there is an `appears to` or `seems to`."""
    return any(
        one.lower in ("appear", "appears", "seem", "seems") and other.lower == "to"
        for one, other in zip(tokens, tokens[1:], strict=False)
    )


def mend_hedges(tokens: list[Token], removed: Removed) -> list[Token]:
    """Turn `appears to be open` and `seems to open` into `is open` and `opens`."""
    if not may_hedge(tokens):
        return tokens
    for index in range(1, len(tokens) - 2):
        verb = tokens[index]
        if verb.lower not in ("appear", "appears", "seem", "seems") or tokens[index + 1].lower != "to":
            continue
        plural, action = not verb.lower.endswith("s"), tokens[index + 2]
        if action.lower == "be":
            form = "are" if plural else "is"
        elif action.lower == "have":
            form = "have" if plural else "has"
        else:
            form = action.text if plural else third_person(action.text)
        removed.append((f"{verb.text} to", "hedge"))
        mended = Token(form, form, verb.space, action.tags | {"verb"})
        return mend_hedges([*tokens[:index], mended, *tokens[index + 3 :]], removed)
    return tokens


def third_person(verb: str) -> str:
    """open -> opens, press -> presses, cry -> cries."""
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "ch", "sh", "o")) else "s")


def cut_phrases(tokens: list[Token], removed: Removed) -> list[Token]:
    """Cut the adverbs, adjectives and prepositional phrases that hold a flagged word and nothing worth keeping."""
    index = 0
    while index < len(tokens):
        reason = reason_of(tokens[index])
        span = _adverb(tokens, index) or _adjective(tokens, index) or _prepositional(tokens, index) if reason else None
        if span is None:
            index += 1
            continue
        first, last = span
        removed.append((join_tokens(tokens[first:last]), reason))
        left = tokens[:first]
        if left:
            left[-1] = left[-1]._replace(tags=left[-1].tags | {CUT_AFTER})
        tokens = left + tokens[last:]
        index = max(first - 1, 0)
    return tokens


def _adverb(tokens: Sequence[Token], index: int) -> tuple[int, int] | None:
    """Span of a flagged adverb: `angrily`, `very sadly`, `sadly and slowly` less the first."""
    if not tokens[index].lower.endswith("ly") or tokens[index].lower in ("friendly", "lonely", "lively"):
        return None
    first, last = index, index + 1
    while first and tokens[first - 1].lower in word_class("intensifiers"):
        first -= 1
    return _with_coordinator(tokens, first, last, lambda token: token.lower.endswith("ly"))


def _adjective(tokens: Sequence[Token], index: int) -> tuple[int, int] | None:
    """Span of a flagged adjective in front of a noun worth keeping, or one of two adjectives after `is`."""
    first, last = index, index + 1
    while first and tokens[first - 1].lower in word_class("intensifiers"):
        first -= 1
    before = tokens[first - 1].lower if first else ""
    if before in word_class("copulas"):
        after = tokens[last : last + 2]
        if len(after) == 2 and after[0].lower == "and" and after[1].tags & {"state"} and not after[1].tags & CUT:
            return first, last + 1
        return None
    if before == "and" and first >= 2 and tokens[first - 2].tags & KEEP and not _noun_follows(tokens, last):
        ends = last == len(tokens) or tokens[last].text in PUNCTUATION or not tokens[last].tags
        return (first - 1, last) if ends and "state" in tokens[first - 2].tags else None
    if not _noun_follows(tokens, last):
        return None
    if before == "," and first >= 3 and tokens[first - 3].lower in word_class("determiners"):
        return first - 1, last  # a bright, cheerful smile
    return _with_coordinator(tokens, first, last, lambda token: bool(token.tags & (CUT | KEEP)))


def _noun_follows(tokens: Sequence[Token], start: int) -> bool:
    """Whether a noun worth keeping, or a person, follows with at most three adjectives between."""
    for index, token in enumerate(tokens[start : start + 4], start):
        if "face" in token.tags or token.lower in word_class("movement_nouns|persons"):
            return tokens[index - 1].text != ","  # in disbelief, mouth open
        adjective = token.tags & (CUT | {"state"}) or token.lower.endswith(("ly", "ed"))
        if not adjective and token.lower not in ("and", ","):
            return False
    return False


def _with_coordinator(
    tokens: Sequence[Token], first: int, last: int, alike: Callable[[Token], bool]
) -> tuple[int, int]:
    """Widen a span by the `and` or comma that joined it to a word of the same kind."""
    joints = ("and", "but", "or", "yet")
    if last + 1 < len(tokens) and tokens[last].lower in (*joints, ",") and alike(tokens[last + 1]):
        return first, last + 1
    if first >= 2 and tokens[first - 1].lower in joints and alike(tokens[first - 2]):
        return first - 1, last
    return first, last


def _prepositional(tokens: Sequence[Token], index: int) -> tuple[int, int] | None:
    """Span of a prepositional phrase around a flagged word: `in surprise`, `with a hint of sadness on her face`."""
    first = index
    preposition = None
    while first and index - first < FARTHEST:
        before = tokens[first - 1]
        if before.lower in word_class("prepositions"):
            preposition = first - 1
            if before.lower != "of" or first < 2 or not _measures(tokens[first - 2]):
                break
        elif _stops_phrase(before):
            break
        first -= 1
    if preposition is None:
        return None
    last = _phrase_end(tokens, index + 1)
    if not _ends_phrase(tokens, last) and not tokens[last].tags & {"verb", "action", "interpret"}:
        return None
    first = preposition
    if first and tokens[first].lower == "of" and tokens[first - 1].lower in ("out", "because", "front"):
        first -= 2 if tokens[first - 1].lower == "front" else 1
    while first and tokens[first - 1].lower in word_class("full_of"):
        first -= 1
    return first, last


def _stops_phrase(token: Token) -> bool:
    """Whether a word cannot stand between a preposition and the word that it governs."""
    if token.text in PUNCTUATION or token.lower in word_class("auxiliaries|personal_pronouns"):
        return True
    return bool(token.tags & {"face", "action"}) and not _is_plain_adjective(token)


def _measures(token: Token) -> bool:
    """Whether a word before `of` only measures: a hint of, a sense of, a look of; not a part of the face."""
    return not token.tags & {"face", "action", "state"} or token.lower in word_class("containers")


def _is_plain_adjective(token: Token) -> bool:
    return "state" in token.tags or token.lower.endswith("ed") or token.lower in word_class("containers")


def _ends_phrase(tokens: Sequence[Token], index: int) -> bool:
    """Whether the words in front of `index` may end there: with the sentence, a mark, or a word that begins anew."""
    if index >= len(tokens) or tokens[index].text in PUNCTUATION:
        return True
    openers = word_class("prepositions|coordinators|subordinators|prepositional_subordinators|relatives")
    return tokens[index].lower in openers


def _phrase_end(tokens: Sequence[Token], last: int) -> int:
    """End of a prepositional phrase: more flagged words, `look`, `on his face`."""
    while last < len(tokens):
        token, after = tokens[last], tokens[last + 1 : last + 4]
        if token.tags & CUT and not token.tags & {"verb"} or token.lower in word_class("containers"):
            last += 1
        elif token.lower in ("and", "or") and (more := _flagged_noun_phrase(tokens, last + 1)):
            last = more
        elif (
            token.lower in ("in", "on", "across", "within", "over")
            and len(after) >= 2
            and after[0].lower in word_class("determiners")
            and after[1].lower in word_class("bearers")
        ):
            last += 3
        else:
            break
    lists = last < len(tokens) and tokens[last].lower == "such"
    if not lists and not _ends_phrase(tokens, last) and not tokens[last].tags and _ends_phrase(tokens, last + 1):
        return last + 1  # the noun of a flagged adjective: to a neutral position
    return last


def _flagged_noun_phrase(tokens: Sequence[Token], start: int) -> int:
    """End of a phrase such as `a blue hoodie` or `confusion` at `start`, 0 where none is there."""
    for index, token in enumerate(tokens[start : start + 4], start):
        if token.tags & CUT:
            return 0 if "action" in token.tags else index + 1
        if token.tags or not token.is_word or token.lower in word_class("personal_pronouns|coordinators"):
            return 0
    return 0


def is_dangling(tokens: Sequence[Token]) -> bool:
    """Whether a clause ends in the air after cuts: with an article, a preposition, a linking verb, `filled`."""
    words = [token for token in tokens if token.is_word]
    if not words:
        return True
    last = words[-1].lower
    if last in word_class("adverbial_prepositions"):
        return False
    if last in word_class("linking_verbs"):
        return CUT_AFTER in words[-1].tags
    return last in word_class("determiners|prepositions|auxiliaries|intensifiers|full_of|coordinators")


def visible(subject: Sequence[Token]) -> str:
    """`is visible` or `are visible`."""
    return "are visible" if is_plural(subject) else "is visible"
