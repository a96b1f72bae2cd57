"""Numbers of the official implementations: CLIP's two towers, AIM's frame encoder, Long-CLIP, the tokenizer.

The weights are procedural (the parity folder's README); they are written as the files that users have, and read through
`load_clip`, `fclip convert` and the caption tower. Every case and every output of the files is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

import fclip.models.backbone.clip as backbone
import fclip.models.backbone.encode as encoding
from fclip.models.backbone.attention import plain_block
from fclip.models.backbone.clip import clip_config, load_clip
from fclip.models.backbone.encode import encode_frames, encode_text, image_tower
from fclip.models.backbone.tokenizer import clip_tokenizer
from fclip.models.convert import convert
from fclip.models.finecliper.frames import FrameEncoder
from fclip.models.finecliper.texts import CaptionTower
from tests.goldens import Golden, difference, forget_tensors

END = 49407  # the end token, which the golden's decoded texts leave out
SCALARS = {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}  # OpenAI's


LOADED: dict[str, Any] = {}  # CLIP by name, as test_clip has loaded it


@pytest.fixture(scope="module", autouse=True)
def _memory() -> Iterator[None]:
    """Files are read once, so they need no checksums, a second a gigabyte; then all memory is given back."""
    torch.serialization.set_crc32_options(False)
    yield
    torch.serialization.set_crc32_options(True)
    LOADED.clear()
    forget_tensors()


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def clip_name(case: dict[str, Any]) -> str:
    """The model of these arguments of the official class."""
    made = case["constructor"]
    width = made.get("vision_width", made.get("width"))
    patch = made.get("vision_patch_size", made.get("patch_size"))
    size = made.get("image_resolution", made.get("input_resolution"))
    for name in backbone.OPENAI_NAMES:
        vision = clip_config(name)["vision_cfg"]
        if (vision["width"], vision["patch_size"], vision["image_size"]) == (width, patch, size):
            return name
    raise AssertionError(f"no CLIP of width {width}, patch {patch}, {size} pixels")


def image_outputs(visual: Any, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Image features, and the class token after each block: of all but the last as `encode_frames` computes them."""
    after: list[Tensor] = []

    def recorded(block: Any, x: Tensor, causal: bool = False) -> Tensor:
        after.append(plain_block(block, x, causal))
        return after[-1]

    with monkeypatch.context() as patch:
        patch.setattr(encoding, "plain_block", recorded)
        features = encode_frames(visual, images)
    after.append(plain_block(image_tower(visual).blocks[-1], after[-1]))
    return {"image_features": features} | {f"visual_block{i}_cls": x[:, 0] for i, x in enumerate(after)}


def built_tower(name: str, state: dict[str, Tensor]) -> Any:
    """open_clip's image tower of these weights (names with `visual.`); a projection that they lack is zero."""
    config = clip_config(name)
    with torch.device("meta"):
        visual = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"], quick_gelu=True)
    own = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    visual.load_state_dict({"proj": torch.zeros(visual.proj.shape), **own}, assign=True)
    return visual


@pytest.mark.parametrize("system", ["clip_vit_b16", "clip_vit_b32"])
def test_clip(parity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    """From a file as users have it, OpenAI's three scalars included; the image tower alone where there are no texts."""
    golden = Golden(parity, system)
    for case in golden.cases:
        state, images = golden.state(case), golden.input(case, "images")
        if "texts" not in case["inputs"]:
            golden.check(case, image_outputs(built_tower(clip_name(case), state), images, monkeypatch))
            continue
        torch.save({**state, **SCALARS}, tmp_path / "clip.pt")
        clip = LOADED[clip_name(case)] = load_clip(clip_name(case), tmp_path / "clip.pt")
        found = image_outputs(clip.model.visual, images, monkeypatch)
        found["tokens"] = clip.tokenizer(case["inputs"]["texts"])
        found["text_features"] = encode_text(clip.model, found["tokens"])
        cosine = normalize(found["image_features"], dim=-1) @ normalize(found["text_features"], dim=-1).T
        found["logits_per_image"] = clip.model.logit_scale.exp() * cosine
        found["logits_per_text"] = found["logits_per_image"].T
        golden.check(case, found)
    golden.assert_all_read()


def test_aim(parity: Path, tmp_path: Path) -> None:
    """The frame encoder is AIM's, through `fclip convert --from aim` (mmcv's names, classifier and all): all clips."""
    golden = Golden(parity, "aim_vit_b16")
    for case in golden.cases:
        state = {f"backbone.{name}": tensor for name, tensor in golden.state(case).items()}
        state["cls_head.fc_cls.weight"] = torch.ones(4, 768)
        torch.save({"meta": {"epoch": 30}, "state_dict": state}, tmp_path / "aim.pth")
        report = convert(tmp_path / "aim.pth", tmp_path / "aim.safetensors", "aim")
        assert report.metadata["clip"] == clip_name(case) and report.missing == ("visual.proj",)
        weights = load_file(tmp_path / "aim.safetensors")
        golden.check(case, aim_outputs(case, weights, golden.input(case, "video").transpose(1, 2)))
    golden.assert_all_read()


def aim_outputs(case: dict[str, Any], weights: dict[str, Tensor], clips: Tensor) -> dict[str, Tensor | np.ndarray]:
    """Features (B, D, T, 1, 1) and what stands after each block; all but the last as the encoder computes them."""
    made = case["constructor"]
    visual = built_tower(clip_name(case), weights)
    own = {k.removeprefix("frames."): v for k, v in weights.items() if k.startswith("frames.")}
    hidden = own["blocks.0.spatial.down.bias"].shape[0]
    both = made.get("num_tadapter", 1) == 2
    sizes = (made["width"], made["layers"], made["num_frames"], hidden)
    encoder = FrameEncoder(*sizes, made["adapter_scale"], both=both)
    encoder.load_state_dict(own)
    after: list[Tensor] = []
    plain = encoder._block

    def recorded(block: Any, adapters: Any, x: Tensor) -> Tensor:
        after.append(plain(block, adapters, x))
        return after[-1]

    encoder._block = recorded  # type: ignore[method-assign]
    tower = image_tower(visual)
    x = encoder._before_readout(tower, clips)  # (T, B, N, D)
    token = visual.ln_post(encoder._readout(tower.blocks[-1], x))[:, :, 0]  # (T, B, D)
    after.append(plain(tower.blocks[-1], encoder.blocks[-1], after[-1]))
    found: dict[str, Tensor | np.ndarray] = {"features": token.permute(1, 2, 0)[..., None, None]}
    for i, x in enumerate(after):
        tokens = x.transpose(0, 1).flatten(0, 1).transpose(0, 1)  # (N, B*T, D)
        found[f"block{i}_norm"] = tokens.double().norm()[None]
        found[f"block{i}_cls"] = tokens[0]
        found[f"block{i}_patch_subset"] = tokens[1::28, :, ::32]
    return found


def test_longclip(parity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts through two positional tables that differ; the image tower through `fclip convert --from longclip`.

    Where the file has no images, the tower is shown CLIP's: with CLIP's weights it must give CLIP's features.
    """
    golden, clips = Golden(parity, "longclip_b16"), Golden(parity, "clip_vit_b16")
    for case in golden.cases:
        state, name = golden.state(case), clip_name(case)
        torch.save(state, tmp_path / "longclip.pt")
        convert(tmp_path / "longclip.pt", tmp_path / "longclip.safetensors", "longclip")
        weights = load_file(tmp_path / "longclip.safetensors")
        found: dict[str, Tensor] = {}
        visual = built_tower(name, weights)
        if "images" in case["inputs"]:
            found |= image_outputs(visual, golden.input(case, "images"), monkeypatch)
        else:
            check_as_clip(clips, visual, state)
        clip = LOADED.get(name) or load_clip(name, "random")  # of its text tower nothing but the form counts
        tower = CaptionTower(clip.model, tmp_path / "longclip.pt")
        found["tokens"] = tokens = clip.tokenizer(case["inputs"]["texts"], context_length=248)
        found["eot_index"] = tokens.argmax(dim=-1)
        found["text_features"] = features = tower(tokens) @ tower.tower.projection
        if "image_features" in found:
            cosine = normalize(found["image_features"], dim=-1) @ normalize(features, dim=-1).T
            found["logits_per_image"] = weights["logit_scale"].exp() * cosine
        golden.check(case, found)
        short = found["eot_index"] < 77
        torch.testing.assert_close(
            tower(tokens[short, :77]) @ tower.tower.projection, features[short]
        )  # length is nothing
    golden.assert_all_read()


def check_as_clip(clips: Golden, visual: Any, state: dict[str, Tensor]) -> None:
    """CLIP's golden features of one image, by the tower of a file whose image weights are CLIP's."""
    for case in clips.cases:
        images = clips.input(case, "images")[:1]
        shapes = {row[0]: tuple(row[1]) for row in case["state_dict"] if row[0].startswith("visual.")}
        if clips.spec["seed"] == 1 and shapes == {k: tuple(v.shape) for k, v in state.items() if k in shapes}:
            own = clips.state({"name": "", "state_dict": [row for row in case["state_dict"] if row[0] in shapes]})
            if all(torch.equal(own[name], state[name]) for name in own):
                output = case["outputs"]["image_features"]
                gold = clips.outputs[output["npz"]][:1]
                assert not (
                    told := difference(
                        "Long-CLIP image_features", encode_frames(visual, images), gold, output["tolerance"]
                    )
                ), told
                return
    raise AssertionError("no golden for Long-CLIP's image tower")


def test_tokenizer(parity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All strings at each context length that the file has, literal special words included; what ftfy does to them."""
    golden = Golden(parity, "tokenizer")
    tokenizer, texts = clip_tokenizer(), golden.spec["texts"]
    lengths = [name for name in golden.outputs.files if name.startswith("ids_")]
    assert lengths and texts
    for name in lengths:
        mine = tokenizer(texts, int(name.removeprefix("ids_"))).numpy()
        wrong = (mine != golden.outputs[name]).any(axis=1).nonzero()[0]
        assert not len(wrong), f"{name}: {[texts[i] for i in wrong]}; " + difference(
            name, mine, golden.outputs[name], {"exact": True}
        )
    counts = np.array([len(tokenizer.encode(text)) for text in texts])
    assert not (told := difference("n_bpe", counts, golden.outputs["n_bpe"], {"exact": True})), told
    assert (counts > 75).nonzero()[0].tolist() == golden.spec["over_long_without_truncate"]
    for text, decoded in zip(texts, golden.spec["decoded_77"], strict=True):
        assert tokenizer.decode([i for i in tokenizer.encode(text)[:75] if i != END]) == decoded
    monkeypatch.setattr(open_clip.tokenizer.ftfy, "fix_text", lambda text: text)
    changed = (tokenizer(texts, 77).numpy() != golden.outputs["ids_77"]).any(axis=1)
    assert (changed == golden.outputs["changes_without_ftfy"]).all()
    golden.assert_all_read()


def test_a_word_like_the_end_does_not_end_a_text() -> None:
    """open_clip's own names of the special tokens are words like any other; OpenAI's are the tokens, as in theirs."""
    tokenizer = clip_tokenizer()
    caption = tokenizer(["her mouth <end_of_text> opens <start_of_text> wide"])[0].tolist()
    assert caption.count(49407) == 1 and caption.count(49406) == 1 and caption.index(49407) > 8
    assert tokenizer(["a <|endoftext|> b"])[0].tolist().count(49407) == 2
    assert tokenizer.decode(tokenizer.encode("a <|endoftext|> b")).split() == ["a", "<|endoftext|>b"]
