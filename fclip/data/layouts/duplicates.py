"""The same content under several names: found by size, then by hash; and what is left when it is dropped."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fclip.data.layouts.base import Dataset, Folds
from fclip.data.media.files import is_hidden, is_picture
from fclip.data.media.images import list_frames
from fclip.files import atomic_write, sha256_file
from fclip.records import Clip

Groups = list[list[Clip]]
_SHOWN = 4


def same_content(clips: Sequence[Clip]) -> Groups:
    """The clips whose files, or all frames, are equal byte for byte, in groups of two and more, in the clips' order.

    Only what has the size of another is read. Stretches of one video are equal if they are of the same time.
    """
    groups: Groups = [list(clips)]
    for weigh in (_size, _hash):
        found: dict[tuple[object, ...], list[Clip]] = {}
        for number, group in enumerate(groups):
            for clip in group:
                if (weight := weigh(Path(clip.source))) is not None:
                    found.setdefault((number, weight, tuple(clip.meta.get("segment", ()))), []).append(clip)
        groups = [group for group in found.values() if len(group) > 1]
    return groups


def _size(source: Path) -> tuple[int, ...] | None:
    """What is cheap to know: a file's size, or a frame folder's number of frames and the sizes of two of them."""
    try:
        if not source.is_dir():
            return (source.stat().st_size,)
        with os.scandir(source) as entries:
            frames = {entry.name: entry for entry in entries if is_picture(entry.name) and not is_hidden(entry.name)}
            return (
                (len(frames), *(frames[name].stat().st_size for name in (min(frames), max(frames)))) if frames else None
            )
    except OSError:
        return None


def _hash(source: Path) -> str | None:
    try:
        if not source.is_dir():
            return sha256_file(source)
        digest = hashlib.sha256()
        for frame in list_frames(source):
            digest.update(bytes.fromhex(sha256_file(frame)))
        return digest.hexdigest()
    except OSError:
        return None


def duplicate_remarks(groups: Groups, folds: Folds) -> list[str]:
    """Lines about equal clips: those in train and test, those with contradictory labels, and the others."""
    crossing = [group for group in groups if _crosses(group, folds)]
    contrary = [group for group in groups if len({clip.label for clip in group}) > 1]
    others = [group for group in groups if group not in crossing and group not in contrary]
    remarks = [
        f"the same content {what}: {' = '.join(clip.meta.get('path', clip.key) for clip in found[0][:_SHOWN])}"
        + (f" = {len(found[0]) - _SHOWN} others" if len(found[0]) > _SHOWN else "")
        + (f" and {len(found) - 1} more" if len(found) > 1 else "")
        for found, what in (
            (crossing, "in train and test"),
            (contrary, "with different labels"),
            (others, "under several names"),
        )
        if found
    ]
    if remarks:
        remarks.append("--drop-duplicates leaves one of each, and none where labels differ (all: duplicates.csv)")
    return remarks


def _crosses(group: Sequence[Clip], folds: Folds) -> bool:
    parts = {clip.part for clip in group}
    return any(parts & set(sides["train"]) and parts & set(sides["test"]) for sides in folds.values())


def drop_duplicates(dataset: Dataset, groups: Groups) -> Dataset:
    """The data set with one clip of each group: one that is tested rather than one that trains, else the first.

    Where labels differ nobody can say which is right, so none is left.
    """
    dropped: set[str] = set()
    for group in groups:
        keep = next((clip for clip in group if clip.part == "test"), group[0])
        contrary = len({clip.label for clip in group}) > 1
        dropped |= {clip.key for clip in group if contrary or clip is not keep}
    clips = [clip for clip in dataset.clips if clip.key not in dropped]
    remark = f"dropped {len(dropped)} clips whose content comes several times"
    declared = {
        fold: {side: [key for key in keys if key not in dropped] for side, keys in sides.items()}
        for fold, sides in dataset.declared.items()
    }
    remarks = [*dataset.remarks, *([remark] if dropped else [])]
    left = {clip.part for clip in clips}
    folds = {f: {side: [p for p in parts if p in left] for side, parts in s.items()} for f, s in dataset.folds.items()}
    return replace(dataset, clips=clips, folds=folds, declared=declared, remarks=remarks)


def write_duplicates(path: Path, groups: Groups) -> None:
    """All groups as CSV: number of the group, path, label, part; no file where there are none."""
    if not groups:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["group", "path", "label", "part"])
        for number, group in enumerate(groups, start=1):
            writer.writerows([number, clip.meta.get("path", clip.key), clip.label, clip.part] for clip in group)
