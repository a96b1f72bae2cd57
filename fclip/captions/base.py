"""What a captioner is, and the one way to make one: `create_captioner(name)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from fclip.errors import ClipFailure
from fclip.records import CaptionRecord, FaceTrack
from fclip.registry import CAPTIONERS


@dataclass
class CaptionInput:
    """What a captioner may look at: frames uint8 (T, H, W, 3) RGB, times seconds (T,), the face track where there is
    one, the shard's json field, and the clip's label, to be used by a captioner that was asked to show it only.
    """

    key: str
    frames: np.ndarray
    times: np.ndarray
    track: FaceTrack | None = None
    info: dict[str, Any] = field(default_factory=dict)
    label: str | None = None


OnCaption = Callable[[CaptionRecord], None]  # is called with a caption, maybe from another thread


class Captioner(ABC):
    """Describes clips; made as `cls(options, device)`. `fingerprint` holds all that shapes the text.

    needs_faces: it wants face tracks; saw_labels: who wrote its texts knew the labels; expensive: a large model or a
    server, so one process is enough, and each caption is kept as soon as it is there; batch_size: how many clips it
    likes to get together; runs_on: where it runs, for people.
    """

    name: str
    fingerprint: dict[str, str]
    needs_faces: bool = False
    saw_labels: bool = False
    expensive: bool = False
    batch_size: int = 16
    runs_on: str = "this machine"

    @abstractmethod
    def caption(
        self, clips: Sequence[CaptionInput], on_caption: OnCaption | None = None
    ) -> list[CaptionRecord | ClipFailure]:
        """Caption each clip; a clip that fails yields its ClipFailure in its place.

        An expensive captioner calls `on_caption` with each caption as soon as it has it.
        """

    def close(self) -> None:  # noqa: B027  few hold anything
        """Release what it holds."""


def create_captioner(name: str, device: str = "cpu", **options: Any) -> Captioner:
    """Make the captioner `name`: one of CAPTIONERS.names(), a hub id (owner/name) or the folder of a model.

    Raises UsageError for an unknown name or option, MissingExtra when a package is not installed and FclipError when
    a model cannot be loaded.
    """
    thing = CAPTIONERS.find(name)
    return cast(Captioner, thing(CAPTIONERS.make_options(name, options), device))
