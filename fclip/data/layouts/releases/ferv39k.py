"""FERV39k (Wang et al., CVPR 2022): one official split over 22 scenes, frames in `<Scene>/<Emotion>/<id>/`."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from fclip.data.layouts.base import Dataset, class_names, first_existing, published_facts
from fclip.data.layouts.labels import match_label
from fclip.data.layouts.releases.official import Entry, Lists, OfficialOptions, assemble, release_lists
from fclip.data.layouts.tables import read_lines
from fclip.errors import FclipError
from fclip.registry import register


@register(OfficialOptions)
def read_ferv39k(source: Path, options: OfficialOptions) -> Dataset:
    """Read `4_setups/All_scenes/{train,test}_All.csv` (blank-separated, no header) and the frames of `--view`.

    Each clip's scene goes along as `meta["scene"]`, for figures per scene.
    """
    classes = class_names("ferv39k")
    media, lists = release_lists("ferv39k", source, options, lambda: _official(source, classes), _clip_name)
    dataset = assemble("ferv39k", source, classes, lists, media, 3, "ferv39k/single")
    for clip in dataset.clips:
        clip.meta["scene"] = Path(clip.source).relative_to(media).parts[0]
    dataset.problems += _folder_contradictions(lists, classes)
    return dataset


def _official(source: Path, classes: tuple[str, ...]) -> Lists:
    folder = first_existing(source, published_facts("ferv39k")["splits"], "the release's split lists")
    return {"1": {side: _entries(folder / f"{side}_All.csv", classes) for side in ("train", "test")}}


def _entries(path: Path, classes: tuple[str, ...]) -> list[Entry]:
    """Lines `Action/Sad/0010 Sad`."""
    entries = []
    for line, text in read_lines(path):
        fields = text.split()
        where = f"{path}: line {line}"
        if len(fields) != 2:
            raise FclipError(f"{where}: expected `Scene/Emotion/id Emotion`, found {text.strip()[:60]!r}")
        entries.append(Entry(_clip_name(fields[0]), match_label(fields[1], classes, where)))
    return entries


def _clip_name(path: str) -> str:
    """The last three components: `<Scene>/<Emotion>/<id>`."""
    parts = PurePosixPath(path).parts
    if len(parts) < 3:
        raise FclipError(f"{path!r} in a FERV39k list is not <Scene>/<Emotion>/<id>")
    return "/".join(parts[-3:])


def _folder_contradictions(lists: Lists, classes: tuple[str, ...]) -> list[str]:
    """Clips whose label is not the emotion folder they lie in: a sign of a wrong class order."""
    wrong = []
    for sides in lists.values():
        for entry in (entry for members in sides.values() for entry in members):
            folder = entry.name.split("/")[1]
            if match_label(folder, classes, entry.name) != entry.label:
                wrong.append(f"{entry.name} is labelled {entry.label}")
    more = f" and {len(wrong) - 1} more; is --order right?" if len(wrong) > 1 else ""
    return [f"label and folder differ: {wrong[0]}{more}"] if wrong else []
