"""How well a model in training does on clips that are held out: what --select val and best-on-test choose by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fclip.engine.batches.loading import clip_loader
from fclip.engine.batches.prepare import InputPreparer
from fclip.engine.evaluate.metrics import confusion_matrix, uar, war
from fclip.engine.evaluate.run_model import predict_clips
from fclip.models.base import ExpressionModel


class HeldOutScore:
    """Evaluates the model on held-out shards when called: UAR, WAR, and the score, which is WAR."""

    def __init__(
        self, model: ExpressionModel, shards: Sequence[Path], prepare: InputPreparer, batch_size: int, features: Path
    ) -> None:
        self.model, self.prepare = model, prepare
        self.loader = clip_loader(shards, model, batch_size, train=False, features=features, without=prepare.without)

    def __call__(self) -> dict[str, float]:
        """The figures now; the model is in training mode afterwards."""
        table = predict_clips(self.model, self.loader.epoch(0), self.prepare)
        confusion = confusion_matrix(table.true_indices(), table.predicted_indices(), len(table.classes))
        self.model.train()
        return {"uar": uar(confusion), "war": war(confusion), "score": war(confusion)}
