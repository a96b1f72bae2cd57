"""Packed folders behind fsspec URLs: fetched once, whole, checked against their manifest; trained on as local ones."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest
from safetensors.torch import load_file

from fclip.config import hash_of
from fclip.engine.train.run_folder import RunFolder
from fclip.errors import FclipError
from fclip.runner.remote import local_folder
from fclip.stages import evaluate, train

SMALL = {"variant": "base", "clip": "tiny", "clip_weights": "random", "batch_size": 4, "epochs": 1, "device": "cpu"}


@pytest.fixture
def bucket(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The workspace's packed folder at memory://bucket/demo7/packed, and an empty cache."""
    monkeypatch.setenv("FCLIP_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.rm("/bucket", recursive=True) if memory.exists("/bucket") else None
    for path in (workspace / "demo7" / "packed").iterdir():
        memory.pipe(f"/bucket/demo7/packed/{path.name}", path.read_bytes())
    return memory


URL = "memory://bucket/demo7/packed"


def test_a_folder_is_fetched_once_and_anew_when_it_changes(bucket, workspace: Path) -> None:
    copy = local_folder(URL)
    packed = workspace / "demo7" / "packed"
    for path in [*packed.glob("*.tar"), *(packed / f"{name}.json" for name in ("splits", "classes", "manifest"))]:
        assert (copy / path.name).read_bytes() == path.read_bytes()
    assert copy.parts[-2:] == ("demo7", "packed")
    first, *_, last = sorted(copy.glob("*.tar"))
    first.unlink()  # as after a download that was cut off ...
    bucket.rm(f"/bucket/demo7/packed/{last.name}")  # ... and what is there already is not read again
    assert local_folder(URL + "/") == copy and first.is_file()
    splits = json.loads(bucket.cat_file("/bucket/demo7/packed/splits.json"))
    bucket.pipe("/bucket/demo7/packed/splits.json", json.dumps(splits | {"dataset": "other"}).encode())
    with pytest.raises(FclipError, match="no packed folder that can be fetched"):
        local_folder(URL)  # another folder now, whose last shard is gone


@pytest.mark.parametrize("place", ["pipe:cat", "simplecache::memory://bucket", "memory://bucket/demo7", "nosuch://a/b"])
def test_other_places_are_one_line(bucket, tmp_path: Path, place: str) -> None:
    with pytest.raises(FclipError, match=place[:6]) as caught:
        local_folder(place)
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("*.tar"))


def test_damaged_shards_and_names_that_lead_out_are_not_kept(bucket, tmp_path: Path) -> None:
    manifest = json.loads(bucket.cat_file("/bucket/demo7/packed/manifest.json"))
    stem = manifest["shards"][0]["stem"]
    bucket.pipe(f"/bucket/demo7/packed/{stem}.tar", b"cut")
    with pytest.raises(FclipError, match=f"{stem}.tar: its hash is not that of the manifest"):
        local_folder(URL)
    manifest["shards"][0]["stem"] = "../../../../escaped"
    manifest["seal"] = hash_of({name: value for name, value in manifest.items() if name != "seal"})
    bucket.pipe("/bucket/demo7/packed/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(FclipError, match="no packed folder"):
        local_folder(URL)
    assert not list(tmp_path.rglob("escaped*"))


def test_training_from_a_url_is_training_from_the_folder(bucket, workspace: Path, tmp_path: Path) -> None:
    weights = []
    for place in (URL, "file://" + str(workspace / "demo7" / "packed")):
        run = tmp_path / place[:4]
        report = train.run(train.Config(root=tmp_path, out=run, input=place, **SMALL))
        assert report.values["runs"][0]["dataset"] == "demo7"
        weights.append(load_file(RunFolder(run).pointer() / "model.safetensors"))
        found = evaluate.run(evaluate.Config(root=tmp_path, runs=(str(run),), input=place, device="cpu"))
        assert found.counts["runs"] == 1 and any((run / "eval").iterdir())
    there, here = weights
    assert there.keys() == here.keys() and all((there[name] == here[name]).all() for name in here)
