"""`fclip report --explain N`: why a run's model classified clips of its test part as it did, stored beside its results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fclip.stages.workspace import list_shards, require_folder

if TYPE_CHECKING:
    import numpy as np

    from fclip.config import CommonConfig
    from fclip.report.explanations import Explanations

log = logging.getLogger(__name__)
SHOWN = 4  # frames of a clip that are stored with their attention
MAX_CLIPS = 400  # read of the test part to choose from


def explain_runs(config: Any, folders: Sequence[Path]) -> None:
    """Write eval/explanations.npz of config.explain clips for each run that has positive and negative texts."""
    from fclip.data.files import read_json
    from fclip.models.finecliper import FineCliper
    from fclip.report.explanations import write_explanations

    for folder in folders:
        if not (folder / "config.json").is_file():
            continue  # a transfer: its model is the source run's, which is explained by itself
        identity = read_json(folder / "config.json")
        model = _load(folder)
        if not isinstance(model, FineCliper):
            log.info("%s: variant %s has no positive and negative texts; not explained", folder.name, model.variant)
            continue
        packed = require_folder(config.root / identity["dataset"] / "packed", "packed", config)
        out = folder / "eval" / "explanations.npz"
        write_explanations(out, explain_clips(config, model, packed, identity["fold"]))
'''
