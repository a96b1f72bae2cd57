"""How clips were prepared: the record that `pack` writes, a checkpoint keeps, and prediction follows.

`preparation.json` of a packed folder, and the entry `preparation` of a checkpoint: a JSON object of three parts,
`cropping`, `analysis` and `description`, each null where that step was left out or made by another program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from fclip.data.media.sampling import DEFAULT_CAP, SamplingPlan
from fclip.data.storage.strips import MAX_ROWS
from fclip.errors import FclipError
from fclip.files import read_json
from fclip.runner.folder import CONFIG, read_config
from fclip.runner.verify import remake, verified

FILE = "preparation.json"
PartT = TypeVar("PartT", "Cropping", "Analysis", "Description")


@dataclass(frozen=True)
class Cropping:
    """Sampling and cropping: frames a clip (a number or "all"), side in pixels, detector or "none", the side of the
    crop / larger extent of the face, JPEG quality of the film strip, whether crops are kept within the picture."""

    frames: str = "16"
    size: int = 224
    crop: str = "none"
    margin: float = 1.5
    quality: int = 95
    inside: bool = True

    @property
    def plan(self) -> SamplingPlan:
        """Which frames of a clip are taken; raises UsageError."""
        return SamplingPlan.parse(self.frames, min(DEFAULT_CAP, MAX_ROWS // self.size))


@dataclass(frozen=True)
class Analysis:
    """Face analysis: back end, longest gap in frames that is filled, strength of smoothing (0 = off)."""

    backend: str
    max_gap: int = 3
    smooth: float = 0.0


@dataclass(frozen=True)
class Description:
    """Captions: captioner, whether its texts were refined, and the label words and lists that refining cut."""

    captioner: str
    refined: bool = True
    labels: tuple[str, ...] = ()
    wordnet: bool = False


@dataclass(frozen=True)
class Preparation:
    """All steps; None where a step was left out or is not known."""

    cropping: Cropping | None = None
    analysis: Analysis | None = None
    description: Description | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any, where: str) -> Preparation:
        """Read what `as_dict` gives; raises FclipError naming `where` if it is something else."""
        try:
            return cls(
                _cropping(value["cropping"]),
                _part(Analysis, value["analysis"]),
                _part(Description, value["description"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FclipError(f"{where}: not a record of how clips were prepared ({error!r})") from error


def read_preparation(packed: Path) -> Preparation | None:
    """The record of a packed folder, None if it has none; raises FclipError if it is damaged."""
    path = packed / FILE
    return Preparation.from_dict(read_json(verified(path)), str(path)) if path.is_file() else None


def gather(
    frames: Path, faces: Path | None, refined: Path | None, captioner: str | None, labels: Sequence[str]
) -> Preparation:
    """What the stages wrote about the folders that are packed; `captioner`: whose captions, None for none.

    `refined`: folder of refined captions, None where the captions were not refined.
    """
    analysis = _of_stage(faces, "face-analyze") if faces else None
    description = None
    if captioner:
        refining = _of_stage(refined, "refine") if refined else None
        wordnet = bool((refining or {}).get("wordnet", False))
        description = Description(captioner, refined is not None, tuple(labels), wordnet)
    return Preparation(_cropping(_of_stage(frames, "preprocess")), _part(Analysis, analysis), description)


def _of_stage(folder: Path, stage: str) -> dict[str, Any] | None:
    """The configuration that a stage wrote into its folder, None where another program made it."""
    if not (folder / CONFIG).is_file():
        return None
    value = read_config(folder)
    if value is None:
        raise FclipError(f"{folder / CONFIG}: damaged; {remake(folder, stage)}")
    config = value.get("config") if value.get("stage") == stage else None
    return config if isinstance(config, dict) else None


def _cropping(value: Any) -> Cropping | None:
    """Cropping from its JSON object; without `inside` it is of a version whose crops went beyond the picture."""
    return _part(Cropping, None if value is None else {"inside": False} | value)


def _part(cls: type[PartT], value: Any) -> PartT | None:
    """A part from its JSON object, entries of other names left out; raises KeyError or TypeError."""
    if value is None:
        return None
    known = {each.name for each in fields(cls)}
    given: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in dict(value).items() if name in known
    }
    part: Any = cls(**given)
    kinds: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool}
    for each in fields(cls):
        if not isinstance(getattr(part, each.name), kinds.get(str(each.type), tuple)):
            raise TypeError(f"{each.name} is {getattr(part, each.name)!r}")
    return cast(PartT, part)
