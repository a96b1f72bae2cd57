"""Evaluation: a model over batches of clips -> a prediction table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from fclip.engine.batches.prepare import InputPreparer
from fclip.engine.evaluate.predictions import PredictionTable
from fclip.errors import FclipError
from fclip.models.base import ExpressionModel


@torch.inference_mode()
def predict_clips(
    model: ExpressionModel,
    batches: Iterable[dict[str, Any]],
    prepare: InputPreparer,
    precision: torch.dtype = torch.float32,
) -> PredictionTable:
    """Class probabilities of every clip (softmax of the fused logits, which already carry 1 / tau).

    Raises FclipError when the device runs out of memory.
    """
    model.eval()
    table = PredictionTable(model.classes)
    device = prepare.device
    for batch in batches:
        rows: dict[int, tuple[np.ndarray, tuple[str, ...]]] = {}
        for index, inputs in prepare.groups(batch):
            inputs.pop("labels", None)
            try:
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    output = model(inputs)
            except torch.OutOfMemoryError:
                clips = f"{len(index)} clips at once"
                raise FclipError(f"{device}: out of memory with {clips}; lower --batch-size") from None
            probabilities = output.logits.float().softmax(-1).cpu().numpy()  # (B, C)
            rows.update({i: (p, output.modalities) for i, p in zip(index, probabilities, strict=True)})
        for i, key in enumerate(batch["keys"]):
            probabilities, modalities = rows[i]
            table.add(key, batch["labels"][i], probabilities, modalities, str(batch["infos"][i].get("scene", "")))
    return table
