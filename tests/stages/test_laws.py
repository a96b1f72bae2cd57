"""The laws that all shard stages obey, on rendered clips: the runner's own tests are in test_runner.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fclip.errors import FclipError, OutputDiffers
from fclip.runner.hashes import MEMORY
from fclip.stages import caption, face_analyze, pack, preprocess, refine

STAGES: dict[str, tuple[ModuleType, dict[str, Any], dict[str, Any]]] = {
    # stage folder -> module, the options of the shared workspace, a change that alters the output
    "frames": (preprocess, {"crop": "lite", "frames": "4", "size": 80, "shard_size": 4}, {"quality": 50}),
    "faces": (face_analyze, {"backend": "lite"}, {"max_gap": 0}),
    "captions": (caption, {}, {"mllm": "human"}),
    "refined": (refine, {}, {"limit": 3}),
    "packed": (pack, {}, {"captions": "none"}),
}


def run(folder: str, root: Path, **changes):
    module, options, _ = STAGES[folder]
    return module.run(module.Config(**{"root": root, "dataset": "demo7", "workers": 1, **options, **changes}))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != MEMORY}


@pytest.mark.parametrize("folder", STAGES)
def test_a_rerun_writes_nothing_and_a_change_is_refused(folder, workspace):
    before = content(workspace / "demo7" / folder)
    report = run(folder, workspace)
    assert report.values["written"] == 0
    with pytest.raises(OutputDiffers) as error:
        run(folder, workspace, **STAGES[folder][2])
    assert error.value.exit_code == 3
    assert "\n" not in str(error.value)
    assert content(workspace / "demo7" / folder) == before


@pytest.mark.parametrize("folder", ["frames", "faces", "captions"])
def test_two_workers_and_another_place_give_the_same_bytes(folder, workspace, tmp_path):
    run(folder, workspace, out=tmp_path / folder, workers=2)
    assert content(tmp_path / folder) == content(workspace / "demo7" / folder)


def test_every_key_is_accounted_for_in_the_commit_records(workspace):
    keys = json.loads((workspace / "demo7" / "frames" / "splits.json").read_text())["parts"]
    for folder in STAGES:
        records = [json.loads(p.read_text()) for p in sorted((workspace / "demo7" / folder).glob("part*-*.json"))]
        assert sum(sum(record["counts"].values()) for record in records) == len(keys)


def test_clips_that_cannot_be_read_are_isolated(workspace, tmp_path):
    source = tmp_path / "demo7" / "source"
    shutil.copytree(workspace / "demo7" / "source", source)
    clips = sorted((source / "clips").glob("*.mp4"))
    clips[0].write_bytes(b"not a video")
    clips[1].write_bytes(clips[1].read_bytes()[:200])
    report = run("frames", tmp_path, max_failed=0.5)
    assert report.counts["failed"] == 2
    assert report.counts["ok"] == len(clips) - 2
    reasons = "".join(p.read_text() for p in (tmp_path / "demo7" / "frames").glob("*.failed.jsonl"))
    assert clips[0].stem in reasons
    assert clips[1].stem in reasons


def test_limit_takes_the_first_clips_through_all_stages(workspace, tmp_path):
    for folder in STAGES:
        source = {"source": workspace / "demo7" / "source"} if folder == "frames" else {}
        report = run(folder, tmp_path, limit=6, **source)
        assert report.counts["ok"] == 6


def test_faces_of_other_frames_are_refused(workspace, tmp_path):
    """A cache that does not belong to the film strips must not be joined to them."""
    root = tmp_path / "root"
    shutil.copytree(workspace, root)
    run("frames", root, quality=60, overwrite=True)
    report = run("packed", root, overwrite=True, max_failed=1.0)
    assert report.counts["ok"] == 0
    assert "made from other frames" in next((root / "demo7" / "packed").glob("*.failed.jsonl")).read_text()


def test_missing_parts_are_listed_or_packed_without(workspace, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(workspace, root)
    shutil.rmtree(root / "demo7" / "refined")
    with pytest.raises(FclipError, match="fclip refine --root .* --dataset demo7"):
        run("packed", root, overwrite=True)
    report = run("packed", root, overwrite=True, allow_missing=True)
    assert report.counts["failed"] == 0
    assert report.counts["ok"] > 0
