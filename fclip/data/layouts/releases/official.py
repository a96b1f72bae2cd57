"""What DFEW, FERV39k and MAFW share: split lists per fold, a folder of clips, third-party lists with class indices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from fclip.config import option
from fclip.data.layouts.base import (
    Dataset,
    Folds,
    find_media,
    first_existing,
    inside,
    published_facts,
)
from fclip.data.layouts.grouping import single_split
from fclip.data.layouts.tables import read_lines
from fclip.data.media.files import is_video
from fclip.errors import FclipError, UsageError
from fclip.records import Clip, make_key

TRAIN_ONLY = "train-only"


@dataclass(frozen=True)
class Entry:
    """One line of a split list: the clip's name in the release, its class name, and what else the line says."""

    name: str
    label: str
    caption: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


Lists = dict[str, dict[str, list[Entry]]]  # fold -> side -> entries, in file order


@dataclass(frozen=True)
class OfficialOptions:
    """Options of the data sets that come with split lists."""

    view: Literal["faces", "full"] = option("faces", "official face crops, or full frames", output=True)
    media: str | None = option(None, "variant of the media folder, e.g. clip_224x224_16f", output=True)
    splits: Path | None = option(None, "split lists of another code base, labelled by index", output=True)
    order: Literal["dferclip", "maedfer", "s2d"] | None = option(None, "class order of --splits", output=True)


def media_folder(source: Path, facts: dict[str, Any], options: OfficialOptions) -> Path:
    """The folder of clips for `--view` (faces or full), or the one that `--media` names below it or below source."""
    views: dict[str, list[str]] = facts["media"]
    if options.view not in views:
        raise UsageError(f"--view {options.view}: give one of {', '.join(views)}")
    if options.media is None:
        return first_existing(source, views[options.view], "this is where the release keeps its clips; see --media")
    beside = {str(Path(name).parent / options.media) for names in views.values() for name in names}
    return first_existing(source, [options.media, *sorted(beside)], "--media names a folder of clips")


def release_lists(
    name: str,
    source: Path,
    options: OfficialOptions,
    official: Callable[[], Lists],
    to_name: Callable[[str], str] | None = None,
) -> tuple[Path, Lists]:
    """The folder of clips that the options name, and the split lists: with `--order` those of another code base (see
    `indexed_lists`), else the release's own, as `official` reads them.
    """
    facts = published_facts(name)
    media = media_folder(source, facts, options)
    if options.order:
        return media, indexed_lists(name, options, source, facts, to_name or clip_number)
    return media, official()


def assemble(
    name: str, source: Path, classes: tuple[str, ...], lists: Lists, media: Path, depth: int, published: str
) -> Dataset:
    """Turn split lists into a data set: each clip once, its part the fold that tests it, or train / test.

    With one fold the parts are "train" and "test". With several, part k holds the test clips of fold k; clips that
    no fold tests go to TRAIN_ONLY. Contradictions between the lists are kept as problems for the validation.
    """
    found, doubles = clips_on_disk(media, depth)
    entries, problems = _merge(lists)
    parts, folds = _parts(lists, entries)
    clips = []
    for entry_name in sorted(entries):
        entry = entries[entry_name]
        inside(media, entry_name, f"the split lists of {name}")
        path = found.get(entry_name, media / entry_name)
        meta = {"path": path.relative_to(source).as_posix()} | entry.meta
        clips.append(Clip(make_key(entry_name), str(path), entry.label, parts[entry_name], entry.caption, meta))
    declared = {
        fold: {side: [make_key(entry.name) for entry in members] for side, members in sides.items()}
        for fold, sides in lists.items()
    }
    remarks = [f"comes twice: {double}" for double in doubles if double.split(" ")[0] in entries]
    return Dataset(name, source, classes, clips, folds, declared, media, depth, published, problems, remarks)


def clips_on_disk(media: Path, depth: int) -> tuple[dict[str, Path], list[str]]:
    """Clips below a media folder by their name in the release, and a line about each that is there twice.

    The name is the path at `depth` levels, without video suffix; clips that are numbered get five digits, as in the
    split lists.
    """
    found: dict[str, Path] = {}
    doubles = []
    for path in find_media(media, depth):
        relative = path.relative_to(media)
        name = (relative.with_suffix("") if is_video(path.name) else relative).as_posix()
        name = name.zfill(5) if name.isdecimal() else name
        if found.setdefault(name, path) is not path:
            doubles.append(f"{name} ({found[name].name}, which is taken, and {path.name})")
    return found, doubles


def _merge(lists: Lists) -> tuple[dict[str, Entry], list[str]]:
    """Each clip's first entry, and a line about the clips that other lists label otherwise."""
    entries: dict[str, Entry] = {}
    differ: dict[str, str] = {}
    for fold, sides in lists.items():
        for side, members in sides.items():
            for entry in members:
                known = entries.setdefault(entry.name, entry)
                if known.label != entry.label:
                    differ.setdefault(entry.name, f"{entry.label} in the {side} list of fold {fold}")
    if not differ:
        return entries, []
    name, place = next(iter(differ.items()))
    more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
    return entries, [f"label differs between lists: {name}, {entries[name].label} and {place}{more}"]


def _parts(lists: Lists, entries: dict[str, Entry]) -> tuple[dict[str, str], Folds]:
    if len(lists) == 1:
        (sides,) = lists.values()
        parts = {entry.name: side for side in ("train", "test") for entry in sides[side]}
        return parts, single_split(parts.values())
    parts = dict.fromkeys(entries, TRAIN_ONLY)
    for fold in reversed(lists):  # the first fold wins where two test the same clip
        parts.update({entry.name: f"part{fold}" for entry in lists[fold]["test"]})
    extra = [TRAIN_ONLY] if TRAIN_ONLY in parts.values() else []
    folds = {
        fold: {"train": [f"part{other}" for other in lists if other != fold] + extra, "test": [f"part{fold}"]}
        for fold in lists
    }
    return parts, folds


# --- lists of other code bases ------------------------------------------------------------------------------------


def clip_number(path: str) -> str:
    """The five-digit number of a DFEW or MAFW clip: `42`, `00042.mp4` or `/any/where/00042` -> `00042`."""
    stem = PurePosixPath(path.strip()).name.split(".")[0]
    if not stem.isdecimal():
        raise FclipError(f"{path.strip()!r} in a split list is no clip number; is the list of this data set?")
    return stem.zfill(5)


def indexed_lists(
    name: str,
    options: OfficialOptions,
    source: Path,
    facts: dict[str, Any],
    to_name: Callable[[str], str] = clip_number,
) -> Lists:
    """Read split lists that label clips by class index, in the class order that `--order` names.

    The folder `--splits` (default: the source) may hold DFER-CLIP's `*_set_k_{train,test}.txt` (path, frames,
    index), MAE-DFER's `split0k/{train,test}.csv` (path, index; blanks) or S2D's `{train,test}_set_k.csv` (path,
    index; comma). Of a folder with the lists of several data sets those with `name` in their path are read.
    `to_name` turns a path of the list into the clip's name in the release.
    """
    orders: dict[str, list[str]] = facts["orders"]
    if options.order not in orders:
        raise UsageError(f"--order {options.order}: give one of {', '.join(orders)}")
    folder = options.splits or source
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".txt", ".csv"))
    files = [path for path in files if name in path.relative_to(folder).as_posix().lower()] or files
    lists: Lists = {}
    for path in files:
        side, fold = _side_and_fold(path.relative_to(folder).as_posix())
        if not side:
            continue
        sides = lists.setdefault(fold, {"train": [], "test": []})
        if not (sides[side] and path.name.startswith("val")):  # "val" repeats "test" where there are both
            sides[side] += _indexed_entries(path, orders[options.order], to_name)
    if not lists or not all(sides["train"] and sides["test"] for sides in lists.values()):
        raise FclipError(f"{folder}: no pair of train and test lists (*.txt, *.csv) in it; see --splits")
    return {fold: lists[fold] for fold in sorted(lists)}


def _side_and_fold(name: str) -> tuple[str, str]:
    """Which side and fold a list is for, by its path: ("", "") if it is no list."""
    last = name.rsplit("/", 1)[-1].lower()
    side = "train" if "train" in last else "test" if "test" in last or last.startswith("val") else ""
    fold = re.search(r"(?:set_?|split_?0*|fold_?)(\d)", name.lower())
    return side, (fold.group(1) if fold else "1") if side else ""


def _indexed_entries(path: Path, order: list[str], to_name: Callable[[str], str]) -> Iterable[Entry]:
    for number, line in read_lines(path):
        fields = line.split(",") if "," in line else line.rsplit(maxsplit=2)
        fields = [text.strip() for text in fields]
        if len(fields) == 3 and not fields[1].isdecimal():  # a blank inside the path
            fields = [" ".join(fields[:2]), fields[2]]
        if number == 1 and not fields[-1].isdecimal():
            continue  # a header
        if len(fields) < 2 or not fields[-1].isdecimal():
            raise FclipError(f"{path}: line {number}: expected a path and a class index, found {line.strip()[:60]!r}")
        index = int(fields[-1])
        if index >= len(order):
            raise FclipError(f"{path}: line {number}: class index {index}, but indices are 0 to {len(order) - 1}")
        meta = {"frames": int(fields[1])} if len(fields) == 3 else {}
        yield Entry(to_name(fields[0]), order[index], meta=meta)
