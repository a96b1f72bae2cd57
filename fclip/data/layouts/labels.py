"""What a label text means: the one place where labels are matched to classes, by case, usual spelling or number."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

from fclip.data.layouts.base import published_facts
from fclip.errors import FclipError
from fclip.records import check_class_names, fold_name

_CLOSE = 0.85  # difflib's ratio from which two names look like one misspelt
_SHOWN = 5


@cache
def spellings() -> dict[str, str]:
    """Known spellings of expression names, lower case -> canonical name (resources/datasets/spellings.json)."""
    return published_facts("spellings")


def match_label(text: str, classes: Sequence[str], where: str) -> str:
    """The class that a label text means: itself, another case, or a known spelling ("Happy" -> happiness)."""
    folded = fold_name(text)
    by_case = {fold_name(name): name for name in classes}
    name = by_case.get(folded) or by_case.get(fold_name(spellings().get(folded, "")))
    if name is None and folded in spellings():  # the class may have another spelling of it for a name
        name = next((n for case, n in by_case.items() if spellings().get(case) == spellings()[folded]), None)
    if name is None:
        close = difflib.get_close_matches(folded, by_case, n=1)
        hint = f"; did you mean {by_case[close[0]]}?" if close else ""
        raise FclipError(f"{where}: unknown class {text.strip()!r}; the classes are {', '.join(classes)}{hint}")
    return name


def merge_spellings(texts: Iterable[str]) -> dict[str, str]:
    """{label text: the name of its class} for labels without a list of classes.

    Texts that differ in case or Unicode form only, are known spellings of one expression ("Happy", "happy",
    "happiness"), or write one number ("1", "1.0") are one class. It keeps the one spelling that occurs; of several it
    is called by the canonical one, or the first.
    """
    groups: dict[str, list[str]] = {}
    for text in sorted(set(texts)):
        groups.setdefault(_meaning(text), []).append(text)
    names = {key: group[0].strip() if len(group) == 1 else _common_name(key, group) for key, group in groups.items()}
    return {text: names[key] for key, group in groups.items() for text in group}


def _meaning(text: str) -> str:
    folded, number = fold_name(text), as_number(text)
    return str(number) if number is not None else spellings().get(folded, folded)


def _common_name(key: str, group: Sequence[str]) -> str:
    return key if key in spellings().values() or as_number(key) is not None else group[0].strip()


def as_number(text: str) -> int | None:
    """The whole number that a label is, also when it is written as 3.0; else None."""
    found = re.fullmatch(r"\s*(\d{1,9})(?:\.0*)?\s*", text, re.ASCII)
    return int(found[1]) if found else None


@dataclass
class Labels:
    """Labels as class names: the `classes` in order, the class of each clip, and what is to be told about them."""

    classes: tuple[str, ...]
    of_clips: list[str]
    remarks: list[str] = field(default_factory=list)


def read_labels(texts: Sequence[str], given: Sequence[str], where: Callable[[int], str]) -> Labels:
    """The labels of a user's clips. The classes are `given`, in their order, or those that occur, sorted.

    With `given`, labels may also be numbers into it, from 0 or 1. `where(i)` says where the i-th label stands.
    Raises FclipError for a text that is no class, or names that cannot tell classes apart.
    """
    if given:
        check_class_names(given, "--classes")
        classes = tuple(name.strip() for name in given)
        meaning, told = _by_number(set(texts), classes, where(0))
        return Labels(classes, [meaning.get(t) or match_label(t, classes, where(i)) for i, t in enumerate(texts)], told)
    meaning = merge_spellings(texts)
    classes = tuple(sorted(set(meaning.values())))
    check_class_names(classes, "labels (correct them, or give --classes)")
    labels = [meaning[text] for text in texts]
    return Labels(classes, labels, [*merged_lines(meaning), *label_remarks(Counter(texts), meaning)])


def _by_number(texts: set[str], classes: tuple[str, ...], where: str) -> tuple[dict[str, str], list[str]]:
    """{text: class} and a line about it where all labels are numbers and the classes are names."""
    numbers = {text: number for text in texts if (number := as_number(text)) is not None}
    if len(numbers) < len(texts) or any(as_number(name) is not None for name in classes):
        return {}, []
    least, most = min(numbers.values()), max(numbers.values())
    first = 0 if least == 0 else 1
    if most - first != len(classes) - 1 and not (first == 0 and most < len(classes)):
        raise FclipError(
            f"{where}: labels are the numbers {least} to {most}, --classes are {len(classes)}: which is which is not "
            "clear; write names into the list"
        )
    meaning = {text: classes[number - first] for text, number in numbers.items()}
    pairs = ", ".join(f"{first + index} = {name}" for index, name in enumerate(classes))
    return meaning, [f"labels are numbers, read as {pairs}"]


def merged_lines(meaning: dict[str, str]) -> list[str]:
    """A line for each class that has several spellings."""
    groups: dict[str, list[str]] = {}
    for text, name in sorted(meaning.items()):
        if text.strip() not in groups.setdefault(name, []):
            groups[name].append(text.strip())
    return [
        f"read as one class: {', '.join(group)} -> {name} (--classes keeps them apart)"
        for name, group in groups.items()
        if len(group) > 1
    ]


def label_remarks(counts: Counter[str], meaning: dict[str, str]) -> list[str]:
    """Lines about what is probably meant otherwise: numbers as names, misspelt names, classes of one clip."""
    lines = []
    numbers = sorted({name for name in meaning.values() if re.fullmatch(r"[+-]?\d+([.,]\d*)?", name)})
    if numbers:
        lines.append(f"labels are numbers: class texts would read 'expression of {numbers[0]}': give --classes")
    lines += misspelt_lines(meaning)
    clips: Counter[str] = Counter()
    for text, count in counts.items():
        clips[meaning[text]] += count
    single = sorted(name for name, count in clips.items() if count == 1)
    if single:
        more = f" and {len(single) - _SHOWN} more" if len(single) > _SHOWN else ""
        lines.append(f"of one clip only: class {', '.join(single[:_SHOWN])}{more}")
    return lines


def misspelt_lines(meaning: dict[str, str]) -> list[str]:
    """A line for each class that looks like another one misspelt."""
    found = {text.strip(): _close(text.strip(), meaning) for text in sorted(meaning)}
    return [
        f"class {meaning.get(text, text)} looks like {close} misspelt; correct the labels if it is"
        for text, close in found.items()
        if close
    ]


def _close(text: str, meaning: dict[str, str]) -> str | None:
    """The class whose name, in one of its spellings, an unknown label text nearly is."""
    folded = text.casefold()
    if folded in spellings() or len(meaning) > 500:
        return None
    own = meaning.get(text, text)
    known = {name.casefold(): canonical for name, canonical in spellings().items()}
    others = {other.strip().casefold(): name for other, name in meaning.items() if name != own}
    present = {_meaning(other): name for other, name in others.items()}
    others |= {name: present[canonical] for name, canonical in known.items() if canonical in present}
    candidates = [o for o in others if re.sub(r"\d", "", o) != re.sub(r"\d", "", folded) and len(o) > 3]
    found = difflib.get_close_matches(folded, candidates, n=1, cutoff=_CLOSE)
    if not found or (found[0] not in spellings() and found[0] < folded):
        return None  # of two unknown names the one that comes first is told
    return others[found[0]]
