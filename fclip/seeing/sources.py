"""The sources that a user means: video files, frame folders, folders of both, patterns; names for what is made of them.

Here too: no output ever takes the place of an input.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fclip.data.media.files import is_hidden, is_video
from fclip.data.media.images import list_frames
from fclip.errors import FclipError, UsageError
from fclip.records import make_key
from fclip.runner.remote import is_url, local_name, url_name


def find_sources(names: Sequence[str]) -> Iterator[Path | str]:
    """The sources behind file names, patterns (*, ?, **), folders and URLs; a URL stays text.

    In a folder count the video files, at any depth, and every folder of pictures without videos beside them, as one
    source each; hidden and system files do not. A file that is named counts whatever it is. FclipError if there is
    nothing, and for a camera or a live stream.
    """
    for name in map(local_name, names):
        if name.isdecimal() and not Path(name).exists() or name.startswith(_LIVE):
            raise FclipError(f"{name}: a camera or live stream, which has no end; record first, then give the file")
        if is_url(name):
            yield name
            continue
        paths = [Path(name)] if Path(name).exists() else [Path(p) for p in sorted(glob.glob(name, recursive=True))]
        if not paths:
            raise FclipError(f"{name}: no such file or folder")
        for path in paths:
            if not path.is_dir():
                yield path
                continue
            inside = list(_in_folder(path))
            if not inside:
                raise FclipError(f"{path}: no video files and no folders of pictures in it")
            yield from inside


_LIVE = ("/dev/video", "rtsp://", "rtsps://", "rtmp://", "udp://", "rtp://", "srt://")


def _in_folder(folder: Path) -> Iterator[Path]:
    """The sources in a folder, in the order of their names."""
    if any(folder.resolve() == parent.resolve() for parent in folder.parents):
        return  # a link to a folder around it
    members = [path for path in sorted(folder.iterdir()) if not is_hidden(path.name)]
    videos = [path for path in members if is_video(path.name) and path.is_file()]
    if not videos and list_frames(folder):
        yield folder
    for path in members:
        if path.is_dir():
            yield from _in_folder(path)
        elif path in videos:
            yield path


def output_names(named: Sequence[Path | str], suffix: str) -> list[str]:
    """A file name for each source, all different, also apart from case: its stem where that is the only one.

    Equal stems get as much of the path before them as the sources have in common no longer, as keys of clips do.
    """
    sources = [source if isinstance(source, Path) else Path(url_name(source)) for source in named]
    stems = [make_key(source.stem) if not source.stem.strip(".") else source.stem for source in sources]
    often = Counter(stem.casefold() for stem in stems)
    places = [source.absolute() for source in sources]
    root = Path(os.path.commonpath([place.parent for place in places]))
    names: list[str] = []
    for stem, place in zip(stems, places, strict=True):
        name = stem if often[stem.casefold()] == 1 else make_key(place.relative_to(root).as_posix())
        number, free = 1, name
        while any(free.casefold() == other.casefold() for other in names):
            number += 1
            free = f"{name}_{number}"
        names.append(free)
    return [name + suffix for name in names]


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path | str]) -> None:
    """Raise UsageError if an output is, by name or through links, one of the inputs or a file of an input folder."""
    given = [path for path in inputs if isinstance(path, Path)]
    files, folders = [p for p in given if not p.is_dir()], [p for p in given if p.is_dir()]
    names = {os.path.abspath(path) for path in files} | {os.path.realpath(path) for path in files}
    nodes = {_node(path) for path in files} - {None}
    roots = [Path(os.path.realpath(folder)) for folder in folders]
    for output in outputs:
        real = Path(os.path.realpath(output))
        same = {os.path.abspath(output), str(real)} & names or _node(output) in nodes
        if same or (output.exists() and any(real.is_relative_to(root) for root in roots)):
            raise UsageError(f"{output}: is an input of this command, which is never written over; name another output")


def _node(path: Path) -> tuple[int, int] | None:
    """What tells a file from others whatever its names are; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
