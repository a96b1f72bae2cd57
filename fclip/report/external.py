"""`fclip eval --predictions`: any method's predictions scored as fclip's own are, fold by fold and seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fclip.config import CommonConfig
from fclip.data.storage.folds import fold_shards
from fclip.errors import FclipError
from fclip.runner.report import StageReport
from fclip.runner.workspace import require_folder

if TYPE_CHECKING:
    from fclip.engine.evaluate.predictions import PredictionTable

Tables = dict[tuple[str, int], "PredictionTable"]  # (fold, seed) -> table


def score_file(path: Path, config: CommonConfig, packed: str | Path | None = None) -> StageReport:
    """Score a CSV of predictions; with a data set (or its packed folder), against that one's clips and folds."""
    from fclip.data.storage.splits import read_classes
    from fclip.engine.evaluate.aggregate import aggregate, format_table
    from fclip.engine.evaluate.metrics import per_group, summarise
    from fclip.engine.evaluate.predictions import read_tables
    from fclip.report.results import complete_row

    if packed or config.dataset:
        packed = require_folder(packed or config.root / str(config.dataset) / "packed", "packed", config)
        tables = match_folds(path, read_tables(path, read_classes(packed)), packed)
    else:
        tables = read_tables(path)
    members, clips = [], []
    for (fold, seed), table in sorted(tables.items()):
        true, guesses = table.true_indices(), table.matrix().argmax(1)
        facts = {
            "dataset": config.dataset or path.stem,
            "variant": path.stem,
            "fold": fold,
            "seed": seed,
            "modalities": sorted(set(table.modalities)),
            "selection": None,
        }
        scenes = per_group(true, guesses, table.scenes, len(table.classes))
        members.append({**facts, **summarise(true, table.matrix(), table.classes), "scenes": scenes})
        clips.append(dict(zip(table.keys, zip(true.tolist(), guesses.tolist(), strict=True), strict=True)))
    row = complete_row(aggregate(members), members, clips, {})
    if all((table.matrix() % 1 == 0).all() for table in tables.values()):  # labels alone say nothing of calibration
        for found in (row, *members):
            del found["ece"], found["reliability"]
    lines = [*format_table([row]), *(f"  {name:15s} recall {_shown(value)}" for name, value in row["recall"].items())]
    values = {"results": [row], "folds": members}
    return StageReport("eval", counts={"clips": row["clips"]}, values=values, lines=lines)


def _shown(recall: float | None) -> str:
    return "absent" if recall is None else f"{100 * recall:5.1f} %"


def match_folds(path: Path, tables: Tables, packed: Path) -> Tables:
    """The tables by the data set's folds: each must hold all test clips of every fold that it has any of, no other.

    Raises FclipError for a clip that the data set does not test, one with another label, and one that is missing.
    """
    from fclip.data.storage.splits import check_classes, read_classes, read_splits
    from fclip.engine.evaluate.predictions import PredictionTable

    splits, classes = read_splits(packed), read_classes(packed)
    truth = {fold: clip_labels(fold_shards(splits, packed, fold, "last").test) for fold in sorted(splits.folds)}
    found: Tables = {}
    for (named, seed), table in tables.items():
        check_classes(classes, table.classes, str(path))
        for i, key in enumerate(table.keys):
            folds = [named] if named else [fold for fold, labels in truth.items() if key in labels]
            if not folds or key not in truth.get(folds[0], {}):
                raise FclipError(f"{path}: clip {key} is not tested in {f'fold {named}' if named else 'any fold'}")
            if truth[folds[0]][key] != table.true[i]:
                raise FclipError(f"{path}: clip {key} is {truth[folds[0]][key]} in {packed}, not {table.true[i]}")
            for fold in folds:
                part = found.setdefault((fold, seed), PredictionTable(classes))
                part.add(key, table.true[i], table.probabilities[i], table.modalities[i].split("+"), table.scenes[i])
    for (fold, seed), table in found.items():
        missing = sorted(truth[fold].keys() - set(table.keys))
        if missing:
            raise FclipError(
                f"{path}: {len(missing)} of {len(truth[fold])} test clips of fold {fold}, seed {seed} are missing, "
                f"the first is {missing[0]}"
            )
    return found


def clip_labels(shards: list[Path]) -> Mapping[str, str]:
    """{key: label} of the clips of shards."""
    from fclip.data.training.access import PackedClips, View

    clips = PackedClips(shards, View(size=1), wanted=())
    return dict(zip(clips.keys, clips.labels(), strict=True))
