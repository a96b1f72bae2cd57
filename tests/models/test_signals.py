"""Variant `signals`: what it makes of signals, how it chooses C, and that it goes through every command."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from typer.testing import CliRunner

from fclip.cli.app import app
from fclip.data.storage.shards import read_shard
from fclip.engine.batches.prepare import InputPreparer
from fclip.errors import FclipError, UsageError
from fclip.models import create_model, load_model
from fclip.models.baselines.signals import STRENGTHS, choose_strength
from fclip.models.checkpoint import load_checkpoint, save_checkpoint
from fclip.models.signal_statistics import summarise

NAMES = ["browLeft", "browRight", "jaw", "still"]
CLASSES = ["a", "b", "c"]


def clips(count: int = 60, frames: int = 4, seed: int = 0) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Clips whose class is how high jaw is; `still` never changes; ten people."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    signals = rng.normal(size=(count, frames, len(NAMES)))
    signals[:, :, 2] += 4 * labels[:, None]
    signals[:, :, 3] = 0.7
    infos = [{"signal_names": NAMES, "identity": f"p{index % 10}"} for index in range(count)]
    return {"signals": torch.tensor(signals, dtype=torch.float32), "labels": torch.tensor(labels)}, infos


def fitted(batch: dict[str, torch.Tensor], infos: list[dict], classes: list[str] = CLASSES):
    model = create_model("signals", "tiny", classes, 4)
    return model.eval(), model.fit([(batch, infos)], 0)


def run(*arguments: object) -> dict:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_level_range_and_trend() -> None:
    """Over frames with a face only; sides are averaged; the trend is the change over the whole clip."""
    signals = torch.tensor([[[1.0, 3.0, 0.5], [0, 0, 0], [3.0, 5.0, 1.5], [4.0, 6.0, 2.0]]])
    features, seen = summarise(signals, ["xLeft", "xRight", "y"])
    assert seen.tolist() == [True]
    assert np.allclose(features[0], [11 / 3, 4 / 3, 3, 1.5, 3, 1.5])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(arrays.arrays(np.float32, (2, 3, 4), elements=st.floats(-1e6, 1e6, width=32)), st.integers(0, 7))
def test_features_are_finite_whatever_the_signals(values: np.ndarray, gone: int) -> None:
    signals = torch.from_numpy(values)
    signals[0, [bool(gone >> bit & 1) for bit in range(3)]] = 0
    features, seen = summarise(signals, NAMES)
    assert features.isfinite().all() and features.shape == (2, 9)
    assert not features[~seen].any()


def test_fits_the_same_bytes_again_and_is_read_back(tmp_path: Path) -> None:
    batch, infos = clips()
    model, facts = fitted(batch, infos)
    assert (model(batch).logits.argmax(1) == batch["labels"]).float().mean() > 0.9
    assert facts["grouped"] and facts["C"] in STRENGTHS and facts["cross_validated_uar"] > 0.8
    save_checkpoint(tmp_path / "one.safetensors", model)
    save_checkpoint(tmp_path / "two.safetensors", fitted(batch, infos)[0])
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    loaded = load_model(tmp_path / "one.safetensors")
    assert loaded.signal_names == tuple(NAMES) and loaded.modalities == ("signals",)
    assert torch.equal(loaded(batch).logits, model(batch).logits)
    state, meta = load_checkpoint(tmp_path / "one.safetensors")
    assert set(state) == {"weight", "bias", "mean"} and meta["options"] == {"signals": NAMES, "strength": 0.0}


def test_probe_adds_what_the_frames_show(tmp_path: Path) -> None:
    """Where signals say nothing of the class and the frames do; frames without a face are left out of the mean."""
    batch, infos = clips()
    labels = batch["labels"]
    batch["signals"][:, :, 2] -= 4 * labels[:, None]
    batch["signals"][:, 3] = 0  # no face in the last frame
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(labels), 4, 3, 80, 80, generator=generator)
    batch["frames"] = 0.2 * noise + (labels - 1.0)[:, None, None, None, None]
    batch["frames"][:, 3] = noise[:, 3]
    alone, _ = fitted(batch, infos)
    model = create_model("signals-probe", "tiny", CLASSES, 4, strength=0.01).eval()
    assert model.fit([(batch, infos)], 0)["C"] == 0.01, "given, so not searched for"
    share = [float((each(batch).logits.argmax(1) == labels).float().mean()) for each in (alone, model)]
    assert share[0] < 0.7 < 0.95 < share[1]
    cached = {name: values for name, values in batch.items() if name != "frames"}
    cached["frame_features"] = model.frozen_encoders()["frames"].encode(batch["frames"])
    assert torch.equal(model(cached).logits, model(batch).logits)
    save_checkpoint(tmp_path / "probe.safetensors", model)
    loaded = load_model(tmp_path / "probe.safetensors")
    assert set(load_checkpoint(tmp_path / "probe.safetensors")[0]) == {"weight", "bias", "mean"}
    assert torch.equal(loaded(batch).logits, model(batch).logits)
    with pytest.raises(UsageError, match="strength"):
        create_model("signals-probe", "tiny", CLASSES, strength=-1.0)


def test_constant_signals_and_clips_without_a_face() -> None:
    """Neither gives NaN; a clip without any face has the logits of the mean clip, the bias, and is not trained on."""
    batch, infos = clips()
    model, facts = fitted(batch, infos)
    batch["signals"][::5] = 0
    blind, fewer = fitted(batch, infos)
    assert (facts["clips"], fewer["clips"]) == (60, 48)
    logits = blind(batch).logits
    assert logits.isfinite().all() and torch.equal(logits[0], blind.bias.detach())
    assert not model.weight[:, 2].any() and not model.weight[:, 5].any(), "still, and its range"


def test_two_classes_and_an_absent_one(caplog: pytest.LogCaptureFixture) -> None:
    batch, infos = clips()
    kept = batch["labels"] < 2
    batch = {name: values[kept] for name, values in batch.items()}
    model, _ = fitted(batch, [{**info, "identity": ""} for info in infos][: int(kept.sum())])
    assert "no training clip of class c" in caplog.text and "not all identities are known" in caplog.text
    assert (model(batch).logits.argmax(1) == batch["labels"]).float().mean() > 0.9
    with pytest.raises(FclipError, match="1 classes; two are needed"):
        fitted({name: values[:1] for name, values in batch.items()}, infos[:1])


def test_people_are_kept_apart_when_c_is_chosen() -> None:
    """Features that tell people, and labels that go with them: only folds that mix people score well."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(20), 6)
    features = np.eye(20)[people] * 5 + rng.normal(size=(120, 20)) * 0.1
    targets = rng.permutation(np.arange(20) % 2)[people]
    apart = choose_strength(features, targets, [str(person) for person in people], 0)[1]
    mixed = choose_strength(features, targets, [str(row) for row in range(120)], 0)[1]
    assert mixed > 0.95 and apart < 0.7


def test_other_signals_are_refused() -> None:
    batch, infos = clips()
    model, _ = fitted(batch, infos)
    prepare = InputPreparer(model, torch.device("cpu"))
    rows = {"keys": ["k"], "frames": torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8), "signals": batch["signals"][:1]}
    for names in (["other", *NAMES[1:]], NAMES[::-1], NAMES[:3]):
        with pytest.raises(FclipError, match="clip k: its signals are not those of the training clips"):
            list(prepare.groups({**rows, "infos": [{"signal_names": names}]}))
    ((_, inputs),) = prepare.groups({**rows, "infos": [{"signal_names": NAMES}]})
    assert torch.equal(inputs["signals"], rows["signals"])
    with pytest.raises(FclipError, match="run fclip face-analyze and fclip pack"):
        model({})


def test_train_eval_report_and_predict(workspace: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The commands as with any variant; same seed, same bytes; options of gradients are said to have no effect."""
    (tmp_path / "demo7").symlink_to(workspace / "demo7")
    common = ("--root", tmp_path, "--dataset", "demo7")
    train = ("train", "--variant", "signals", *common)
    run(*train, "--lr", 0.1, "--out", tmp_path / "runs" / "one")
    assert "--lr has no effect" in caplog.text
    files = []
    for name, more in (("two", ()), ("three", ()), ("held", ("--select", "val"))):
        run(*train, "--out", tmp_path / "runs" / name, *more)
        (file,) = (tmp_path / "runs" / name).glob("step-*/model.safetensors")
        files.append(file.read_bytes())
    assert files[0] == files[1] and (tmp_path / "runs" / "held" / "BEST").is_file()
    row = run("eval", tmp_path / "runs" / "two", *common)["results"][0]
    assert row["variant"] == "signals" and row["modalities"] == ["signals"] and row["trainable"] > 0
    assert row["clip"] is None, "it is made from none"
    run("report", *common, "--out", tmp_path / "report.html")
    assert "first baseline" not in (tmp_path / "report.html").read_text()
    run("train", "--variant", "linear-probe", "--clip", "tiny", "--epochs", 1, *common, "--out", tmp_path / "other")
    run("eval", tmp_path / "other", *common)
    run("report", tmp_path / "other", *common, "--out", tmp_path / "other.md")
    assert "demo7: the first baseline is missing" in (tmp_path / "other.md").read_text()
    run("train", "--variant", "signals-probe", "--clip", "tiny", *common, "--out", tmp_path / "runs" / "probe")
    row = run("eval", tmp_path / "runs" / "probe", *common)["results"][0]
    assert row["modalities"] == ["frames+signals"] and row["trainable"] > 0
    clip = next((workspace / "demo7" / "source").rglob("*.mp4"))
    answer = CliRunner().invoke(app, ["predict", str(clip), "--checkpoint", str(tmp_path / "runs" / "two"), "--json"])
    assert answer.exit_code == 0 and '"signals"' in answer.output, answer.output


def test_real_pictures(real_faces: Path, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Happiness and surprise of people who are not in training are told apart, far above chance."""
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("FCLIP_MODELS", str(models_dir))
    rows = list(csv.DictReader((real_faces / "labels.csv").read_text().splitlines()))
    chosen = [row for name in ("happiness", "surprise") for row in [r for r in rows if r["label"] == name][:40]]
    with tarfile.open(real_faces / "pictures.tar") as tar:
        members = {member.name.removeprefix("./"): member for member in tar.getmembers()}
        for row in chosen:
            target = tmp_path / row["path"]
            target.parent.mkdir(exist_ok=True)
            name = row["path"] if row["path"] in members else Path(row["path"]).name
            target.write_bytes(tar.extractfile(members[name]).read())
    with (tmp_path / "two.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "identity"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(chosen)
    common = ("--root", tmp_path / "w", "--dataset")
    run("preprocess", *common, "csv", "--source", tmp_path / "two.csv", "--frames", 1, "--crop", "mediapipe")
    run("face-analyze", *common, "two", "--backend", "mediapipe")
    run("pack", *common, "two", "--captions", "none")
    _, fields = next(iter(read_shard(next((tmp_path / "w" / "two" / "packed").glob("train-*.tar")))))
    assert json.loads(fields["json"])["identity"]
    run("train", "--variant", "signals", *common, "two")
    assert run("eval", "--variant", "signals", *common, "two")["results"][0]["uar"] > 0.7
