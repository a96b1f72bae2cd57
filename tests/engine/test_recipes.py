"""How a run is trained where nothing is said: the paper's recipe, tiny's own; and what is said of one that failed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fclip.cli.app import app
from fclip.config import config_dict, hash_of
from fclip.data.training.augment import AUGMENTATIONS
from fclip.engine.train import run
from fclip.engine.train.chance import chance_warning
from fclip.engine.train.run_folder import RunFolder
from fclip.errors import FclipError
from fclip.models import create_model
from fclip.models.finecliper.fusion import Fused, fusion_loss
from fclip.models.heads import contrastive_chance, contrastive_loss
from fclip.stages import evaluate, report, train

runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})


def config_of(*words: str) -> tuple[dict[str, object], dict[str, object]]:
    """What the run's record has of the options, and the recipe that --dry-run shows."""
    shown = json.loads(runner.invoke(app, ["train", *words, "--dry-run"]).output)
    given = {name: shown["config"][name] for name in ("variant", "clip", "lr", "epochs", "batch_size", "optimizer")}
    return config_dict(train.Config(**given).train_options(), output_only=True), shown["recipe"]


@pytest.mark.parametrize(
    ("words", "kept", "used"),
    [
        (["--clip", "ViT-B-16"], (None, None, None), ("sgd", 3e-4, 16, 30)),
        (["--clip", "tiny"], ("adamw", 2e-3, 8), ("adamw", 2e-3, 8, 30)),
        (["--clip", "tiny", "--lr", "0.5", "--epochs", "2"], ("adamw", 0.5, 8), ("adamw", 0.5, 8, 2)),
        (["--clip", "tiny", "--optimizer", "sgd", "--lr", "0"], ("sgd", 0.0, 8), ("sgd", 0.0, 8, 30)),
        (["--clip", "ViT-B-16", "--batch-size", "4"], (None, None, 4), ("sgd", 3e-4, 4, 30)),
        (["--variant", "coop", "--clip", "tiny"], ("adamw", 3e-3, 8), ("adamw", 3e-3, 8, 50)),
        (["--variant", "r3d-18", "--clip", "tiny"], (None, None, None), ("sgd", 1e-2, 16, 50)),
    ],
)
def test_a_backbone_has_its_recipe_and_what_is_given_wins(words, kept, used):
    config, recipe = config_of(*words)
    assert (config["optimizer"], config["lr"], config["batch_size"]) == kept
    assert tuple(recipe[name] for name in ("optimizer", "lr", "batch_size", "epochs")) == used
    assert ("momentum" in recipe) == (used[0] == "sgd")


def test_what_fits_itself_has_no_recipe_and_paper_backbones_keep_their_hash():
    assert config_of("--variant", "signals")[1] == {}
    options = train.Config(variant="star-dagger", clip="ViT-B-16").train_options()
    assert hash_of(config_dict(options, output_only=True)) == (
        "660fea11ecfd942547f69139c99424e6a94f85aae4f7f720fa0339c250c12398"
    ), "finished runs of published backbones would be refused"


@pytest.mark.parametrize(
    ("variant", "clip", "given", "kept", "used"),
    [
        ("dfer-clip", "ViT-B-32", {}, {"augment": "full"}, ("full", True)),
        ("finetune", "ViT-B-32", {}, {"augment": "full"}, ("full", True)),
        ("dfer-clip", "tiny", {}, {}, ("crop-flip", True)),
        ("star-dagger", "ViT-B-16", {}, {}, ("crop-flip", True)),
        ("base", "ViT-B-16", {"augment": "none"}, {"augment": "none"}, ("none", True)),
        ("base", "tiny", {"random_frames": False}, {"random_frames": False}, ("crop-flip", False)),
    ],
)
def test_augmentation_and_random_frames_are_of_the_recipe(variant, clip, given, kept, used):
    """On record where they are unlike what all variants had before recipes told them, so that other hashes stay."""
    options = train.Config(variant=variant, clip=clip, **given).train_options()
    config, recipe = config_dict(options, output_only=True), options.recipe()
    assert {name: config[name] for name in ("augment", "random_frames") if name in config} == kept
    assert recipe is not None and (recipe.augment, recipe.random_frames) == used


def test_training_reads_clips_as_the_recipe_says(workspace, tmp_path, monkeypatch):
    seen = {}

    def note(*_, **options):
        seen.update(options)
        raise FclipError("enough")

    monkeypatch.setattr(run, "clip_loader", note)
    small = {"root": workspace, "dataset": "demo7", "out": tmp_path / "run", "clip": "tiny", "clip_weights": "random"}
    with pytest.raises(FclipError, match="enough"):
        train.run(train.Config(**small, variant="base", augment="full", random_frames=False))
    assert (seen["augmentation"], seen["random_frames"]) == (AUGMENTATIONS["full"], False)
    with pytest.raises(FclipError, match="enough"):
        train.run(train.Config(**small, variant="dfer-clip", overwrite=True))
    assert (seen["augmentation"], seen["random_frames"]) == (AUGMENTATIONS["crop-flip"], True)


def test_the_loss_at_chance_is_that_of_a_model_that_tells_nothing_apart():
    groups = torch.tensor([0, 1, 1, 2, 3])
    same = torch.ones(5, 4)
    assert contrastive_chance(groups) == pytest.approx(float(contrastive_loss(same, same, 50.0, groups)))
    labels = torch.tensor([0, 3, 5])
    for modalities, expected in ((1, math.log(7)), (3, 2 * math.log(7))):
        weights = torch.full((3, modalities), 1 / modalities)
        fused = Fused(weights, torch.zeros(3, 8), torch.zeros(3, 7), torch.zeros(3, modalities, 7))
        assert float(fusion_loss(fused, labels)) == pytest.approx(expected)
    model = create_model("star", clip="tiny", clip_weights="random", classes=list("abcdefg"), frames=2)
    clip = torch.randn(3, 2, 3, 80, 80)
    batch = {"frames": clip, "labels": labels}
    for extra, expected in (({}, math.log(7)), ({"parsing": clip, "landmarks": clip}, 2 * math.log(7))):
        assert model({**batch, **extra}).chance == pytest.approx(expected)


def rows(loss: float, **more: float) -> list[dict[str, float]]:
    return [{"step": step, "epoch": step // 4, "loss": 9.0 if step < 4 else loss, **more} for step in range(8)]


def test_only_a_last_epoch_near_chance_is_told():
    at = {"chance": math.log(6), "lr": 3e-4}
    assert "1.776, 1.792 at chance; try --lr 0.003" in str(chance_warning(rows(1.776, **at)))
    assert "at chance" in str(chance_warning(rows(2.5, **at))), "worse than chance"
    assert chance_warning(rows(1.70, **at)) is None
    assert chance_warning(rows(1.79, lr=3e-4)) is None, "a log of an earlier version"
    assert chance_warning([]) is None
    assert "--lr" not in str(chance_warning(rows(1.79, chance=math.log(6))))


def test_train_and_report_say_that_a_run_has_learned_nothing(workspace, tmp_path: Path):
    out = tmp_path / "demo7-base-fold1-seed0"
    common = {"root": workspace, "dataset": "demo7", "out": out, "variant": "base", "clip": "tiny", "epochs": 1}
    done = train.run(train.Config(**common, lr=0.0, clip_weights="random", device="cpu"))
    assert any("LEARNED NOTHING" in line for line in done.lines)
    assert json.loads((out / "config.json").read_text())["recipe"]["lr"] == 0.0
    assert all("chance" in row for row in RunFolder(out).read_log() if "loss" in row)
    again = train.run(train.Config(**common, lr=0.0, clip_weights="random", device="cpu"))
    assert again.lines == done.lines, "also of a run that was finished before"
    evaluate.run(evaluate.Config(root=workspace, runs=(str(out),), device="cpu"))
    page = tmp_path / "report.md"
    report.run(report.Config(root=workspace, runs=(str(out),), out=page))
    assert f"{out.name}: LEARNED NOTHING" in page.read_text()
