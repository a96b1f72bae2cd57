"""MAFW (Liu et al., MM 2022): five folds, 11 single or also compound classes, captions in Chinese and English."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fclip.config import option
from fclip.data.layouts.base import Dataset, class_names, first_existing, published_facts
from fclip.data.layouts.labels import match_label
from fclip.data.layouts.releases.official import Entry, Lists, OfficialOptions, assemble, clip_number, release_lists
from fclip.data.layouts.tables import read_lines
from fclip.errors import FclipError
from fclip.registry import register

_FOLDS = "12345"
_ENCODING = "gb18030"  # of the caption lists; plain ASCII is the same in it


@dataclass(frozen=True)
class MafwOptions(OfficialOptions):
    """Options of MAFW."""

    subset: Literal["single", "compound"] = option("single", "single or compound labels", output=True)
    human_captions: bool = option(False, "the lists with captions (drops most neutral clips)", output=True)


@register(MafwOptions)
def read_mafw(source: Path, options: MafwOptions) -> Dataset:
    """Read `Train & Test Set/{single,compound}/{no_caption,with_caption}/set_k/{train,test}.txt` and the clips.

    Clips come from the `no_caption` lists, with the captions that the `with_caption` lists hold for them;
    `--human-captions` takes only the clips of the `with_caption` lists, which lack most neutral ones.
    """
    media, lists = release_lists("mafw", source, options, lambda: _official(source, options))
    labels = (entry.label for sides in lists.values() for members in sides.values() for entry in members)
    classes = class_names("mafw") if options.subset == "single" else _compound_classes(labels)
    table = options.subset + ("-captions" if options.human_captions else "")
    return assemble("mafw", source, classes, lists, media, 1, f"mafw/{table}")


def _official(source: Path, options: MafwOptions) -> Lists:
    folder = first_existing(source, published_facts("mafw")["splits"], "the release's split lists") / options.subset
    with_caption = folder / "with_caption"
    captioned = _read_folds(with_caption) if options.human_captions or with_caption.is_dir() else {}
    if options.human_captions:
        return captioned
    known = {entry.name: entry for sides in captioned.values() for members in sides.values() for entry in members}
    lists = _read_folds(folder / "no_caption")
    return {
        fold: {
            side: [_with_caption(entry, known.get(entry.name)) for entry in members] for side, members in sides.items()
        }
        for fold, sides in lists.items()
    }


def _with_caption(entry: Entry, captioned: Entry | None) -> Entry:
    if captioned is None:
        return entry
    return Entry(entry.name, entry.label, captioned.caption, captioned.meta)


def _read_folds(folder: Path) -> Lists:
    return {
        fold: {side: _entries(folder / f"set_{fold}" / f"{side}.txt") for side in ("train", "test")} for fold in _FOLDS
    }


def _entries(path: Path) -> list[Entry]:
    """Lines `03747.mp4 anger`, or tab-separated `file, label, Chinese caption, English caption`."""
    entries = []
    for line, text in read_lines(path, _ENCODING):
        fields = [field.strip() for field in text.split("\t")] if "\t" in text else text.split()
        where = f"{path}: line {line}"
        if len(fields) < 2:
            raise FclipError(f"{where}: expected a file and a label, found {text.strip()[:60]!r}")
        fields += ["", ""]
        meta = {"caption_zh": fields[2]} if fields[2] else {}
        entries.append(Entry(clip_number(fields[0]), _label(fields[1], where), fields[3] or None, meta))
    return entries


def _label(text: str, where: str) -> str:
    """One class name, or several joined by `_` in canonical order (`disgust_anger` -> `anger_disgust`)."""
    singles = class_names("mafw")
    parts = {match_label(part, singles, where) for part in text.split("_")}
    return "_".join(sorted(parts))


def _compound_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """The single classes in their order, then the compound ones that occur, sorted."""
    return (*class_names("mafw"), *sorted({label for label in labels if "_" in label}))
