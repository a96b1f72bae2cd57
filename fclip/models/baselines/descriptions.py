"""Descriptions of each class's facial behaviour: the built-in ones, or the user's, by class name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fclip.errors import FclipError
from fclip.files import resource_path
from fclip.models.base import ExpressionModel
from fclip.models.baselines.options import TextMode

Source = Mapping[str, str] | str | Path | None
TEXT_MODES = {"class-name": "{}", "a-photo-of": "a photo of {}", "an-expression-of": "an expression of {}"}
MAX_BYTES = 1 << 20


def read_descriptions(source: Source) -> dict[str, str]:
    """Descriptions by class name from a mapping, a JSON file {class: text}, or, for None, the built-in eleven.

    Raises FclipError if the file is missing or is not such a JSON object.
    """
    if isinstance(source, Mapping):
        return _checked(source, "descriptions")
    path = resource_path("descriptions.json") if source is None else Path(source)
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise FclipError(f"{path}: no such file of descriptions (JSON, class name: text)")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FclipError(f"{path}: not JSON ({error}); expected an object of class name: text") from None
    return _checked(found, str(path))


def _checked(found: Any, where: str) -> dict[str, str]:
    if not isinstance(found, Mapping) or not all(isinstance(text, str) and text.strip() for text in found.values()):
        raise FclipError(f"{where}: expected a JSON object of class name: text")
    return dict(found)


def class_texts(classes: Sequence[str], mode: TextMode, source: Source = None) -> list[str]:
    """One text per class: its description, or its name in a phrase (mode: see TEXT_MODES). Underscores become spaces.

    Raises FclipError for a class without a description.
    """
    if mode != "description":
        return [TEXT_MODES[mode].format(name.replace("_", " ")) for name in classes]
    texts = read_descriptions(source)
    missing = [name for name in classes if name not in texts]
    if missing:
        raise FclipError(f"no description of class {missing[0]!r}; add it to the file of descriptions")
    return [texts[name] for name in classes]


def set_class_texts(model: ExpressionModel, mode: TextMode, source: Source = None) -> list[str]:
    """`class_texts` of the model's classes, noted in its prompts and, as texts rather than a file, in its options."""
    texts = class_texts(model.classes, mode, source)
    model.prompts = {"class": texts}
    if mode == "description":
        model.options["descriptions"] = dict(zip(model.classes, texts, strict=True))
    return texts
