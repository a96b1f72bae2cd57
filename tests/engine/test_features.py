"""Cached features: equal to computed ones, never stale, and training on them runs no frozen tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fclip.data.storage.parts import read_features, write_features
from fclip.data.storage.splits import Splits
from fclip.engine.batches.features import FeatureLoader
from fclip.engine.batches.loading import clip_loader
from fclip.engine.batches.prepare import InputPreparer
from fclip.engine.train.run_folder import RunFolder
from fclip.models import create_model
from fclip.models.base import ExpressionModel
from fclip.models.baselines.emoclip import Emoclip
from fclip.models.baselines.frozen import FrozenTowers
from fclip.models.finecliper.texts import CaptionTower
from fclip.stages import evaluate, train
from tests.data.storage_files import packed_shard, write_classes, write_splits

CLASSES = ("anger", "fear")
SMALL: dict[str, Any] = {"clip": "tiny", "clip_weights": "random", "epochs": 2, "batch_size": 3, "device": "cpu"}
OPTIONS: dict[str, tuple[str, ...]] = {"emoclip": ("head_width=8", "mlp_width=16")}


def make(variant: str, frames: int = 4, **options: Any) -> ExpressionModel:
    torch.manual_seed(0)
    return create_model(variant, "tiny", CLASSES, frames, "random", **options).eval()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace whose data set "toy" has two parts of four packed clips."""
    packed = tmp_path / "toy" / "packed"
    packed.mkdir(parents=True)
    keys = {f"{part}-{n}": part for part in ("part1", "part2") for n in range(4)}
    for part in ("part1", "part2"):
        packed_shard(packed / f"{part}-00000.tar", [key for key in keys if keys[key] == part])
    write_splits(packed, Splits("toy", keys, {"1": {"train": ("part1",), "test": ("part2",)}}))
    write_classes(packed, list(CLASSES))
    return tmp_path


def shards(root: Path) -> list[Path]:
    return sorted((root / "toy" / "packed").glob("*.tar"))


def parts(root: Path) -> dict[Path, int]:
    """Every part file and when it was written."""
    return {path: path.stat().st_mtime_ns for path in (root / "toy" / "features").rglob("*.h5")}


def features(root: Path, model: ExpressionModel) -> dict[str, torch.Tensor]:
    """Frame features by key, through the cache."""
    loader = clip_loader(shards(root), model, 3, train=False, features=root / "toy" / "features")
    assert isinstance(loader, FeatureLoader)
    return {
        key: row for batch in loader.epoch(0) for key, row in zip(batch["keys"], batch["frame_features"], strict=True)
    }


def computed(root: Path, model: ExpressionModel) -> dict[str, torch.Tensor]:
    """Frame features by key, without it."""
    prepare = InputPreparer(model, torch.device("cpu"))
    rows = {}
    for batch in clip_loader(shards(root), model, 3, train=False).epoch(0):
        for index, inputs in prepare.groups(batch):
            rows |= dict(zip([batch["keys"][i] for i in index], model.frame_features(inputs["frames"]), strict=True))
    return rows


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[key], expected[key], atol=1e-5) for key in expected)


def test_cached_frame_features_are_those_of_the_frames(root: Path) -> None:
    model = make("linear-probe")
    assert_close(features(root, model), computed(root, model))
    written = parts(root)
    assert len(written) == 2
    assert_close(features(root, make("coop")), computed(root, model))
    assert parts(root) == written, "variants on the same tower share a cache"


def no_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on it is an error to run a frozen tower on frames or captions."""

    def fail(*args: Any) -> None:
        raise AssertionError("a frozen tower runs")

    monkeypatch.setattr(FrozenTowers, "frame_features", fail)
    monkeypatch.setattr(Emoclip, "caption_features", fail)
    monkeypatch.setattr(CaptionTower, "forward", fail)


def run(root: Path, variant: str, out: str, **changes: Any) -> dict[str, torch.Tensor]:
    config = {**SMALL, "variant": variant, "set": OPTIONS.get(variant, ()), **changes}
    train.run(train.Config(root=root, dataset="toy", out=root / out, **config))
    return load_file(RunFolder(root / out).pointer() / "model.safetensors")


@pytest.mark.parametrize("variant", ["cocoop", "emoclip", "dagger"])
def test_training_and_evaluation_run_no_tower_once_features_are_there(
    root: Path, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(root, variant, "first")
    evaluate.run(evaluate.Config(root=root, runs=(str(root / "first"),)))
    written = parts(root)
    no_towers(monkeypatch)
    second = run(root, variant, "second")
    assert all(torch.equal(second[name], first[name]) for name in first), "the same with a cold and a warm cache"
    evaluate.run(evaluate.Config(root=root, runs=(str(root / "second"),)))
    tables = [(root / name / "eval" / "predictions.csv").read_bytes() for name in ("first", "second")]
    assert tables[0] == tables[1] and parts(root) == written


def test_a_run_on_cached_features_resumes_exactly(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(root, "coop", "whole")
    log, rows = RunFolder.log, []

    def stop(folder: RunFolder, row: dict[str, Any]) -> None:
        log(folder, row)
        rows.append(row)
        if len(rows) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "log", stop)
    with pytest.raises(KeyboardInterrupt):
        run(root, "coop", "cut", save_every=1)
    monkeypatch.setattr(RunFolder, "log", log)
    assert 0 < RunFolder(root / "cut").load_state().position.step < RunFolder(root / "whole").load_state().position.step
    resumed = run(root, "coop", "cut", save_every=1)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_batches_come_in_the_order_of_the_frame_loader(root: Path) -> None:
    model, order = make("linear-probe"), {"train": True, "seed": 3, "balance": True}
    cached = clip_loader(shards(root), model, 3, features=root / "toy" / "features", **order)
    plain = clip_loader(shards(root), model, 3, **order)
    assert cached.steps_per_epoch == plain.steps_per_epoch == 3
    for epoch, start in ((0, 0), (1, 2)):
        found, expected = list(cached.epoch(epoch, start)), list(plain.epoch(epoch, start))
        assert [batch["keys"] for batch in found] == [batch["keys"] for batch in expected]
        assert [batch["labels"] for batch in found] == [batch["labels"] for batch in expected]


@pytest.mark.parametrize("variant", ["dagger", "star-dagger"])
def test_cached_captions_give_the_same_losses(root: Path, variant: str) -> None:
    model = make(variant).train()
    found: list[list[torch.Tensor]] = []
    for folder in (None, root / "toy" / "features"):
        loader = clip_loader(shards(root), model, 3, train=True, features=folder)
        prepare = InputPreparer(model, torch.device("cpu"))
        for batch in loader.epoch(0):
            [(_, inputs)] = prepare.groups(batch)
            assert ("caption_features" in inputs) == ("captions" not in inputs) == (folder is not None)
            output = model(inputs)
            found.append([output.loss.detach(), output.features["caption"].detach()])
    half = len(found) // 2
    for cached, plain in zip(found[half:], found[:half], strict=True):
        assert cached[0].item() == pytest.approx(plain[0].item(), rel=1e-6)
        assert torch.allclose(cached[1], plain[1], rtol=0, atol=1e-6)


def test_captions_left_out_are_not_encoded(root: Path) -> None:
    loader = clip_loader(
        shards(root), make("dagger"), 3, train=False, features=root / "toy" / "features", without=("caption",)
    )
    assert next(iter(loader.epoch(0)))["captions"] == [None] * 3
    assert parts(root) == {}


# -- what is stale is not used ------------------------------------------------------------------------------------


def test_changed_frames_are_encoded_again(root: Path) -> None:
    model = make("linear-probe")
    before, written = features(root, model), parts(root)
    packed_shard(shards(root)[0], [f"part1-{n}" for n in (3, 2, 1, 0)])  # other frames under the same keys
    after = features(root, model)
    assert_close(after, computed(root, model))
    assert not torch.allclose(after["part1-0"], before["part1-0"])
    changed = [path.stem for path, time in parts(root).items() if time != written[path]]
    assert changed == ["part1-00000"], "only the part of the changed shard is made again"


def test_changed_captions_are_encoded_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = make("dagger"), root / "toy" / "features"
    next(iter(clip_loader(shards(root), model, 3, train=False, features=folder).epoch(0)))
    monkeypatch.setattr("tests.data.storage_files.make_caption.__defaults__", ("The brows rise and fall.",))
    packed_shard(shards(root)[1], [f"part2-{n}" for n in range(4)])
    batch = list(clip_loader(shards(root), model, 4, train=False, features=folder).epoch(0))[1]
    tokens = model.tokenizer(["The brows rise and fall."], context_length=248)
    assert torch.allclose(batch["caption_features"][0], model.caption_features(tokens)[0], atol=1e-5)


def test_another_tower_frame_count_or_preprocessing_has_a_cache_of_its_own(root: Path) -> None:
    torch.manual_seed(0)
    trained = create_model("linear-probe", "tiny", CLASSES, 4).eval()
    models = [make("linear-probe"), make("linear-probe", frames=2), trained]
    for number, model in enumerate(models):
        assert_close(features(root, model), computed(root, model))
        assert len(parts(root)) == 2 * (number + 1)
    found = [
        model.frozen_encoders() for model in (make("emoclip"), make("dagger"), make("emoclip", objective="labels"))
    ]
    assert found[0]["captions"].facts != found[1]["captions"].facts and "captions" not in found[2]
    assert make("base").frozen_encoders() == make("dfer-clip").frozen_encoders() == {}


@pytest.mark.parametrize("damage", ["another model", "truncated", "rows missing", "not HDF5"])
def test_a_part_that_does_not_fit_is_made_again(root: Path, damage: str) -> None:
    model = make("linear-probe")
    expected = features(root, model)
    path = sorted(parts(root))[0]
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "not HDF5":
        path.write_bytes(b"x" * 100)
    else:
        fingerprint = "f" * 64 if damage == "another model" else _fingerprint(path)
        write_features(path, {"0" * 64: np.ones((4, 128), np.float32)}, fingerprint, {})
    found = features(root, model)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert path.read_bytes() == whole


def _fingerprint(path: Path) -> str:
    import h5py

    with h5py.File(path) as file:
        found = file.attrs["fingerprint"].decode()
    assert read_features(path, found)
    return found
