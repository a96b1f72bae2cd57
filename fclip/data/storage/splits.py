"""Which clips train and which test: `splits.json` and `classes.json`.

Every clip belongs to one part; a fold is a choice of whole parts for training and for testing; a shard holds
clips of one part and is named `<part>-<index>`, so that a fold picks shard files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fclip.errors import FclipError
from fclip.files import read_json
from fclip.records import check_class_names, check_key
from fclip.runner.verify import verified

SIDES = ("train", "test")
_PART = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Splits:
    """Parts {key: part} and folds {"1": {"train": [part, ...], "test": [part, ...]}} of a data set.

    Raises FclipError if a fold names a part that holds no clip, or uses a part on both sides.
    """

    dataset: str
    parts: dict[str, str]
    folds: dict[str, dict[str, list[str]]]

    def __post_init__(self) -> None:
        known = set(self.parts.values())
        for key, part in self.parts.items():
            check_key(key)
            if not _PART.fullmatch(part):
                raise FclipError(f"part name {part!r} of clip {key} has characters outside A-Z a-z 0-9 _ -")
        for fold, sides in self.folds.items():
            if set(sides) != set(SIDES):
                raise FclipError(f"fold {fold} has the sides {sorted(sides)}; needed are train and test")
            both = set(sides["train"]) & set(sides["test"])
            unknown = set(sides["train"]) | set(sides["test"])
            unknown -= known
            if both or unknown:
                reason = "is in train and test" if both else "holds no clip"
                raise FclipError(f"fold {fold}: part {min(both or unknown)} {reason}; correct the splits")

    def fold_parts(self, fold: str | int, side: str) -> list[str]:
        """Return the parts of one side ("train" or "test") of a fold, sorted."""
        if str(fold) not in self.folds:
            raise FclipError(f"{self.dataset} has no fold {fold}; it has {', '.join(self.folds)}")
        return sorted(self.folds[str(fold)][side])


def read_splits(folder: str | Path) -> Splits:
    """Read and check `splits.json` of `folder`; FclipError if it is not the one on record."""
    path = verified(Path(folder) / "splits.json")
    value = read_json(path)
    try:
        parts = {str(key): str(part) for key, part in value["parts"].items()}
        folds = {
            str(fold): {str(side): [str(part) for part in names] for side, names in sides.items()}
            for fold, sides in value["folds"].items()
        }
        return Splits(str(value["dataset"]), parts, folds)
    except (KeyError, TypeError, AttributeError) as error:
        raise FclipError(f"{path}: not a splits file ({error!r}); run fclip preprocess again") from error
    except FclipError as error:
        raise FclipError(f"{path}: {error}") from error


def read_classes(folder: str | Path) -> tuple[str, ...]:
    """Read the class names of `folder`, in order; FclipError if there is no list of them, or not the one on record."""
    path = verified(Path(folder) / "classes.json")
    names = read_json(path)
    if not isinstance(names, list) or not names:
        raise FclipError(f"{path}: not a list of class names; run fclip preprocess again")
    return check_class_names(names, str(path))


def check_classes(expected: Sequence[str], found: Sequence[str], where: str) -> None:
    """Raise FclipError, naming both lists, unless `found` has the expected names in the expected order."""
    if tuple(expected) != tuple(found):
        raise FclipError(
            f"{where}: classes are [{', '.join(found)}] but [{', '.join(expected)}] are needed; "
            "use the data or the checkpoint they were made for"
        )
