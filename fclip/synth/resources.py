"""Tables of the renderer (points, action units, palettes, phrases): JSON files in fclip/resources, read once."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def table(name: str) -> Any:
    """Content of fclip/resources/<name>.json; callers must not change what they get."""
    return json.loads((resources.files("fclip") / "resources" / f"{name}.json").read_text(encoding="utf-8"))
