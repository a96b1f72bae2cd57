"""Which files hold clips, by name: suffixes that the decoders read, and what systems leave behind."""

from __future__ import annotations

from pathlib import Path

from fclip.files import resource_json

_SUFFIXES = resource_json("suffixes.json")  # lower case; GIF is read as a video
VIDEO_SUFFIXES = frozenset(_SUFFIXES["video"])
IMAGE_SUFFIXES = frozenset(_SUFFIXES["picture"])
ANIMATED_SUFFIXES = frozenset(_SUFFIXES["animated"])
ARCHIVE_SUFFIXES = frozenset(_SUFFIXES["archive"])
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


def is_video(name: str | Path) -> bool:
    """Whether a file of this name is read as a video (or GIF)."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def is_picture(name: str | Path) -> bool:
    """Whether a file of this name is read as a picture."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES
