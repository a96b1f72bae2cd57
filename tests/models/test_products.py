"""No step multiplies by a weight that is repeated for each clip or position: that is slow, and copies it under bf16."""

from __future__ import annotations

import pytest
from torch.profiler import ProfilerActivity, profile

from fclip.models import create_model
from tests.models.small_clip import CLASSES, SMALL, VARIANTS, make_batch

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("variant", [*VARIANTS, "dfer-clip", "coop", "cocoop", "emoclip", "finetune", "linear-probe"])
def test_weights_are_not_repeated_for_each_sequence(variant: str) -> None:
    """Batched products may multiply activations (heads, similarities), never a tensor as large as a weight matrix."""
    model = create_model(variant, SMALL, CLASSES, 3, clip_weights="random").train()
    batch = make_batch(model, clips=3)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as trace:
        loss = model(batch).loss
        assert loss is not None
        loss.backward()
    events = trace.key_averages(group_by_input_shape=True)
    weights = {tuple(p.shape) for p in model.parameters() if p.ndim == 2} | {
        tuple(p.shape[::-1]) for p in model.parameters() if p.ndim == 2
    }
    repeated = [
        (event.key, shape)
        for event in events
        if event.key in ("aten::bmm", "aten::baddbmm")
        for shape in event.input_shapes
        if len(shape) == 3 and tuple(shape[1:]) in weights
    ]
    assert any(event.key in ("aten::addmm", "aten::mm") for event in events), "the profiler saw no product"
    assert repeated == []
