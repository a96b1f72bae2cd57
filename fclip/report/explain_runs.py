"""`fclip report --explain N`: why a run's model classified test clips as it did, stored beside its results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fclip.config import CommonConfig
from fclip.runner.workspace import require_folder

if TYPE_CHECKING:
    import numpy as np

    from fclip.models.finecliper.model import FineCliper
    from fclip.report.explanations import Explanations

log = logging.getLogger(__name__)
SHOWN = 4  # frames of a clip that are stored with their attention
BATCH = 8


def explain_runs(config: CommonConfig, folders: Sequence[Path], clips: int) -> None:
    """Write eval/explanations.npz of `clips` test clips for each run whose model has label texts to explain with.

    Runs of one fold of a data set explain the same clips, so that these can be compared.
    """
    from fclip.engine.train.run_folder import read_identity
    from fclip.models import load_model
    from fclip.report.explanations import FILE, write_explanations

    chosen: dict[tuple[str, str], list[str]] = {}
    for folder in folders:
        if not (folder / "config.json").is_file():
            log.info("%s: a transfer, explained by the run that it comes from", folder.name)
            continue
        identity = read_identity(folder)
        model = load_model(folder)
        if not model.explainable:
            log.info("%s: variant %s has no positive and negative texts to explain with", folder.name, model.variant)
            continue
        packed = require_folder(config.root / identity.dataset / "packed", "packed", config)
        place = identity.dataset, identity.fold
        if place not in chosen:
            chosen[place] = chosen_keys(folder, clips)
        found = explain_clips(config, model, packed, identity.fold, chosen[place])
        write_explanations(folder / "eval" / FILE, found)


def chosen_keys(folder: Path, clips: int) -> list[str]:
    """Keys of up to `clips` evaluated clips of a run, classes taking turns."""
    from fclip.engine.evaluate.predictions import read_predictions
    from fclip.report.explanations import spread_over_classes

    table = read_predictions(folder / "eval" / "predictions.csv")
    return [table.keys[i] for i in spread_over_classes(table.true, clips)]


def explain_clips(
    config: CommonConfig, model: FineCliper, packed: Path, fold: str, keys: Sequence[str]
) -> Explanations:
    """Similarities, fusion weights, relevance and attention of the named clips of a fold's test part."""
    import numpy as np

    from fclip.data.storage.folds import fold_shards
    from fclip.data.storage.splits import read_splits
    from fclip.data.training.loader import ClipLoader
    from fclip.engine.batches.devices import choose_device
    from fclip.engine.batches.prepare import InputPreparer
    from fclip.report.explanations import Explanations

    device = choose_device(config.device)
    model.to(device).eval()
    shards = fold_shards(read_splits(packed), packed, fold, "last").test
    loader = ClipLoader(
        shards,
        BATCH,
        train=False,
        image_size=model.preprocess.image_size,
        frames=model.frames,
        resize=model.preprocess.resize,
        only=keys,
        allow_missing=True,
    )
    prepare = InputPreparer(model, device)
    rows = [row for batch in loader.epoch(0) for row in _explain_batch(model, batch, prepare)]
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Explanations(classes=np.array(model.classes), modalities=np.array(model.modalities), **stacked)


def _explain_batch(model: FineCliper, batch: dict[str, Any], prepare: Any) -> list[dict[str, np.ndarray]]:
    """One row of arrays a clip; a modality that the clip lacks has nan."""
    import numpy as np

    from fclip.models import relevance as why
    from fclip.models.finecliper.explain import explain
    from fclip.report.explanations import small_frames

    rows: dict[int, dict[str, np.ndarray]] = {}
    shown = np.linspace(0, model.frames - 1, min(SHOWN, model.frames)).round().astype(int)
    for index, inputs in prepare.groups(batch):
        inputs.pop("labels", None)
        found = explain(model, inputs)
        maps: tuple[np.ndarray, ...] = ()
        if found.attention is not None:
            grid = found.attention.shape[-2], found.attention.shape[-1]
            parts, falls = why.relevance(model, inputs, grid), why.occlusion(model, inputs, min(*grid, why.GRID))
            maps = parts.cpu().numpy(), falls.cpu().numpy(), why.agreement(parts, falls)  # (B, ...) each
        places = [model.modalities.index(name) for name in found.modalities]
        for position, clip in enumerate(index):
            row = {"keys": np.array(batch["keys"][clip]), "labels": np.array(batch["labels"][clip])}
            row["logits"] = found.logits[position].float().cpu().numpy()
            for name in ("positive", "negative", "weights"):
                values = getattr(found, name)[position].float().cpu().numpy()  # (M of the clip, ...)
                row[name] = np.full((len(model.modalities), *values.shape[1:]), np.nan, np.float32)
                row[name][places] = values
            attention = None if found.attention is None else found.attention[position].float().cpu().numpy()
            row["attention"] = np.zeros((0, 0, 0), np.float32) if attention is None else attention[shown]
            row["relevance"] = maps[0][position][shown] if maps else row["attention"]
            row["occlusion"] = maps[1][position] if maps else np.zeros((0, 0), np.float32)
            row["agreement"] = maps[2][position] if maps else np.array(np.nan)
            frames = batch["frames"][clip].permute(0, 2, 3, 1).cpu().numpy()  # (T, H, W, 3)
            row["frames"] = small_frames(frames[shown[: len(row["attention"])]])
            rows[clip] = row
    return [rows[i] for i in sorted(rows)]
