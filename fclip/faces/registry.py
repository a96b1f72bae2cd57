"""Which face back ends there are, what each needs, and the one way to make one: `create_backend(name)`.

Third parties add theirs with an entry point in the group `fclip.face_backends`, whose value is a class or function
taking (device, weights, **options) and returning a `FaceBackend`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

from fclip.errors import FclipError, MissingExtra, UsageError
from fclip.faces.base import FaceBackend, FaceDetector
from fclip.faces.weights import FACEXFORMER_FILE, MEDIAPIPE_FILE, find_file

GROUP = "fclip.face_backends"


class BackendInfo(NamedTuple):
    """One row of `list_backends`: name; state: ready, no weights yet, or not installed; what it needs or comes from."""

    name: str
    state: str
    needs: str


def _lite(**options: Any) -> FaceBackend:
    from fclip.faces.lite.backend import LiteBackend

    return LiteBackend(**options)


def _mediapipe(**options: Any) -> FaceBackend:
    if find_spec("mediapipe") is None:
        raise MissingExtra("mediapipe", "mediapipe")
    from fclip.faces.mediapipe.backend import MediaPipeBackend

    return MediaPipeBackend(**options)


def _facexformer(**options: Any) -> FaceBackend:
    from fclip.faces.facexformer.backend import FaceXFormerBackend

    return FaceXFormerBackend(**options)


_BUILT_IN: dict[str, tuple[Callable[..., FaceBackend], str]] = {
    "facexformer": (
        _facexformer,
        "its weights, fetched once (1.1 GB) or made by fclip convert --from facexformer; a GPU for speed",
    ),
    "mediapipe": (_mediapipe, "pip install 'fclip[mediapipe]'; its model file, 4 MB, is downloaded once"),
    "lite": (_lite, "nothing: weights are bundled; trained on rendered faces"),
}


_WEIGHTS = {"facexformer": FACEXFORMER_FILE, "mediapipe": MEDIAPIPE_FILE}


def _third_party() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in _BUILT_IN}


def create_backend(name: str, device: str = "cpu", weights: str | Path | None = None, **options: Any) -> FaceBackend:
    """Make the back end `name`; `weights` replaces its weights file.

    Raises UsageError for an unknown name or option, MissingExtra when its package is not installed and FclipError
    when its weights are missing or damaged.
    """
    third_party = _third_party()
    if name in _BUILT_IN:
        factory = _BUILT_IN[name][0]
    elif name in third_party:
        try:
            factory = third_party[name].load()
        except (ImportError, AttributeError) as error:
            entry = third_party[name]
            raise FclipError(f"face back end {name!r} ({entry.value}) cannot be loaded: {error}") from error
    else:
        names = ", ".join([*_BUILT_IN, *sorted(third_party)])
        raise UsageError(f"unknown face back end {name!r}; there are: {names}")
    return factory(device=device, weights=weights, **options)


def create_detector(name: str, device: str = "cpu", weights: str | Path | None = None, **options: Any) -> FaceDetector:
    """Make the face detector `name` (lite or mediapipe), a back end that has `detect`. Errors as create_backend."""
    backend = create_backend(name, device, weights, **options)
    if not isinstance(backend, FaceDetector):
        raise UsageError(f"face back end {name!r} cannot find faces in whole pictures; use lite or mediapipe")
    return cast(FaceDetector, backend)


def list_backends() -> list[BackendInfo]:
    """The table behind `--backend list`: all back ends, built in first."""
    rows = [BackendInfo(name, _state(name), needs) for name, (_, needs) in _BUILT_IN.items()]
    rows += [BackendInfo(name, "ready", f"from {entry.value}") for name, entry in sorted(_third_party().items())]
    return rows


def _state(name: str) -> str:
    """Whether a built-in back end would run as things are, without a download."""
    if name == "mediapipe" and find_spec("mediapipe") is None:
        return "not installed"
    if name in _WEIGHTS and find_file(_WEIGHTS[name]) is None:
        return "no weights yet"
    return "ready"
