"""What a captioner is, which there are, and the one way to make one: `create_captioner(name)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fclip.errors import ClipFailure, UsageError
from fclip.files import resource_json
from fclip.records import CaptionRecord, FaceTrack


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


Note = Callable[[CaptionRecord], None]  # is told of a caption, maybe from another thread


class Captioner(Protocol):
    """Describes clips. `fingerprint` holds all that shapes the text; `needs_faces` asks for face tracks.

    place: where it runs, for people; at_once: how many clips it likes to get together; slow: its captions are dear (a
    large model, a server), so one process is enough, and `caption` calls `note` with each as soon as it is there.
    """

    name: str
    revision: str
    fingerprint: dict[str, str]
    needs_faces: bool
    place: str
    at_once: int
    slow: bool

    def caption(self, clips: Sequence[CaptionInput], note: Note | None = None) -> list[CaptionRecord | ClipFailure]:
        """Caption each clip; a clip that fails yields its ClipFailure in its place."""
        ...


@dataclass(frozen=True)
class CaptionerInfo:
    """One row of `list_captioners`: name and what it needs."""

    name: str
    needs: str


def _template(**options: Any) -> Captioner:
    from fclip.captions.template.captioner import TemplateCaptioner

    return TemplateCaptioner(**options)


def _human(**options: Any) -> Captioner:
    from fclip.captions.captioners.human import HumanCaptioner

    return HumanCaptioner(**options)


def _openai(**options: Any) -> Captioner:
    from fclip.captions.captioners.openai import OpenAICaptioner

    return OpenAICaptioner(**options)


def _hub(name: str, **options: Any) -> Captioner:
    from fclip.captions.captioners.hub import HubCaptioner

    return HubCaptioner(name, **options)


@cache
def model_table() -> dict[str, Any]:
    """Content of resources/captions/models.json: video language models and what their families need."""
    table: dict[str, Any] = resource_json("captions/models.json")
    return table


def named_models() -> dict[str, dict[str, Any]]:
    """Name -> row, for the models with a name of their own."""
    return {row["name"]: row for row in model_table()["models"]}


_BUILT_IN: dict[str, tuple[Callable[..., Captioner], str]] = {
    "template": (_template, "face tracks (fclip face-analyze); nothing else"),
    "human": (_human, "captions that came with the data set"),
    "openai": (_openai, "a server that speaks the OpenAI protocol (--base-url)"),
}


def create_captioner(name: str, **options: Any) -> Captioner:
    """Make the captioner `name`: one of list_captioners, a hub id (owner/name) or the folder of a model.

    Raises UsageError for an unknown name or option, MissingExtra when a package is not installed and FclipError when
    a model cannot be loaded.
    """
    if name in _BUILT_IN:
        factory = _BUILT_IN[name][0]
    elif name in named_models() or "/" in name or Path(name).is_dir():
        factory = partial(_hub, name)
    else:
        names = ", ".join([*_BUILT_IN, *named_models()])
        raise UsageError(f"unknown captioner {name!r}; there are: {names}, hub ids (owner/name) and folders")
    try:
        return factory(**options)
    except TypeError as error:
        if "unexpected keyword argument" in str(error):
            raise UsageError(f"captioner {name!r}: {str(error).partition(' ')[2]}") from error
        raise


def list_captioners() -> list[CaptionerInfo]:
    """The table behind `--mllm list`."""
    rows = [CaptionerInfo(name, needs) for name, (_, needs) in _BUILT_IN.items()]
    return rows + [CaptionerInfo(name, f"{row['id']}: {row['note']}") for name, row in named_models().items()]
