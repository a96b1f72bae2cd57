"""CAER and AFEW: `<split>/<Emotion>/<clip>.avi`, one official split."""

from __future__ import annotations

from pathlib import Path

from fclip.config import NoOptions
from fclip.data.layouts.base import Dataset, class_names, first_existing, published_facts, unique_keys
from fclip.data.layouts.grouping import named_parts
from fclip.data.layouts.labels import match_label
from fclip.data.layouts.tree import Folder, read_tree, take_clips, unread_lines
from fclip.errors import FclipError
from fclip.records import Clip
from fclip.registry import register


@register(NoOptions)
def read_caer(source: Path, options: NoOptions) -> Dataset:
    """CAER (Lee et al., ICCV 2019): `train/Anger/0001.avi`; train, validation and test."""
    return _read("caer", source)


@register(NoOptions)
def read_afew(source: Path, options: NoOptions) -> Dataset:
    """AFEW (Dhall et al., 2012): `Train_AFEW/Angry/000046280.avi`; val is tested, as the test part has no labels."""
    return _read("afew", source)


def _read(name: str, source: Path) -> Dataset:
    facts, classes = published_facts(name), class_names(name)
    first = [folder for names in facts["splits"].values() for folder in names]
    root = first_existing(
        source, [f"{root}/{split}" for root in facts["roots"] for split in first], "the splits"
    ).parent
    clips, remarks = [], []
    for split, names in facts["splits"].items():
        folder = next((root / each for each in names if (root / each).is_dir()), None)
        if folder is None:
            remarks.append(f"no folder {' or '.join(names)}: no {split} part")
            continue
        emotions, others = _emotions(folder, classes)
        clips += [(split, label, path) for label, tree in emotions for path in _videos(tree, remarks)]
        remarks += [f"not read: {folder.name}/{other}, which is no class" for other in others]
    if not clips:
        raise FclipError(f"{source}: no videos in {root.name}/<split>/<Emotion>/; is it the release of {name}?")
    places = [path.relative_to(source).as_posix() for _, _, path in clips]
    parts, folds, told = named_parts([split for split, _, _ in clips], str(source))
    keys = unique_keys([path.relative_to(root).as_posix() for _, _, path in clips])
    rows = zip(keys, clips, places, parts, strict=True)
    return Dataset(
        name,
        source,
        classes,
        [Clip(key, str(path), label, part, meta={"path": place}) for key, (_, label, path), place, part in rows],
        folds,
        published=f"{name}/all",
        remarks=told + remarks,
    )


def _emotions(folder: Path, classes: tuple[str, ...]) -> tuple[list[tuple[str, Folder]], list[str]]:
    """(class, tree) of each emotion's folder of a split, and the names of what else lies there."""
    found, others = [], []
    tree = read_tree(folder)
    for path, inner in tree.folders.items():
        try:
            found.append((match_label(path.name, classes, str(path)), inner))
        except FclipError:
            others.append(path.name)
    return found, others + [path.name for path in tree.videos]


def _videos(tree: Folder, remarks: list[str]) -> list[Path]:
    """The videos of an emotion's folder; what else is there is told."""
    taken = take_clips(tree, 1, 0, "ignore")
    remarks += [f"{tree.path.parent.name}/{tree.path.name}: {line}" for line in unread_lines(taken)]
    return [path for path, _ in taken.clips]
