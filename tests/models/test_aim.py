"""AIM's checkpoints (Yang et al., ICLR 2023) with one and with two temporal adapters, against its block as it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from small_clip import build
from small_states import aim_state
from torch import Tensor

from fclip.errors import UsageError
from fclip.models import create_model
from fclip.models.backbone.clip import LoadedClip, load_clip
from fclip.models.convert import convert
from fclip.models.finecliper.frames import FrameEncoder


@pytest.fixture(scope="module")
def clip() -> LoadedClip:
    return load_clip("tiny", "random")


def bottleneck(state: dict[str, Tensor], name: str, x: Tensor, skip: bool) -> Tensor:
    """AIM's Adapter: D_fc1, GELU, D_fc2, with its inner skip."""
    hidden = F.gelu(F.linear(x, state[f"{name}.D_fc1.weight"], state[f"{name}.D_fc1.bias"]))
    out = F.linear(hidden, state[f"{name}.D_fc2.weight"], state[f"{name}.D_fc2.bias"])
    return x + out if skip else out


def aim_block(block: Any, state: dict[str, Tensor], name: str, x: Tensor, frames: int, scale: float) -> Tensor:
    """The published block: x (N, B*T, D), sequence first, clips slowest among B*T."""
    n, bt, d = x.shape

    def attention(y: Tensor) -> Tensor:  # (L, sequences, D)
        y = y.transpose(0, 1)
        return block.attn(y, y, y, need_weights=False)[0].transpose(0, 1)

    xt = x.view(n, bt // frames, frames, d).permute(2, 1, 0, 3).reshape(frames, -1, d)  # (T, B*N, D)
    xt = block.ln_1(xt)
    if f"{name}.T_Adapter_in.D_fc1.weight" in state:
        xt = bottleneck(state, f"{name}.T_Adapter_in", xt, skip=True)
    xt = bottleneck(state, f"{name}.T_Adapter", attention(xt), skip=False)
    x = x + xt.view(frames, bt // frames, n, d).permute(2, 1, 0, 3).reshape(n, bt, d)
    x = x + bottleneck(state, f"{name}.S_Adapter", attention(block.ln_1(x)), skip=True)
    xn = block.ln_2(x)
    return x + block.mlp(xn) + scale * bottleneck(state, f"{name}.MLP_Adapter", xn, skip=False)


def aim_features(visual: Any, state: dict[str, Tensor], clips: Tensor, scale: float) -> Tensor:
    """The published network's mean over time, (B, T, 3, H, W) -> (B, D)."""
    batch, frames = clips.shape[:2]
    x = visual.conv1(clips.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B*T, M, D)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    x = (x.unflatten(0, (batch, frames)) + state["temporal_embedding"].unsqueeze(2)).flatten(0, 1)  # (B*T, N, D)
    x = visual.ln_pre(x).transpose(0, 1)  # (N, B*T, D)
    for i, block in enumerate(visual.transformer.resblocks):
        x = aim_block(block, state, f"transformer.resblocks.{i}", x, frames, scale)
    return visual.ln_post(x)[0].unflatten(0, (batch, frames)).mean(dim=1)


@pytest.mark.parametrize("both", [False, True])
def test_a_converted_checkpoint_gives_aims_features(tmp_path: Path, clip: LoadedClip, both: bool) -> None:
    """From mmcv's file through convert into the frame encoder, all adapters far from zero."""
    torch.manual_seed(0)
    state = {k: v * 0.1 if "Adapter" in k else v for k, v in aim_state(clip.model.state_dict(), both).items()}
    torch.save({"meta": {"epoch": 30}, "state_dict": state, "optimizer": {"state": {}}}, tmp_path / "aim.pth")
    report = convert(tmp_path / "aim.pth", tmp_path / "out.safetensors", "aim")
    assert set(report.dropped) == {"meta", "optimizer", "cls_head.fc_cls.weight"} and report.missing == ("visual.proj",)
    assert report.metadata["temporal_adapters"] == 1 + both
    written = load_file(tmp_path / "out.safetensors")
    frames = {k: v for k, v in written.items() if k.startswith("frames.")}
    model = create_model("base", "tiny", ["a", "b"], 8, "random", temporal_adapters="both" if both else "after")
    own = {k: v for k, v in model.trainable_state().items() if k.startswith("frames.")}
    assert {k: v.shape for k, v in frames.items()} == {k: v.shape for k, v in own.items()}
    encoder: FrameEncoder = model.adapters["frames"]
    encoder.load_state_dict({k.removeprefix("frames."): v for k, v in frames.items()})
    clips = torch.randn(2, 8, 3, 80, 80)
    official = {k.removeprefix("backbone."): v for k, v in state.items()}
    with torch.no_grad():
        expected = aim_features(clip.model.visual, official, clips, 0.5)
        torch.testing.assert_close(encoder(clip.model.visual, clips), expected, atol=1e-5, rtol=1e-4)
        encoder.blocks[1].temporal_in = None  # each of its adapters counts
        assert torch.allclose(encoder(clip.model.visual, clips), expected, atol=1e-3) is not both


def test_two_temporal_adapters_start_as_plain_clip() -> None:
    """With adapters at zero it is the same model; before=True is another block and is not combined with it."""
    one, two = build("base"), build("base", temporal_adapters="both")
    clips = torch.randn(1, 3, 3, 32, 32)
    with torch.no_grad():
        features = [m.adapters["frames"](m.clip.visual, clips) for m in (one, two)]
    assert torch.equal(*features)
    grown = sum(p.numel() for p in two.adapters.parameters()) - sum(p.numel() for p in one.adapters.parameters())
    assert grown == 2 * (2 * 128 * 32 + 32 + 128)
    with pytest.raises(UsageError, match="frame_adapter_position=after"):
        build("base", temporal_adapters="both", frame_adapter_position="before")
