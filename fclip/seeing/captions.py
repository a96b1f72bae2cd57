"""Describe: the caption of a clip, refined as those were that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fclip.captions.base import Captioner, CaptionInput, create_captioner
from fclip.errors import ClipFailure
from fclip.seeing.preparation import Description

if TYPE_CHECKING:
    from fclip.captions.refine.refiner import Refiner


@dataclass
class Describer:
    """A captioner and, where its texts are refined, the refiner."""

    captioner: Captioner
    refiner: Refiner | None = None

    @classmethod
    def open(cls, description: Description) -> Describer:
        """Make what a description names; raises as create_captioner."""
        from fclip.captions.refine.refiner import Refiner

        refiner = Refiner(description.labels, wordnet=description.wordnet) if description.refined else None
        return cls(create_captioner(description.captioner), refiner)

    def describe(self, clip: CaptionInput) -> str | None:
        """The caption of a clip; None where there is none, or nothing of it is left."""
        found = self.captioner.caption([clip])[0]
        if isinstance(found, ClipFailure):
            return None
        return (self.refiner.refine(found.text).text if self.refiner else found.text) or None
