"""`convert` on small models of every kind, in the layout in which their authors distribute them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_files import EMOTIONS, write_coop, write_dfer_clip, write_torchscript
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_states import aim_state, coop_state, dfer_state, emoclip_state
from torch import Tensor
from typer.testing import CliRunner

from fclip.cli.app import app
from fclip.config import field_types
from fclip.data.storage.shards import parse_frame_sample, read_shard
from fclip.data.storage.splits import Splits
from fclip.engine.evaluate.predictions import read_predictions
from fclip.errors import FclipError, UsageError
from fclip.models import load_model
from fclip.models.backbone.clip import load_clip
from fclip.models.convert import convert
from fclip.models.convert.words import recover_texts
from fclip.registry import CONVERTERS
from fclip.stages import evaluate
from tests.data.storage_files import packed_shard, write_classes, write_splits

TOKENIZER = SimpleTokenizer()
TEXTS = [f"a {word} mouth, raised cheeks, and the eyebrows' ends lifted." for word in ("smiling", "flat", "tight")]


@pytest.fixture(scope="module")
def clip_state() -> dict[str, Tensor]:
    """The small CLIP with random weights, under OpenAI's names."""
    return load_clip("tiny", "random").model.state_dict()


@pytest.fixture
def clip_file(tmp_path: Path, clip_state: dict[str, Tensor]) -> Path:
    save_file(clip_state, tmp_path / "clip.safetensors")
    return tmp_path / "clip.safetensors"


def header(path: Path) -> dict:
    with safe_open(path, framework="pt") as file:
        return {**file.metadata(), "fclip": json.loads(file.metadata()["fclip"])}


def test_the_file_has_one_header_entry_and_the_mode_of_the_umask(tmp_path: Path, clip_file: Path) -> None:
    old = os.umask(0o027)
    try:
        convert(clip_file, tmp_path / "out.safetensors", "openai")
    finally:
        os.umask(old)
    assert header(tmp_path / "out.safetensors").keys() == {"fclip"}
    assert header(tmp_path / "out.safetensors")["fclip"]["format"] == "fclip-weights-1"
    assert (tmp_path / "out.safetensors").stat().st_mode & 0o777 == 0o640


def test_openai_archive_becomes_plain_weights(tmp_path: Path, clip_state: dict[str, Tensor]) -> None:
    scalars = {
        "input_resolution": torch.tensor(80),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    half = {k: v.half() if k.endswith("proj") else v for k, v in clip_state.items()}
    write_torchscript(
        tmp_path / "clip.pt", {**half, **scalars, "transformer.resblocks.0.attn_mask": torch.zeros(77, 77)}
    )
    report = convert(tmp_path / "clip.pt", tmp_path / "new" / "clip.safetensors", "openai")
    assert set(report.taken) == clip_state.keys()
    assert set(report.dropped) == {*scalars, "transformer.resblocks.0.attn_mask"} and report.missing == ()
    written = load_file(tmp_path / "new" / "clip.safetensors")
    assert written.keys() == half.keys() and all(torch.equal(written[k], half[k]) for k in half)
    loaded = load_clip("tiny", tmp_path / "new" / "clip.safetensors").model.state_dict()
    assert all(torch.equal(loaded[k], half[k].float()) for k in half)
    assert header(tmp_path / "new" / "clip.safetensors")["fclip"]["clip"] == "tiny"
    with pytest.raises(FclipError, match="fclip convert"):
        load_clip("tiny", tmp_path / "clip.pt")  # the archive itself is refused, and the message names this command


def test_farl_without_its_image_modelling_head(tmp_path: Path, clip_state: dict[str, Tensor]) -> None:
    extras = {
        "visual.lm_head.weight": torch.ones(4),
        "visual.mask_token": torch.ones(1),
        "visual.ln_lm.bias": torch.ones(1),
    }
    torch.save({"state_dict": {**clip_state, **extras}, "epoch": 64}, tmp_path / "farl.pth")
    report = convert(tmp_path / "farl.pth", tmp_path / "out.safetensors", "farl")
    assert set(report.dropped) == {*extras, "epoch"}
    assert load_clip("tiny", tmp_path / "out.safetensors").sha256 == load_clip("tiny", "random").sha256


def test_longclip_keeps_both_tables(tmp_path: Path, clip_state: dict[str, Tensor]) -> None:
    tables = {"positional_embedding": torch.randn(248, 128), "positional_embedding_res": torch.randn(248, 128)}
    torch.save({**clip_state, **tables}, tmp_path / "longclip.pt")
    convert(tmp_path / "longclip.pt", tmp_path / "out.safetensors", "longclip")
    written = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(written[k], tables[k]) for k in tables) and len(written) == len(clip_state) + 1
    torch.save(clip_state, tmp_path / "clip.pt")
    with pytest.raises(FclipError, match="positional_embedding_res"):
        convert(tmp_path / "clip.pt", tmp_path / "bad.safetensors", "longclip")


@pytest.mark.parametrize("shared", [False, True])
def test_dfer_clip_recovers_texts_and_loads(
    tmp_path: Path, clip_file: Path, clip_state: dict[str, Tensor], shared: bool
) -> None:
    state = dfer_state(clip_state, TEXTS, shared)
    write_dfer_clip(tmp_path / "model.pth", state)
    out = tmp_path / "out.safetensors"
    report = convert(tmp_path / "model.pth", out, "dfer-clip", position="end", classes=["joy", "calm", "stress"])
    assert report.metadata["options"]["descriptions"] == dict(zip(("joy", "calm", "stress"), TEXTS, strict=True))
    assert [TOKENIZER.encode(text) for text in TEXTS] == report.metadata["prompt_ids"]
    assert {"optimizer", "recorder", "best_acc", "epoch", "prompt_learner.token_suffix"} < set(report.dropped)
    model = load_model(out, clip_weights=clip_file, classes=["joy", "calm", "stress"])
    assert (
        model.preprocess.mean == (0, 0, 0) and model.preprocess.std == (1, 1, 1) and model.preprocess.resize == "squash"
    )
    trained = model.trainable_state()
    assert torch.equal(trained["prompt_learner.ctx"], state["prompt_learner.ctx"])
    assert torch.equal(trained["image_encoder.proj"], state["image_encoder.proj"])
    assert torch.equal(
        trained["temporal_net.blocks.0.up.bias"], state["temporal_net.temporal_transformer.layers.0.1.fn.fn.net.0.bias"]
    )
    with torch.no_grad():
        assert model({"frames": torch.rand(1, 8, 3, 80, 80)}).logits.isfinite().all()


def test_a_converted_dfer_clip_checkpoint_is_tested_by_eval(
    tmp_path: Path, clip_file: Path, clip_state: dict[str, Tensor]
) -> None:
    """The released file -> convert -> eval on a fold, with the probabilities of its own network on raw pixels."""
    classes = ("anger", "fear")
    write_dfer_clip(tmp_path / "model.pth", dfer_state(clip_state, TEXTS[:2]))
    out = tmp_path / "released.safetensors"
    convert(tmp_path / "model.pth", out, "dfer-clip", position="end", classes=classes, clip_weights=clip_file)
    packed = tmp_path / "toy" / "packed"
    packed.mkdir(parents=True)
    shard = packed_shard(packed / "part2-00000.tar", ["a", "b", "c"], classes, False, count=8, height=80, width=80)
    packed_shard(packed / "part1-00000.tar", ["d"], classes, False, count=8)
    sides = {"train": ["part1"], "test": ["part2"]}
    write_splits(packed, Splits("toy", {**dict.fromkeys("abc", "part2"), "d": "part1"}, {"1": sides}))
    write_classes(packed, list(classes))
    config = evaluate.Config(root=tmp_path, dataset="toy", runs=(str(out),), device="cpu")
    row = evaluate.run(config).values["results"][0]
    assert (row["variant"], row["dataset"]) == ("dfer-clip", "toy")
    table = read_predictions(tmp_path / "runs" / "toy-released-fold1" / "eval" / "predictions.csv")
    frames = torch.stack([torch.from_numpy(parse_frame_sample(*sample).frames) for sample in read_shard(shard)])
    with torch.no_grad():
        model = load_model(out)
        logits = model({"frames": frames.permute(0, 1, 4, 2, 3) / 255}).logits  # (B, T, 3, H, W)
    assert table.matrix() == pytest.approx(logits.softmax(-1).numpy(), abs=1e-4)
    with pytest.raises(UsageError, match="has the folds 1"):
        evaluate.run(replace(config, fold="7"))


def test_dfer_clip_needs_names_for_other_class_counts(tmp_path: Path, clip_state: dict[str, Tensor]) -> None:
    write_dfer_clip(tmp_path / "model.pth", dfer_state(clip_state, TEXTS))
    with pytest.raises(FclipError, match="3 classes"):
        convert(tmp_path / "model.pth", tmp_path / "out.safetensors", "dfer-clip", position="end")
    with pytest.raises(FclipError, match="2 names"):
        convert(tmp_path / "model.pth", tmp_path / "out.safetensors", "dfer-clip", position="end", classes=["a", "b"])


def test_converted_dfer_clip_refuses_another_clip(tmp_path: Path, clip_state: dict[str, Tensor]) -> None:
    write_dfer_clip(tmp_path / "model.pth", dfer_state(clip_state, TEXTS))
    convert(tmp_path / "model.pth", tmp_path / "out.safetensors", "dfer-clip", position="end", classes=["a", "b", "c"])
    changed = {**clip_state, "ln_final.bias": clip_state["ln_final.bias"] + 1e-3}
    save_file(changed, tmp_path / "other.safetensors")
    with pytest.raises(FclipError, match="clip_sha256"):
        load_model(tmp_path / "out.safetensors", clip_weights=tmp_path / "other.safetensors")
    changed = {**clip_state, "visual.ln_pre.bias": clip_state["visual.ln_pre.bias"] + 1}  # replaced by its own tower
    save_file(changed, tmp_path / "other.safetensors")
    load_model(tmp_path / "out.safetensors", clip_weights=tmp_path / "other.safetensors")


def test_emoclip_loads_with_any_classes(tmp_path: Path, clip_file: Path, clip_state: dict[str, Tensor]) -> None:
    state = emoclip_state(clip_state)
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "emoclip.pth")
    report = convert(tmp_path / "emoclip.pth", tmp_path / "out.safetensors", "emoclip", classes=EMOTIONS)
    assert all(name.startswith("backbone.") for name in report.dropped)
    model = load_model(tmp_path / "out.safetensors", clip_weights=clip_file)
    assert model.classes == EMOTIONS and model.options["head_width"] == 8
    assert torch.equal(model.trainable_state()["logit_scale"], torch.tensor(3.0))
    convert(tmp_path / "emoclip.pth", tmp_path / "eleven.safetensors", "emoclip")
    assert len(load_model(tmp_path / "eleven.safetensors", clip_weights=clip_file).classes) == 11


@pytest.mark.parametrize("kind", ["coop", "dfer-clip"])
def test_where_the_text_stands_is_asked(
    tmp_path: Path, clip_file: Path, clip_state: dict[str, Tensor], kind: str
) -> None:
    """No tensor tells it and each position gives other text features: without --position nothing is written."""
    state = coop_state(clip_state) if kind == "coop" else dfer_state(clip_state, TEXTS)
    (write_coop if kind == "coop" else write_dfer_clip)(tmp_path / "model.pth", state)
    out, given = tmp_path / "out.safetensors", options_for(kind, clip_file)
    given = given if kind == "dfer-clip" else {**given, "classes": ()}
    with pytest.raises(UsageError, match="where the text stands.*--position end .*middle or front"):
        convert(tmp_path / "model.pth", out, kind, **{**given, "position": None})
    assert not out.exists()
    features = []
    for position in ("end", "middle", "front"):
        report = convert(tmp_path / "model.pth", out, kind, **{**given, "position": position})
        model = load_model(out, clip_weights=clip_file).eval()
        assert report.metadata["options"]["position"] == model.options["position"] == position
        with torch.no_grad():
            features.append(model.prompt_learner(model.clip))
    for i in range(3):
        assert (features[i] - features[i - 1]).abs().max() > 1e-2


@pytest.mark.parametrize("conditional", [False, True])
def test_coop_recovers_class_names(
    tmp_path: Path, clip_file: Path, clip_state: dict[str, Tensor], conditional: bool
) -> None:
    state = coop_state(clip_state, conditional)
    write_coop(tmp_path / "model.pth.tar-50", state)
    make = partial(convert, tmp_path / "model.pth.tar-50", tmp_path / "out.safetensors", "coop", clip="tiny")
    make = make if conditional else partial(make, position="end")
    report = make(clip_weights=clip_file)
    assert report.metadata["variant"] == ("cocoop" if conditional else "coop")
    model = load_model(tmp_path / "out.safetensors")
    assert model.classes == EMOTIONS
    assert all(torch.equal(model.trainable_state()[k], state[k]) for k in model.trainable_state())
    with pytest.raises(FclipError, match="trained on classes"):
        make(clip_weights=clip_file, classes=EMOTIONS[::-1])
    other = {**clip_state, "token_embedding.weight": clip_state["token_embedding.weight"] + 1e-4}
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(FclipError, match="another CLIP"):
        make(clip_weights=tmp_path / "other.safetensors")


def test_facexformer_entry_is_taken_without_the_optimizer(tmp_path: Path) -> None:
    from importlib.resources import files

    listed = json.loads((files("fclip") / "resources" / "facexformer_tensors.json").read_text())
    assert (
        len(listed) == 505 and sum(torch.Size(s).numel() for s in listed.values()) == 91_985_943 + 24 * 2401 + 2 * 128
    )
    state = {k: torch.zeros(s, dtype=torch.int64 if k.endswith("_index") else torch.float16) for k, s in listed.items()}
    torch.save({"state_dict_backbone": state, "optimizer": {"state": {0: torch.ones(2)}}}, tmp_path / "model.pt")
    report = convert(tmp_path / "model.pt", tmp_path / "out.safetensors", "facexformer")
    assert len(report.taken) == 505 and report.dropped == ("optimizer",)
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(listed)
    state["linear_fuse.weight"] = torch.zeros(256, 1024, 1, 2, dtype=torch.float16)
    torch.save({"state_dict_backbone": state}, tmp_path / "model.pt")
    with pytest.raises(
        FclipError, match=r"linear_fuse.weight has shape \(256, 1024, 1, 2\), expected \(256, 1024, 1, 1\)"
    ):
        convert(tmp_path / "model.pt", tmp_path / "bad.safetensors", "facexformer")


# -- files that do not fit ----------------------------------------------------------------------------------------


def wrong(state: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    name = next(k for k in state if k.endswith(("conv1.weight", "ctx")))
    if how == "shape":
        return {**state, name: state[name][..., :-1].clone()}
    if how == "missing":
        return {k: v for k, v in state.items() if k != name}
    if how == "integers":
        return {**state, name: state[name].long()}
    return {**state, "head.weight": torch.zeros(2)}


def options_for(kind: str, clip_file: Path) -> dict[str, Any]:
    """Those of the usual options that the converter has."""
    usual = {"classes": ["x", "y", "z"], "clip": "tiny", "clip_weights": str(clip_file), "position": "end"}
    return {name: value for name, value in usual.items() if name in field_types(CONVERTERS.options(kind))}


@pytest.mark.parametrize("how", ["shape", "missing", "integers", "surplus"])
@pytest.mark.parametrize("kind", ["openai", "farl", "aim", "dfer-clip", "emoclip", "coop"])
def test_states_that_do_not_fit_are_refused(
    tmp_path: Path, clip_file: Path, clip_state: dict[str, Tensor], kind: str, how: str
) -> None:
    states = {
        "openai": clip_state,
        "farl": clip_state,
        "aim": aim_state(clip_state),
        "emoclip": emoclip_state(clip_state),
        "dfer-clip": dfer_state(clip_state, TEXTS),
        "coop": coop_state(clip_state),
    }
    torch.save({"state_dict": wrong(states[kind], how)}, tmp_path / "a.pth")
    with pytest.raises(FclipError) as error:
        convert(tmp_path / "a.pth", tmp_path / "out.safetensors", kind, **options_for(kind, clip_file))
    assert "a.pth" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("wrappers", "prefix"),
    [
        ((), "module."),
        (("state_dict",), "_orig_mod."),
        (("state_dict",), "model."),
        (("model",), "_orig_mod.module."),
        (("model_state_dict",), "module._orig_mod.model.backbone."),
        (("ema",), ""),
        (("state_dict", "model"), "net."),
        (("model_ema", "state_dict"), "module."),
    ],
)
def test_what_training_loops_wrap_around_a_model_is_taken_off(
    tmp_path: Path, clip_state: dict[str, Tensor], wrappers: tuple[str, ...], prefix: str
) -> None:
    """Wrappers and prefixes in any nesting: the same tensors, and all else is ballast."""
    tree: dict[str, Any] = {prefix + name: tensor for name, tensor in clip_state.items()}
    for name in reversed(wrappers):
        tree = {"epoch": 3, name: tree, "optimizer": {"lr": 0.1}}
    torch.save(tree, tmp_path / "a.pth")
    report = convert(tmp_path / "a.pth", tmp_path / "out.safetensors", "openai")
    assert set(report.taken) == set(clip_state)
    plain = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(plain[name], tensor) for name, tensor in clip_state.items())


def test_compiled_parts_and_unknown_prefixes(tmp_path: Path, clip_state: dict[str, Tensor]) -> None:
    """torch.compile of a part marks its names in the middle; a prefix that nobody knows is named."""
    torch.save({k.replace("visual.", "visual._orig_mod."): v for k, v in clip_state.items()}, tmp_path / "a.pth")
    assert len(convert(tmp_path / "a.pth", tmp_path / "a.safetensors", "openai").taken) == len(clip_state)
    torch.save({"state_dict": {"student.clip." + k: v for k, v in clip_state.items()}}, tmp_path / "b.pth")
    with pytest.raises(FclipError, match=rf"the names in the file begin with student\. \({len(clip_state)}\)"):
        convert(tmp_path / "b.pth", tmp_path / "b.safetensors", "openai")


def test_an_archive_of_another_model_is_refused(tmp_path: Path, clip_file: Path, clip_state: dict[str, Tensor]) -> None:
    states = {
        "openai": clip_state,
        "aim": aim_state(clip_state),
        "emoclip": emoclip_state(clip_state),
        "dfer-clip": dfer_state(clip_state, TEXTS),
        "coop": coop_state(clip_state),
        "other": {"w": torch.ones(2)},
    }
    for source, state in states.items():
        torch.save({"state_dict": state}, tmp_path / "a.pth")
        for kind in CONVERTERS.names():
            same = {source, kind} in ({"openai", "farl"}, {"coop", "cocoop"})
            if kind != source and not same:
                with pytest.raises(FclipError) as error:
                    convert(tmp_path / "a.pth", tmp_path / "out.safetensors", kind, **options_for(kind, clip_file))
                assert "\n" not in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "clip.safetensors"]


def test_arguments_are_checked(tmp_path: Path, clip_file: Path) -> None:
    with pytest.raises(UsageError, match="there are: openai"):
        convert(clip_file, tmp_path / "out.safetensors", "vgg")
    with pytest.raises(UsageError, match="own source"):
        convert(clip_file, clip_file, "openai")
    with pytest.raises(FclipError, match="no such file"):
        convert(tmp_path / "nothing.pt", tmp_path / "out.safetensors", "openai")
    (tmp_path / "file").write_text("")
    with pytest.raises(FclipError, match="written"):
        convert(clip_file, tmp_path / "file" / "out.safetensors", "openai")


def test_the_command_prints_what_became_of_the_names(tmp_path: Path, clip_state: dict[str, Tensor]) -> None:
    source, out = tmp_path / "model.pth", tmp_path / "out.safetensors"
    write_dfer_clip(source, dfer_state(clip_state, TEXTS))
    arguments = [
        "convert",
        str(source),
        str(out),
        "--from",
        "dfer-clip",
        "--position",
        "end",
        "--classes",
        "joy,calm,stress",
    ]
    printed = CliRunner().invoke(app, arguments).stdout.splitlines()
    assert [line.split(":")[0] for line in printed] == ["convert", "taken", "dropped", "missing"]
    assert "best_acc" in printed[2] and printed[3] == "missing: nothing"
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "exists already" in again.stderr
    names = json.loads(CliRunner().invoke(app, [*arguments, "--overwrite", "--json"]).stdout)
    assert {"optimizer", "recorder", "prompt_learner.token_suffix"} < set(names["dropped"])
    assert "prompt_learner.ctx" in names["taken"] and names["counts"]["taken"] == len(names["taken"])


WORDS = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P"]) | st.just(" ") | st.sampled_from("éß漢😀"), max_size=40
)


@settings(deadline=None, max_examples=12)
@given(texts=st.lists(WORDS, min_size=1, max_size=3), half=st.booleans())
def test_any_text_is_recovered_from_its_rows(texts: list[str], half: bool) -> None:
    """The recovered text has the same tokens, whatever was written."""
    table = torch.randn(49408, 8, generator=torch.Generator().manual_seed(0))
    ids = TOKENIZER([f"X {text}" for text in texts])
    rows = table[ids][:, 2:]
    suffix, table = (rows.half(), table) if half else (rows, table)
    recovered, found = recover_texts(suffix, table, Path("file"))
    assert torch.equal(TOKENIZER([f"X {text}" for text in recovered]), ids)
    assert found == [row[2 : row.index(49407)] for row in ids.tolist()]
