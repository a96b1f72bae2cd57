"""The built-in rendered data sets (`fclip synth`): dataset.json {name, classes, folds} and annotations.csv."""

from __future__ import annotations

import json
from pathlib import Path

from fclip.config import NoOptions
from fclip.data.layouts.base import (
    Dataset,
    Folds,
    inside,
    require,
    unique_keys,
)
from fclip.data.layouts.labels import match_label
from fclip.data.layouts.tables import read_table
from fclip.errors import FclipError
from fclip.records import Clip
from fclip.registry import register
from fclip.runner.verify import verified


@register(in_workspace=True)
def read_rendered(source: Path, options: NoOptions) -> Dataset:
    """Read a folder with `dataset.json` and `annotations.csv` (columns path,label,part,caption,identity)."""
    name, classes, folds = _read_description(verified(require(source / "dataset.json", "make it with: fclip synth")))
    table = verified(source / "annotations.csv")
    rows = read_table(table, ("path", "label", "part"))
    clips = []
    for key, (line, row) in zip(unique_keys([Path(row["path"]).name for _, row in rows]), rows, strict=True):
        where = f"{table}: line {line}"
        clips.append(
            Clip(
                key=key,
                source=str(inside(source, row["path"], where)),
                label=match_label(row["label"], classes, where),
                part=row["part"],
                caption=row.get("caption") or None,
                meta={"path": row["path"]} | ({"identity": row["identity"]} if row.get("identity") else {}),
            )
        )
    return Dataset(name, source, classes, clips, folds)


def _read_description(path: Path) -> tuple[str, tuple[str, ...], Folds]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        folds = {
            str(fold): {side: [str(part) for part in sides[side]] for side in ("train", "test")}
            for fold, sides in value["folds"].items()
        }
        classes = tuple(str(name) for name in value["classes"])
        return str(value["name"]), classes, folds
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FclipError(f"{path}: not the description of a rendered data set ({error!r}); run fclip synth") from error
