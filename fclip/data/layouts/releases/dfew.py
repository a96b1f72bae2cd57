"""DFEW (Jiang et al., MM 2020): five folds of single-labelled clips, labels 1 to 7, frames in `Clip/`."""

from __future__ import annotations

from pathlib import Path

from fclip.data.layouts.base import Dataset, class_names, first_existing, published_facts
from fclip.data.layouts.releases.official import Entry, Lists, OfficialOptions, assemble, clip_number, release_lists
from fclip.data.layouts.tables import read_table
from fclip.errors import FclipError
from fclip.registry import register

_FOLDS = "12345"


@register(OfficialOptions)
def read_dfew(source: Path, options: OfficialOptions) -> Dataset:
    """Read `EmoLabel_DataSplit/{train,test}(single-labeled)/set_k.csv` and the clips of `--view` or `--media`.

    `clip_224x224_16f` holds 16 frames a clip, interpolated in time: other results than the original frames.
    """
    media, lists = release_lists("dfew", source, options, lambda: _official(source))
    if media.name.endswith("_16f"):
        for entry in (entry for sides in lists.values() for members in sides.values() for entry in members):
            entry.meta["frames"] = 16
    return assemble("dfew", source, class_names("dfew"), lists, media, 1, "dfew/single")


def _official(source: Path) -> Lists:
    facts = published_facts("dfew")
    folder, labels = first_existing(source, facts["splits"], "the release's split lists"), facts["labels"]
    return {
        fold: {
            side: _entries(folder / f"{side}(single-labeled)" / f"set_{fold}.csv", labels) for side in ("train", "test")
        }
        for fold in _FOLDS
    }


def _entries(path: Path, labels: list[str]) -> list[Entry]:
    """Rows `video_name,label`: the name is a number to be padded to five digits, the label counts from 1."""
    entries = []
    for line, row in read_table(path, ("video_name", "label")):
        label = row["label"]
        if not label.isdecimal() or not 1 <= int(label) <= len(labels):
            raise FclipError(f"{path}: line {line}: label {label!r}; labels are 1 to {len(labels)} in DFEW's lists")
        entries.append(Entry(clip_number(row["video_name"]), labels[int(label) - 1]))
    return entries
