"""`inspect`: facts of every kind of file, damaged ones reported, contact sheets that show what is there."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from fclip.data.storage.captions import write_captions
from fclip.data.storage.inspect import contact_sheet, describe
from fclip.data.storage.packed import packed_fields
from fclip.data.storage.parts import write_faces, write_features
from fclip.data.storage.shards import ShardWriter, frame_sample_fields
from fclip.data.storage.splits import Splits
from fclip.data.storage.strips import parsing_palette
from fclip.errors import FclipError
from fclip.files import json_bytes
from tests.data.storage_files import (
    frame_sample,
    make_caption,
    make_track,
    packed_shard,
    smooth_frames,
    write_classes,
    write_splits,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file of each kind."""
    from safetensors.numpy import save_file

    packed_shard(tmp_path / "part1-00000.tar", ["a", "b", "c"])
    write_faces(tmp_path / "part1-00000.h5", ["a"], ["1"], [make_track(smooth_frames(2, 16, 16))], {"backend": "lite"})
    write_captions(tmp_path / "part1-00000.jsonl", [make_caption("a"), make_caption("b", "")])
    (tmp_path / "part1-00000.failed.jsonl").write_bytes(json_bytes({"key": "d", "reason": "no face"}) + b"\n")
    write_features(tmp_path / "captions.h5", {"1": np.ones((1, 4), np.float32)}, "model", {})
    save_file(
        {"x": np.ones((3, 4), np.float32), "y": np.ones(5, np.float32)},
        tmp_path / "best.safetensors",
        metadata={"fclip": '{"format": "fclip-1", "variant": "base"}'},
    )
    write_splits(tmp_path, Splits("toy", {"a": "part1", "b": "part2"}, {}))
    write_classes(tmp_path, ["anger", "fear"])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.5}\n{"step": 2, "sec')
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / ".part1-00001.tar.1.tmp").write_bytes(b"half")
    return tmp_path


def test_a_folder_has_a_row_for_each_file(folder: Path) -> None:
    rows = {row["file"]: row for row in describe(folder)}
    assert set(rows) == {
        "part1-00000.tar",
        "part1-00000.h5",
        "part1-00000.jsonl",
        "part1-00000.failed.jsonl",
        "captions.h5",
        "best.safetensors",
        "splits.json",
        "classes.json",
        "metrics.jsonl",
    }
    assert not [row for row in rows.values() if "error" in row]
    shard = rows["part1-00000.tar"]
    assert (shard["clips"], shard["labels"], shard["frames"], shard["size"]) == (3, "anger 2, fear 1", "4 3", "48x48 3")
    assert "parsing.png 3" in shard["fields"]
    assert rows["part1-00000.h5"]["kind"] == "fclip-faces-1" and rows["part1-00000.h5"]["backend"] == "lite"
    captions = rows["part1-00000.jsonl"]
    assert (captions["clips"], captions["empty"], captions["words"]) == (2, 1, "0-4, mean 2.0")
    assert rows["part1-00000.failed.jsonl"]["reasons"] == "no face 1"
    assert (rows["metrics.jsonl"]["step"], rows["metrics.jsonl"]["loss"]) == (2, 1.5)
    checkpoint = rows["best.safetensors"]
    assert (checkpoint["parameters"], checkpoint["tensors"], checkpoint["variant"]) == (17, 2, "base")
    assert rows["splits.json"]["parts"] == "part1 1, part2 1" and rows["classes.json"]["classes"] == "anger, fear"
    assert all(row["bytes"] == (folder / name).stat().st_size for name, row in rows.items() if "bytes" in row)


def test_a_file_is_described_alone(folder: Path) -> None:
    (row,) = describe(folder / "part1-00000.tar")
    assert row["file"] == "part1-00000.tar" and row["clips"] == 3


@pytest.mark.parametrize(
    "name",
    [
        "part1-00000.tar",
        "part1-00000.h5",
        "part1-00000.jsonl",
        "best.safetensors",
        "part1-00000.failed.jsonl",
        "splits.json",
        "classes.json",
    ],
)
def test_a_damaged_file_is_reported_and_the_rest_shown(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-9] + b"x")
    rows = {row["file"]: row for row in describe(folder)}
    assert [file for file, row in rows.items() if "error" in row] == [name]
    assert "\n" not in rows[name]["error"]
    with pytest.raises(FclipError, match=name):
        describe(folder / name)


def test_unknown_paths_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for name, reason in (("notes.txt", "not a kind"), ("none.tar", "not there"), ("", "no shard")):
        with pytest.raises(FclipError, match=reason) as caught:
            describe(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_sheet_shows_frames_landmarks_parsing_and_caption(tmp_path: Path) -> None:
    path = packed_shard(tmp_path / "part1-00000.tar", ["a", "b", "c"], height=112, width=112)
    sheet = np.asarray(contact_sheet(path, clips=2, frames=4)).astype(int)
    bare = packed_shard(tmp_path / "part2-00000.tar", ["a", "b", "c"], faces=False, height=112, width=112)
    plain = np.asarray(contact_sheet(bare, clips=2, frames=4)).astype(int)
    assert sheet.shape[1] == plain.shape[1] == 4 * 112 + 12
    assert sheet.shape[0] - plain.shape[0] == 2 * 2 * 112  # a row of landmarks and one of parsing for each clip
    top, second = slice(6 + 15, 6 + 15 + 112), slice(6 + 15 + 112, 6 + 15 + 224)
    assert np.array_equal(sheet[top], plain[top])
    changed = np.abs(sheet[second] - plain[top]).sum(2) > 30
    assert 100 < changed.sum() < 4 * 68 * 12  # the landmarks' dots and nothing else
    parsing = make_track(frame_sample("a", height=112, width=112).frames, 0).parsing
    frames = plain[top, 6 : 6 + 112]
    expected = 0.6 * np.array(parsing_palette())[parsing[0]] + 0.4 * frames
    shown = sheet[6 + 15 + 224 : 6 + 15 + 336, 6 : 6 + 112]
    assert np.abs(shown - expected).mean() < 3
    caption = plain[6 + 15 + 112 : 6 + 15 + 112 + 15]
    assert (caption < 128).any()  # ink


def test_a_sheet_of_a_folder_and_of_other_scripts(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "part1-00000.tar") as writer:
        fields = packed_fields("a", frame_sample_fields(frame_sample("a")), None, make_caption("a", "嘴角上扬"))
        writer.write("a", fields)
    assert contact_sheet(tmp_path).size[0] == 8 * 112 + 12
    packed_shard(tmp_path / "part2-00000.tar", ["b", "c"], faces=False)
    one, three = contact_sheet(tmp_path, clips=1), contact_sheet(tmp_path)
    assert one.size[1] < three.size[1] < 3 * one.size[1] + 1  # goes on in the next shard
    with ShardWriter(tmp_path / "part0-00000.tar"):
        pass
    with pytest.raises(FclipError, match=r"part0-00000\.tar: no clip"):
        contact_sheet(tmp_path / "part0-00000.tar")


def test_any_byte_of_a_part_may_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "part.h5"
    write_features(path, {"0" * 64: np.ones((2, 3), np.float32)}, "f", {})
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 150)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        with contextlib.suppress(FclipError):
            describe(path)
