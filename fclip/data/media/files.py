"""Which files hold clips, by name: suffixes that the decoders read, and what systems leave behind."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fclip.files import resource_json

_SUFFIXES = resource_json("suffixes.json")  # lower case; GIF is read as a video
VIDEO_SUFFIXES = frozenset(_SUFFIXES["video"])
IMAGE_SUFFIXES = frozenset(_SUFFIXES["picture"])
ANIMATED_SUFFIXES = frozenset(_SUFFIXES["animated"])
_ARCHIVE = rf"({'|'.join(map(re.escape, _SUFFIXES['archive']))})(\.part|\.\d+)?$|\.z\d\d$|\.(crdownload|part|download)$"
_POINTER, _POINTER_BYTES = b"version https://git-lfs", 1024
_SYSTEM = frozenset(
    {
        "__MACOSX",
        "@eaDir",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "Thumbs.db",
        "desktop.ini",
    }
)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or kept by a system for itself (`._x.mp4`, `__MACOSX`)."""
    return name.startswith(".") or name in _SYSTEM


def is_archive(name: str) -> bool:
    """Whether a file of this name is an archive, a piece of one, or a download that was cut off."""
    return bool(re.search(_ARCHIVE, name.lower())) and not is_hidden(name)


def is_pointer(path: Path) -> bool:
    """Whether a file is what git-lfs leaves in the place of one that is not fetched yet: a short text."""
    try:
        if not path.is_file() or path.stat().st_size > _POINTER_BYTES:
            return False
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def is_video(name: str | Path) -> bool:
    """Whether a file of this name is read as a video (or GIF)."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_picture(name: str | Path) -> bool:
    """Whether a file of this name is read as a picture."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
