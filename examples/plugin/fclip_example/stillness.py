"""Says when the picture moves most: a caption that needs neither faces nor a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fclip.captions.base import Captioner, CaptionInput, OnCaption
from fclip.config import option
from fclip.errors import ClipFailure
from fclip.records import CaptionRecord
from fclip.registry import register


@dataclass(frozen=True)
class StillnessOptions:
    """Options of stillness."""

    subject: str = option("The face", "who moves, in the sentence", output=True)


@register(StillnessOptions)
class StillnessCaptioner(Captioner):
    """One sentence a clip."""

    name = "stillness"

    def __init__(self, options: StillnessOptions, device: str) -> None:
        self.subject = options.subject
        self.fingerprint = {"captioner": self.name, "revision": "1", "subject": self.subject}

    def caption(
        self, clips: Sequence[CaptionInput], on_caption: OnCaption | None = None
    ) -> list[CaptionRecord | ClipFailure]:
        """When each clip moves most; a clip of one frame fails."""
        return [self._caption(clip) for clip in clips]

    def _caption(self, clip: CaptionInput) -> CaptionRecord | ClipFailure:
        if len(clip.frames) < 2:
            return ClipFailure("one frame does not move")
        moved = np.abs(np.diff(clip.frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))  # (T - 1,)
        when = ("early", "halfway", "late")[int(3 * moved.argmax() / len(moved))]
        frames = list(range(len(clip.frames)))
        return CaptionRecord(
            clip.key, f"{self.subject} moves most {when}.", self.name, "1", "", frames, {}, label_shown=False
        )
