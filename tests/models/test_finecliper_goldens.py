"""Numbers of the official implementations: CLIP's two towers, AIM's frame encoder, Long-CLIP's text tower.

The weights are procedural (the parity folder's README); they are written as the files that users have, and read through
`load_clip`, `fclip convert` and `longclip_weights`.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fclip.models.backbone.attention import plain_block
from fclip.models.backbone.clip import LoadedClip, clip_config, embed_images, encode_frames, encode_text, load_clip
from fclip.models.convert import convert
from fclip.models.finecliper.frames import FrameEncoder
from fclip.models.finecliper.texts import CaptionTower


class Golden:
    """One system: its case, the reference outputs, and `fill.py`."""

    def __init__(self, folder: Path, system: str) -> None:
        found = importlib.util.spec_from_file_location("fill", folder / "fill.py")
        assert found and found.loader
        self.fill: Any = importlib.util.module_from_spec(found)
        found.loader.exec_module(self.fill)
        spec = json.loads((folder / "public" / f"{system}.json").read_text())
        self.case, self.seed = spec["cases"][0], spec["seed"]
        self.outputs = np.load(folder / "public" / f"{system}.npz")

    def state(self, but: str = "-") -> dict[str, Tensor]:
        """The official state dict, without the names that start with `but` (to save time)."""
        rows = [row for row in self.case["state_dict"] if not row[0].startswith(but)]
        return self.fill.to_torch(self.fill.state_dict({"state_dict": rows}, self.seed))

    def input(self, name: str) -> Tensor:
        return torch.from_numpy(self.fill.make_input(**self.case["inputs"][name]))

    def check(self, name: str, tensor: Tensor) -> None:
        """The output, or its first rows, is within the tolerance that the golden names."""
        output = self.case["outputs"][name]
        expected = self.outputs[output["npz"]][: len(tensor)]
        assert tuple(tensor.shape) == expected.shape, name
        if output["tolerance"].get("exact"):
            assert np.array_equal(tensor.numpy(), expected), name
        else:
            assert np.abs(tensor.numpy() - expected).max() <= output["tolerance"]["atol"], name


@pytest.fixture
def golden(parity: Path) -> Iterator[Callable[[str], Golden]]:
    with torch.no_grad():
        yield lambda system: Golden(parity, system)


def class_tokens(visual: Any, images: Tensor) -> list[Tensor]:
    """The class token after each of our blocks."""
    x, tokens = visual.ln_pre(embed_images(visual, images)), []
    for block in visual.transformer.resblocks:
        x = plain_block(block, x)
        tokens.append(x[:, 0])
    return tokens


@pytest.fixture(scope="module")
def clip_b16(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedClip:
    """The golden ViT-B/16 from a file as users have it, OpenAI's three scalars included."""
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    scalars = {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save({**Golden(parity, "clip_vit_b16").state(), **scalars}, path)
    return load_clip("ViT-B-16", path)


def test_clip_vit_b16(golden: Callable[[str], Golden], clip_b16: LoadedClip) -> None:
    gold = golden("clip_vit_b16")
    images, tokens = gold.input("images")[:2], clip_b16.tokenizer(gold.case["inputs"]["texts"])
    frames, texts = encode_frames(clip_b16.model.visual, images), encode_text(clip_b16.model, tokens)
    gold.check("image_features", frames)
    gold.check("tokens", tokens.int())
    gold.check("text_features", texts)
    cosine = torch.nn.functional.normalize(frames, dim=-1) @ torch.nn.functional.normalize(texts, dim=-1).T
    gold.check("logits_per_image", clip_b16.model.logit_scale.exp() * cosine)


def test_clip_vit_b32(golden: Callable[[str], Golden]) -> None:
    """The image tower; the golden has no texts."""
    gold = golden("clip_vit_b32")
    visual = image_tower(
        "ViT-B-32", {k.removeprefix("visual."): v for k, v in gold.state(but="t").items() if k.startswith("visual.")}
    )
    images = gold.input("images")
    tokens = class_tokens(visual, images)
    gold.check("visual_block0_cls", tokens[0])
    gold.check("visual_block11_cls", tokens[11])
    gold.check("image_features", encode_frames(visual, images))


def image_tower(name: str, state: dict[str, Tensor]) -> Any:
    """open_clip's image tower with these weights; a projection that the state lacks stays random."""
    config = clip_config(name)
    visual = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"], quick_gelu=True)
    visual.load_state_dict({"proj": visual.proj.data, **state})
    return visual


def test_aim_vit_b16(golden: Callable[[str], Golden], tmp_path: Path) -> None:
    """The frame encoder is AIM's, through `fclip convert --from aim` (mmcv's names, classifier and all)."""
    gold = golden("aim_vit_b16")
    state = {f"backbone.{name}": tensor for name, tensor in gold.state().items()}
    state["cls_head.fc_cls.weight"] = torch.ones(4, 768)
    torch.save({"meta": {"epoch": 30}, "state_dict": state}, tmp_path / "aim.pth")
    report = convert(tmp_path / "aim.pth", tmp_path / "aim.safetensors", "aim")
    assert report.metadata["clip"] == "ViT-B-16" and report.missing == ("visual.proj",)
    weights = load_file(tmp_path / "aim.safetensors")

    visual = image_tower(
        "ViT-B-16", {k.removeprefix("visual."): v for k, v in weights.items() if k.startswith("visual.")}
    )
    frames = gold.case["constructor"]["num_frames"]
    encoder = FrameEncoder(768, 12, frames, 192, gold.case["constructor"]["adapter_scale"])
    encoder.load_state_dict({k.removeprefix("frames."): v for k, v in weights.items() if k.startswith("frames.")})

    clips = gold.input("video")[:1].transpose(1, 2)  # (1, T, 3, H, W)
    x = encoder._before_readout(visual, clips)  # (T, B, N, D)
    token = visual.ln_post(encoder._readout(visual.transformer.resblocks[-1], x))  # (T, B, D)
    gold.check("features", token.permute(1, 2, 0)[..., None, None])


def test_longclip_b16(golden: Callable[[str], Golden], clip_b16: LoadedClip, tmp_path: Path) -> None:
    """Two positional tables that differ, texts of 3 to 168 tokens."""
    gold = golden("longclip_b16")
    torch.save(gold.state(but="visual."), tmp_path / "longclip-B.pt")
    tower = CaptionTower(clip_b16.model, tmp_path / "longclip-B.pt")
    tokens = clip_b16.tokenizer(gold.case["inputs"]["texts"], context_length=248)
    gold.check("tokens", tokens.int())
    gold.check("eot_index", tokens.argmax(dim=-1).int())
    features = tower(tokens) @ tower.projection
    gold.check("text_features", features)
    short = tokens.argmax(dim=-1) < 77
    torch.testing.assert_close(tower(tokens[short, :77]) @ tower.projection, features[short])  # length changes nothing
