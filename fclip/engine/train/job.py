"""What one training run is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fclip.data.storage.folds import caption_source
from fclip.engine.train.options import TrainOptions
from fclip.schema import JsonObject, as_json
from fclip.seeing.preparation import read_preparation


@dataclass(frozen=True)
class Job:
    """One run to train: fold and seed of a data set, the folders of its clips, of cached features and of the run."""

    dataset: str
    packed: Path
    fold: str
    seed: int
    features: Path
    out: Path

    def facts(self, options: TrainOptions) -> JsonObject:
        """What a checkpoint says about its training data."""
        return {
            "dataset": self.dataset,
            "fold": self.fold,
            "seed": self.seed,
            "selection": options.select,
            "captions": as_json(caption_source(self.packed)),
            "preparation": as_json(read_preparation(self.packed)),
            "without": list(options.without),
        }
