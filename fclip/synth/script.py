"""Everything random about a rendered clip, drawn before a pixel is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fclip.synth.actions import Event, Wave, activations
from fclip.synth.identity import Identity, sample_identity
from fclip.synth.look import Look


@dataclass(frozen=True)
class ClipScript:
    """Everything random about one clip. `blend` is a second expression mixed in (share of it), or None."""

    label: str
    identity: int
    seed: int
    classes: tuple[str, ...]
    blend: tuple[str, float] | None
    strength: float
    frames: int
    fps: float
    events: tuple[Event, ...]
    waves: tuple[Wave, ...]
    look: Look

    @property
    def person(self) -> Identity:
        """Who is seen."""
        return sample_identity(self.identity)

    @property
    def times(self) -> np.ndarray:
        """Seconds of all frames, (frames,)."""
        return np.arange(self.frames) / self.fps

    def channels(self, times: np.ndarray | None = None) -> np.ndarray:
        """Time courses of actions.CHANNELS at `times` (default: all frames): (T, C)."""
        return activations(self.events, self.waves, self.times if times is None else times)
