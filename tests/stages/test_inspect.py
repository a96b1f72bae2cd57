"""`fclip inspect` as a command: tables of every stage folder and of checkpoints, contact sheets."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fclip.errors import FclipError, UsageError
from fclip.stages import inspect


def run(*paths: Path, sheet: Path | None = None):
    return inspect.run(inspect.Config(paths=tuple(map(str, paths)), sheet=sheet))


@pytest.mark.parametrize(
    ("folder", "kind", "facts"),
    [
        ("frames", "shard", ["fields: frames.jpg", "json"]),
        ("packed", "shard", ["parsing.png 4", "landmarks.npy 4", "caption.txt 4"]),
        ("faces", "fclip-faces-1", ["backend: lite", "uint8 (16, 80, 80)"]),
        ("captions", "captions", ["template 4"]),
        ("refined", "captions", ["label shown: 0", "template 4"]),
    ],
)
def test_every_stage_folder_is_a_table(workspace: Path, folder: str, kind: str, facts: list[str]) -> None:
    report = run(workspace / "demo7" / folder)
    text = "\n".join(report.lines)
    assert f"10 x {kind}, 35 clips" in text
    assert all(fact.split(":")[-1].strip() in text for fact in facts)
    table = [line for line in report.lines if "part1-00000" in line or "file  " in line]
    assert len(table) == 2 and len({len(line) for line in table}) <= 2  # a head and a row, flush right


def test_checkpoints_and_a_single_file(workspace: Path) -> None:
    weights = resources.files("fclip") / "resources" / "lite.safetensors"
    lines = run(Path(str(weights)), workspace / "demo7" / "packed" / "part1-00001.tar").lines
    assert "  checkpoint" in lines and any(line.strip().startswith("parameters: ") for line in lines)
    assert "    clips: 3" in lines and "    frames: 4 3" in lines


def test_a_sheet_of_the_first_shards_named(workspace: Path, tmp_path: Path) -> None:
    data = workspace / "demo7"
    report = run(data / "faces", data / "packed", sheet=tmp_path / "sheet.png")
    assert f"contact sheet: {tmp_path / 'sheet.png'}" in report.lines
    with Image.open(tmp_path / "sheet.png") as picture:
        assert np.asarray(picture).std() > 20 and picture.height > 8 * 2 * 112
    with pytest.raises(UsageError, match="--sheet draws clips"):
        run(data / "faces", sheet=tmp_path / "none.png")
    with pytest.raises(FclipError, match="no such file"):
        run(data / "none")
