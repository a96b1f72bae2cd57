"""Options that the variants which look through CLIP share; apart from the models, to be read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fclip.config import option


@dataclass(frozen=True)
class FrameOptions:
    """How frames reach CLIP's image tower."""

    resize: Literal["squash", "crop"] = option(
        "squash",
        "how frames become squares: squashed, or as CLIP's own code does it (short side bicubic, centre crop)",
        output=True,
    )
