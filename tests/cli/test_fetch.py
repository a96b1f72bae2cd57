"""`fclip fetch` from a real server, where weights are looked for, and the line of every command that lacks them."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from typer.testing import CliRunner

from fclip import catalogue
from fclip.catalogue import Weights, entry, find, listed, require
from fclip.cli.app import app, parse
from fclip.engine import fetching
from fclip.errors import FclipError, UsageError
from tests.hub_server import COMMIT, serve

runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})
TASK = b"task" * 1000
PLAIN = Weights("mediapipe", "landmarks", "face_landmarker.task", "Apache-2.0", "lite", url="", sha256="")
MODEL = {
    "config.json": b"{}",
    "model.safetensors": save({"w": torch.zeros(3)}),
    "pytorch_model.bin": b"a pickle",
    "README.md": b"text",
}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Nothing is there yet: no weights folder, no caches."""
    for name in ("FCLIP_MODELS", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FCLIP_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # read from the environment when imported
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def hub(monkeypatch):
    repositories = {
        "timm/vit_base_patch32_clip_224.openai": {"open_clip_model.safetensors": MODEL["model.safetensors"]},
        "someone/model": MODEL,
    }
    with serve(repositories, {"face_landmarker.task": TASK}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def test_a_file_of_the_hub_is_fetched_once(hub, folders):
    result = runner.invoke(app, ["fetch", "ViT-B-32", "--json"])
    assert result.exit_code == 0, result.output
    path = folders / "weights" / "ViT-B-32.safetensors"
    (facts,) = json.loads(result.output)["files"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["path"] == str(path) and facts["licence"] == "cc0-1.0"
    assert facts["sha256"] == {"open_clip_model.safetensors": digest}
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    hub.asked.clear()
    assert "is there already" in runner.invoke(app, ["fetch", "--for", "train --clip ViT-B-32"]).output
    assert not hub.asked


def test_a_model_of_the_hub_without_its_pickles(hub, folders):
    result = runner.invoke(app, ["fetch", "someone/model"])
    assert result.exit_code == 0, result.output
    folder = require("someone/model")
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "fclip.json"}
    assert json.loads((folder / "fclip.json").read_text())["commit"] == COMMIT
    (folder / "model.safetensors").unlink()
    assert find(entry("someone/model")) is None, "half a model is none"


@pytest.mark.parametrize("name", ["ViT-B-32", "someone/model"])
def test_another_hash_than_the_hub_gives_is_not_kept(name, hub, folders):
    hub.wrong_hash = True
    result = runner.invoke(app, ["fetch", name])
    assert result.exit_code == 1 and "not kept" in result.output
    assert list((folders / "weights").iterdir()) == []


def test_a_plain_file_with_its_hash(hub, folders):
    row = replace(PLAIN, url=f"{hub.address}/face_landmarker.task", sha256=hashlib.sha256(TASK).hexdigest())
    assert fetching.fetch(row).path.read_bytes() == TASK
    with pytest.raises(FclipError, match="mediapipe: cannot be fetched from .*hash"):
        fetching.fetch(replace(row, sha256="0" * 64))
    with pytest.raises(FclipError, match="cannot be fetched"):
        fetching.fetch(replace(row, url=f"{hub.address}/none"))
    assert [p.name for p in (folders / "weights").iterdir()] == ["face_landmarker.task"]
    with pytest.raises(FclipError, match="face_landmarker.task: sha256 is .*expected 64184e22.*fclip fetch mediapipe"):
        require("mediapipe")


def test_missing_weights_that_are_within_reach_are_fetched_and_named(hub, caplog):
    fetching.provide(["ViT-B-32"])
    (line,) = [record.message for record in caplog.records if "fetching" in record.message]
    assert "ViT-B-32.safetensors (605 MB, licence Apache-2.0)" in line
    assert find(listed()["ViT-B-32"])


@pytest.mark.parametrize("silent", [False, True])
def test_out_of_reach_is_known_within_seconds(silent, monkeypatch):
    """Nobody listens, or somebody who never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1] if silent else 1
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(catalogue, "PATIENCE", 0.3)
        started = time.monotonic()
        with pytest.raises(FclipError) as error:
            fetching.provide(["ViT-L-14"])
        assert time.monotonic() - started < 3
    for part in ("ViT-L-14.safetensors", "1.71 GB, licence Apache-2.0", "does not answer", "fclip fetch ViT-L-14"):
        assert part in str(error.value)


def test_folders_in_order(folders, monkeypatch):
    monkeypatch.setenv("FCLIP_MODELS", str(folders / "models"))
    row = listed()["FaRL"]
    for folder in (folders / "cache" / "fclip", folders / "models", folders / "weights"):
        folder.mkdir(parents=True)
        (folder / row.file).touch()
        assert find(row) == folder / row.file


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("train --variant star-dagger", ["ViT-B-16"]),
        ("fclip train --variant star-dagger --longclip-weights LongCLIP-B", ["ViT-B-16", "LongCLIP-B"]),
        ("train --clip tiny", []),
        ("train --variant signals", []),
        ("train --clip-weights mine.safetensors", []),
        ("zeroshot --pretrain none --test dfew --clip ViT-B-32", ["ViT-B-32"]),
        ("train --variant zeroshot-farl", ["FaRL"]),
        ("caption --mllm video-llava", ["video-llava"]),
        ("caption --mllm someone/model", ["someone/model"]),
        ("caption", []),
        ("face-analyze --backend mediapipe", ["mediapipe"]),
        ("face-analyze --backend mediapipe --weights mine.task", []),
        ("preprocess --dataset dfew --crop mediapipe", ["mediapipe"]),
        ("predict x.mp4 --classes a,b --clip ViT-L-14 --backend facexformer", ["facexformer", "ViT-L-14"]),
        ("predict x.mp4", []),
    ],
)
def test_what_a_command_needs(line, names, monkeypatch):
    from fclip.cli.fetch import weights_of

    assert weights_of(line) == names


@pytest.mark.parametrize("line", ["", "trian", "train --no-such", "train --help", "train --variant star-dager"])
def test_what_is_no_command_is_told(line):
    from fclip.cli.fetch import weights_of

    with pytest.raises((UsageError, SystemExit)):
        weights_of(line)


def test_list_and_close_matches(folders):
    shown = runner.invoke(app, ["fetch", "--list"]).output
    for row in listed().values():
        assert row.name in shown
    assert "missing, 599 MB" not in shown and "missing, 598 MB, licence Apache-2.0" in shown
    result = runner.invoke(app, ["fetch", "VIT-B-16x"])
    assert result.exit_code == 2 and "did you mean ViT-B-16" in result.output
    assert runner.invoke(app, ["fetch"]).exit_code == 2


def test_every_line_about_missing_weights_says_all():
    for row in listed().values():
        line = catalogue.missing(row)
        assert row.file in line and row.size in line and row.licence in line and "/weights" in line
        assert f"fclip fetch {row.name}" in line and row.without in line


def test_the_table_of_captioners_and_the_catalogue_agree():
    from fclip.captions.captioners.hub import named_models

    for name, model in named_models().items():
        assert listed()[name].repository == model["id"]


def test_parse_is_what_the_command_itself_would_do(tmp_path: Path):
    config = parse(["train", "--variant", "star", "--scale", "0.3", "--root", str(tmp_path)])
    assert config.options.scale == 0.3 and config.root == tmp_path
