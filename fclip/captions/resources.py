"""The caption tools' data files: text in fclip/resources/captions, read once."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def resource_text(name: str) -> str:
    """Text of the file `name` in fclip/resources/captions."""
    return (resources.files("fclip") / "resources" / "captions" / name).read_text(encoding="utf-8")
