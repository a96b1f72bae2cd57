"""Captions written by people, which came with the data set (MAFW), in the same record as all others."""

from __future__ import annotations

from collections.abc import Sequence

from fclip.captions.base import Captioner, CaptionInput, OnCaption
from fclip.config import NoOptions
from fclip.errors import ClipFailure
from fclip.records import CaptionRecord
from fclip.registry import register


@register(cpu_only=True)
class HumanCaptioner(Captioner):
    """Passes `info["caption"]` through, as one that saw the label: who describes a clip for a data set names it too."""

    name = "human"
    revision = "2"
    saw_labels = True

    def __init__(self, options: NoOptions, device: str = "cpu") -> None:
        self.fingerprint = {"captioner": self.name, "revision": self.revision}

    def caption(
        self, clips: Sequence[CaptionInput], on_caption: OnCaption | None = None
    ) -> list[CaptionRecord | ClipFailure]:
        """Each clip's own caption; a clip without one fails."""
        return [self._caption(clip) for clip in clips]

    def _caption(self, clip: CaptionInput) -> CaptionRecord | ClipFailure:
        text = " ".join(str(clip.info.get("caption") or "").split())
        if not text:
            return ClipFailure("the data set has no caption for this clip; use --mllm template")
        frames = list(range(len(clip.times)))
        return CaptionRecord(clip.key, text, self.name, self.revision, "", frames, {}, label_shown=True)
