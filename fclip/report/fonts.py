"""Fonts for names in any script: which of the installed ones have the letters, and what to install if none has."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from fclip.files import resource_json

log = logging.getLogger(__name__)
USUAL = "DejaVu Sans"  # comes with Matplotlib


def fonts_for(texts: Iterable[str]) -> list[tuple[str, Path]]:
    """(family, file) of the fonts that letters of `texts` are drawn with, the usual one first, as few as will do.

    Letters that no font has are told, once, with what to install.
    """
    left = {ord(char) for text in texts for char in text if char.isprintable() and not char.isspace()}
    chosen = []
    for family, path in _fonts():
        if (found := left & _letters(path)) or family == USUAL:
            chosen.append((family, path))
            left -= found
        if not left:
            break
    if left:
        _tell_missing("".join(map(chr, sorted(left))))
    return chosen


@cache
def _fonts() -> list[tuple[str, Path]]:
    """The installed upright fonts of normal weight: the usual one, then families for other scripts, then the rest."""
    from matplotlib.font_manager import fontManager

    known = resource_json("fonts.json")
    order = {name: place for place, name in enumerate([USUAL, *known["families"]])}
    found: dict[str, Path] = {}
    for font in sorted(fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        plain = font.style == "normal" and str(font.weight) in ("normal", "regular", "book", "400")
        if plain and font.name not in known["never"]:
            found.setdefault(font.name, Path(font.fname))
    return sorted(found.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0]))


@cache
def _letters(path: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


@cache
def _tell_missing(letters: str) -> None:
    known = resource_json("fonts.json")
    scripts = {word for char in letters for word in unicodedata.name(char, "").split()[:1]}
    packages: Iterator[str] = (known["packages"].get(script, known["package"]) for script in sorted(scripts))
    wanted = " and ".join(dict.fromkeys(packages)) or known["package"]
    log.warning("figures: no font here has %s, which are drawn as boxes; install %s", letters[:20], wanted)
