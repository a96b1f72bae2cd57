"""Every baseline trains and is tested from the command line on rendered clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fclip.cli.app import app
from fclip.data.storage.splits import Splits
from tests.data.storage_files import packed_shard, write_classes, write_splits

SETTINGS = {
    "dfer-clip": [],
    "linear-probe": [],
    "signals": [],
    "finetune": ["--temporal"],
    "coop": [],
    "cocoop": [],
    "emoclip": ["--set", "head_width=8,mlp_width=16"],
    **{name: ["--set", "image_size=16"] for name in ("r3d-18", "r2plus1d-18", "mc3-18", "resnet18-lstm")},
    "resnet18-vit": ["--set", "image_size=16"],
}


def invoke(*arguments: object) -> dict:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def train_and_test(packed: Path, out: Path, variant: str, *flags: str) -> dict:
    common = ("--dataset", "demo7", "--in", packed)
    invoke(
        "train",
        "--variant",
        variant,
        "--clip",
        "tiny",
        "--epochs",
        1,
        "--batch-size",
        14,
        "--root",
        out,
        "--out",
        out / "run",
        *common,
        *flags,
    )
    return invoke("eval", out / "run", "--root", out, *common)


@pytest.mark.parametrize("variant", SETTINGS)
def test_a_baseline_trains_and_is_tested(workspace: Path, tmp_path: Path, variant: str) -> None:
    report = train_and_test(workspace / "demo7" / "packed", tmp_path, variant, *SETTINGS[variant])
    row = report["results"][0]
    assert variant != "finetune" or row["set"] == ["temporal=true"]
    assert row["variant"] == variant and 0 <= row["uar"] <= 1
    assert (tmp_path / "run" / "eval" / "predictions.csv").read_text().count("\n") == 8  # a header and seven clips


def test_s3d_which_needs_more_frames(tmp_path: Path) -> None:
    for part in ("part1", "part2"):
        packed_shard(tmp_path / f"{part}-00000.tar", [f"{part}-a", f"{part}-b"], faces=False, count=8)
    parts = {f"{part}-{n}": part for part in ("part1", "part2") for n in "ab"}
    write_splits(tmp_path, Splits("demo7", parts, {"1": {"train": ["part1"], "test": ["part2"]}}))
    write_classes(tmp_path, ["anger", "fear"])
    report = train_and_test(tmp_path, tmp_path / "out", "s3d", "--set", "image_size=32")
    assert report["results"][0]["clips"] == 2


@pytest.mark.parametrize("variant", ["zeroshot-clip", "zeroshot-farl"])
def test_plain_clip_is_tested(workspace: Path, tmp_path: Path, variant: str) -> None:
    (tmp_path / "demo7").mkdir()
    (tmp_path / "demo7" / "packed").symlink_to(workspace / "demo7" / "packed")
    report = invoke("zeroshot", "--test", "demo7", "--variant", variant, "--clip", "tiny", "--root", tmp_path)
    assert report["results"][0]["variant"] == variant
    assert list((tmp_path / "demo7" / "features").rglob("part*.h5"))


def test_descriptions_of_ones_own(workspace: Path, tmp_path: Path) -> None:
    packed = workspace / "demo7" / "packed"
    texts = {name: f"a face that shows {name}" for name in json.loads((packed / "classes.json").read_text())}
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    train_and_test(packed, tmp_path, "dfer-clip", "--descriptions", str(tmp_path / "texts.json"))
    from fclip.models import load_model

    assert load_model(tmp_path / "run").prompts["class"] == list(texts.values())
