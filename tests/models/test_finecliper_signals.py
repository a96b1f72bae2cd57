"""Expression signals as a further modality of the fusion: standardised over training, learned, kept in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_clip import build, make_batch

from fclip.files import resource_json
from fclip.models.checkpoint import load_checkpoint, save_checkpoint
from fclip.models.finecliper.signals import SignalEncoder


def test_statistics_are_those_of_all_clips_so_far() -> None:
    names = ("aLeft", "aRight", "b")
    encoder = SignalEncoder(names, 8).train()
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(n, 3, 3, generator=generator) * 3 + 5 for n in (1, 4, 2)]
    parts[1][2] = 0  # no face: not counted
    for part in parts:
        encoder(part)
    levels = torch.cat([parts[0], parts[1][[0, 1, 3]], parts[2]]).double().mean(1)  # (6, 3)
    levels = torch.stack([levels[:, :2].mean(1), levels[:, 2]], 1)
    assert encoder.count == 6
    torch.testing.assert_close(encoder.mean[:2], levels.mean(0))
    torch.testing.assert_close(encoder.variance[:2], levels.var(0, unbiased=False))
    before = encoder.mean.clone()
    faceless = encoder.eval()(torch.zeros(1, 3, 3))
    assert torch.equal(encoder.mean, before) and torch.equal(faceless[0], encoder.linear.bias)


@pytest.mark.parametrize("kind", ["mesh", "landmarks"])
def test_a_modality_of_the_fusion_that_learns_and_is_kept(kind: str, tmp_path: Path) -> None:
    model = build("star", trained=True, signals=kind)
    names = resource_json("signal_names.json")[kind]
    assert model.signal_names == tuple(names) and model.modalities[-1] == "signals"
    batch = make_batch(model, clips=4)
    batch["signals"] = torch.randn(4, model.frames, len(names), generator=torch.Generator().manual_seed(1))
    output = model.train()(batch)
    assert output.modalities == model.modalities and output.weights.shape == (4, 4)
    output.loss.backward()
    assert bool(model.adapters["signals"].linear.weight.grad.any())
    save_checkpoint(tmp_path / "a.safetensors", model)
    assert {"signals.mean", "signals.variance", "signals.linear.weight"} <= set(
        load_checkpoint(tmp_path / "a.safetensors")[0]
    )
    other = build("star", signals=kind)
    other.load_trainable_state(load_checkpoint(tmp_path / "a.safetensors")[0])
    with torch.inference_mode():
        assert torch.equal(other.eval()(batch).logits, model.eval()(batch).logits)


def test_without_the_option_nothing_is_there() -> None:
    model = build("star-dagger")
    assert "signals" not in model.modalities and not list(model.adapters.named_buffers())
