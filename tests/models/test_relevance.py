"""Relevance and occlusion on a model whose answer is known to rest on one place of the frames."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fclip.models.base import ModelOutput
from fclip.models.relevance import agreement, occlusion, relevance


class OneCorner(nn.Module):
    """Class 1 where the upper left quarter is bright; linear in it, so that integrated gradients are exact."""

    def forward(self, batch):
        bright = batch["frames"][..., :8, :8].mean(dim=(1, 2, 3, 4))  # (B,)
        return ModelOutput(logits=torch.stack([-bright, bright], dim=1))


@pytest.fixture
def frames():
    torch.manual_seed(0)
    clips = torch.rand(3, 2, 3, 16, 16)
    clips[0, ..., :8, :8] += 2  # bright, dark, as the rest
    clips[1, ..., :8, :8] -= 2
    return clips


def test_relevance_is_where_the_answer_comes_from_and_adds_up_to_it(frames):
    model, batch = OneCorner(), {"frames": frames}
    found = relevance(model, batch, (4, 4))
    assert found.shape == (3, 2, 4, 4)
    outside = found.clone()
    outside[:, :, :2, :2] = 0
    assert outside.abs().max() < 1e-6
    plain = frames.mean(dim=(1, 3, 4), keepdim=True).expand_as(frames)
    logits, before = model(batch).logits, model({"frames": plain}).logits
    answer = logits.argmax(1, keepdim=True)
    assert answer.flatten().tolist()[:2] == [1, 0]
    gained = ((logits - before).gather(1, answer) - (logits - before).gather(1, 1 - answer)).flatten()
    assert found.sum(dim=(1, 2, 3)) == pytest.approx(gained, abs=1e-5)  # completeness


def test_occlusion_finds_the_same_place_and_agreement_says_so(frames):
    model, batch = OneCorner(), {"frames": frames}
    found, falls = relevance(model, batch, (4, 4)), occlusion(model, batch, 4)
    assert (falls[0] > 1e-6).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert falls == pytest.approx(found.sum(dim=1), abs=1e-5)
    assert agreement(found, falls)[:2].min() > 0.7
    assert agreement(found, -falls)[:2].max() < -0.7
    assert agreement(torch.zeros_like(found), falls).tolist() == [0, 0, 0]
    assert agreement(found, occlusion(model, batch, 2)).shape == (3,)
