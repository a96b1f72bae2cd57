"""The clips in a folder tree: video files, folders of frames, single pictures; and what is left unread in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fclip.data.media.files import is_hidden, is_picture, is_video
from fclip.data.media.images import in_order, list_frames

Pictures = Literal["clips", "ignore"] | None
_SHOWN = 3


@dataclass
class Folder:
    """A folder below a source: `names` lead to it, `videos` and `folders` lie in it, and `pictures` picture files."""

    path: Path
    names: tuple[str, ...] = ()
    videos: list[Path] = field(default_factory=list)
    folders: dict[Path, Folder] = field(default_factory=dict)
    pictures: int = 0
    others: Counter[str] = field(default_factory=Counter)

    @property
    def has_videos(self) -> bool:
        """Whether there are videos in it, at any depth."""
        return bool(self.videos) or any(folder.has_videos for folder in self.folders.values())

    @property
    def has_media(self) -> bool:
        """Whether there is anything to read in it, at any depth."""
        return bool(self.videos or self.pictures) or any(folder.has_media for folder in self.folders.values())

    @property
    def is_clip(self) -> bool:
        """Whether it is a folder of frames: pictures, no video, and more of them than folders with media in it."""
        inner = sum(folder.has_media for folder in self.folders.values())
        return self.pictures > inner and not self.has_videos

    def all_folders(self) -> Iterator[Folder]:
        """The folder and all below it."""
        yield self
        for folder in self.folders.values():
            yield from folder.all_folders()


def read_tree(path: Path, names: tuple[str, ...] = ()) -> Folder:
    """What lies below a folder, hidden and system files left out; links are followed, but to no folder around them."""
    found = Folder(path, names)
    folders = []
    for entry in os.scandir(path):
        if is_hidden(entry.name):
            continue
        if is_video(entry.name) and entry.is_file():
            found.videos.append(Path(entry.path))
        elif is_picture(entry.name) and entry.is_file():
            found.pictures += 1
        elif not entry.is_dir():
            broken = entry.is_symlink() and not os.path.exists(entry.path)
            found.others["broken link" if broken else kind_of(entry.name)] += 1
        elif not (entry.is_symlink() and _is_around(Path(entry.path))):
            folders.append(Path(entry.path))
    found.videos = in_order(found.videos)
    found.folders = {folder: read_tree(folder, (*names, folder.name)) for folder in in_order(folders)}
    return found


def _is_around(link: Path) -> bool:
    real = os.path.realpath(link)
    return os.path.realpath(link.parent).startswith(os.path.join(real, "")) or os.path.realpath(link.parent) == real


def kind_of(name: str) -> str:
    """A file's kind for people: its suffix."""
    return Path(name).suffix.lower() or "without suffix"


def level_names(tree: Folder) -> list[set[str]]:
    """The names of the folders that lead to media, at each depth, without those that can only be clips."""
    names: list[set[str]] = []
    for folder in tree.all_folders():
        depth = len(folder.names)
        if depth and folder.has_media:
            names += [set() for _ in range(depth - len(names))]
            names[depth - 1].add(folder.names[-1])
    return names


@dataclass
class Taken:
    """The clips of a tree, each with the folder it lies in, and what was not taken, by kind."""

    clips: list[tuple[Path, Folder]] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    beside: list[tuple[Folder, int]] = field(default_factory=list)
    posters: int = 0


def take_clips(tree: Folder, levels: int, label: int, pictures: Pictures) -> Taken:
    """The clips below the folders of the class level (of index `label`).

    A folder of pictures is a clip where it lies below the first `levels` folders; within these each picture is one. A
    picture beside videos (or, in a person's folder, beside folders of frames) is one only with `pictures` "clips", and
    never where it has the stem of a video or folder.
    """
    taken = Taken()
    _take(tree, levels, label, pictures, taken)
    return taken


def _take(folder: Folder, levels: int, label: int, pictures: Pictures, taken: Taken) -> None:
    depth = len(folder.names)
    taken.unread.update(folder.others)
    if depth <= label:  # no class yet
        taken.unread["videos above the class folders"] += len(folder.videos)
        taken.unread["pictures above the class folders"] += folder.pictures
        folders = list(folder.folders.values())
        for each in folders:
            _take(each, levels, label, pictures, taken)
        return
    if depth > levels and folder.is_clip:
        taken.clips.append((folder.path, folder))
        for each in (each for inner in folder.folders.values() for each in inner.all_folders()):
            taken.unread["pictures in folders inside a clip's folder"] += each.pictures
            taken.unread.update(each.others)
        return
    beside = folder.has_videos or (depth > levels and any(each.has_media for each in folder.folders.values()))
    taken.clips += [(path, folder) for path in _single_pictures(folder, beside, pictures, taken)]
    for path in in_order([*folder.videos, *folder.folders]):
        if path in folder.folders:
            _take(folder.folders[path], levels, label, pictures, taken)
        else:
            taken.clips.append((path, folder))


def _single_pictures(folder: Folder, beside: bool, pictures: Pictures, taken: Taken) -> list[Path]:
    """The pictures of a folder that are clips by themselves; `beside`: other clips lie in it or below it."""
    if not folder.pictures:
        return []
    found = list_frames(folder.path)
    stems = {path.stem.casefold() for path in folder.videos} | {path.name.casefold() for path in folder.folders}
    own = [path for path in found if path.stem.casefold() not in stems]
    taken.posters += len(found) - len(own)
    if pictures == "ignore" or (pictures is None and beside):
        if own:
            taken.beside.append((folder, len(own)))
        return []
    if beside and own:
        taken.beside.append((folder, 0))
    return own


def unread_lines(taken: Taken) -> list[str]:
    """Lines about the files that are no clips."""
    lines = []
    kept = [folder for folder, count in taken.beside if not count]
    left = [(folder, count) for folder, count in taken.beside if count]
    if left:
        where = ", ".join("/".join(folder.names) for folder, _ in left[:_SHOWN]) + (" ..." if left[_SHOWN:] else "")
        lines.append(
            f"{sum(count for _, count in left)} pictures are no clips ({where}): videos lie beside them, or --pictures "
            "ignore; --pictures clips takes them"
        )
    if kept:
        lines.append(f"pictures beside videos are clips ({', '.join('/'.join(f.names) for f in kept[:_SHOWN])})")
    if taken.posters:
        lines.append(f"{taken.posters} pictures have the name of a clip beside them and are no clips")
    unread = Counter({kind: count for kind, count in taken.unread.items() if count})
    if unread:
        kinds = ", ".join(f"{count} {kind}" for kind, count in unread.most_common())
        lines.append(f"not read: {kinds}")
    return lines
