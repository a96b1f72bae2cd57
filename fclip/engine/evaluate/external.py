"""`fclip eval --predictions`: any method's predictions scored as fclip's own are, fold by fold and seed by seed."""

from __future__ import annotations

from pathlib import Path

from fclip.data.storage.folds import fold_shards
from fclip.engine.evaluate.aggregate import Evaluated
from fclip.engine.evaluate.predictions import PredictionTable, Tables, read_tables
from fclip.engine.evaluate.results import RunFacts, make_result
from fclip.errors import FclipError


def score_file(path: Path, dataset: str | None, packed: Path | None) -> list[Evaluated]:
    """Score a CSV of predictions, a result for each fold and seed; with a packed folder, against its clips and folds.

    Labels mean the data set's classes whatever their case or usual spelling.
    """
    from fclip.data.storage.splits import read_classes

    if packed:
        tables = match_folds(path, read_tables(path, read_classes(packed)), packed)
    else:
        tables = read_tables(path)
    scored = []
    for (fold, seed), table in sorted(tables.items()):
        facts = RunFacts(run=path.stem, dataset=dataset or path.stem, variant=path.stem, fold=fold, seed=seed)
        scored.append(Evaluated(make_result(facts, table), table.clips()))
    return scored


def match_folds(path: Path, tables: Tables, packed: Path) -> Tables:
    """The tables by the data set's folds: each must hold all test clips of every fold that it has any of, no other.

    Raises FclipError for a clip that the data set does not test, one with another label, and one that is missing.
    """
    from fclip.data.storage.splits import read_classes, read_splits
    from fclip.data.training.access import clip_labels

    splits, classes = read_splits(packed), read_classes(packed)
    truth = {fold: clip_labels(fold_shards(splits, packed, fold, "last").test) for fold in sorted(splits.folds)}
    found: Tables = {}
    for (named, seed), table in tables.items():
        for i, key in enumerate(table.keys):
            folds = [named] if named else [fold for fold, labels in truth.items() if key in labels]
            if not folds or key not in truth.get(folds[0], {}):
                raise FclipError(f"{path}: clip {key} is not tested in {f'fold {named}' if named else 'any fold'}")
            if truth[folds[0]][key] != table.true[i]:
                raise FclipError(f"{path}: clip {key} is {truth[folds[0]][key]} in {packed}, not {table.true[i]}")
            for fold in folds:
                part = found.setdefault((fold, seed), PredictionTable(classes, table.has_probabilities))
                used = table.modalities[i].split("+")
                part.add(key, table.true[i], table.probabilities[i], used, table.scenes[i], table.predicted[i])
    for (fold, seed), table in found.items():
        missing = sorted(truth[fold].keys() - set(table.keys))
        if missing:
            raise FclipError(
                f"{path}: {len(missing)} of {len(truth[fold])} test clips of fold {fold}, seed {seed} are missing, "
                f"the first is {missing[0]}"
            )
    return found
