"""Packed samples: the film strip is carried over untouched, everything else comes back as it was."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fclip.data.storage.inspect import describe
from fclip.data.storage.packed import packed_fields, parse_packed
from fclip.data.storage.shards import ShardWriter, frame_sample_fields, parse_frame_sample, read_shard
from fclip.errors import FclipError
from fclip.files import json_bytes
from tests.data.storage_files import frame_sample, make_caption, make_track, read_with_webdataset


@pytest.fixture
def fields() -> dict[str, bytes]:
    """A packed sample with everything."""
    sample = frame_sample("clip", count=4, height=64, width=64)
    return packed_fields("clip", frame_sample_fields(sample), make_track(sample.frames), make_caption("clip"))


def test_everything_comes_back(tmp_path: Path, fields: dict[str, bytes]) -> None:
    source = frame_sample("clip", count=4, height=64, width=64)
    raw = frame_sample_fields(source)
    track = make_track(source.frames)
    assert fields["frames.jpg"] == raw["frames.jpg"]
    with ShardWriter(tmp_path / "part1-00000.tar") as writer:
        writer.write("clip", fields)
    ((key, found),) = read_shard(tmp_path / "part1-00000.tar")
    sample = parse_packed(key, found)
    assert np.array_equal(sample.frames, parse_frame_sample("clip", raw).frames)
    assert np.array_equal(sample.parsing, track.parsing)
    assert np.array_equal(sample.landmarks, track.landmarks) and sample.landmarks.dtype == np.float32
    assert np.allclose(sample.info["confidence"], track.confidence, atol=5e-5)
    assert (sample.caption, sample.caption_info) == (make_caption("clip").text, make_caption("clip"))
    assert {**sample.info, "confidence": None} == {**json.loads(raw["json"]), "confidence": None}
    assert fields == packed_fields("clip", raw, track, make_caption("clip"))


def test_signals_come_back_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    sample = frame_sample("clip", count=4, height=64, width=64)
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    track = replace(make_track(sample.frames), signals=values, signal_names=("a", "b", "c"), signal_units=("", "", ""))
    fields = packed_fields("clip", frame_sample_fields(sample), track, None)
    found = parse_packed("clip", fields)
    assert np.array_equal(found.signals, values) and found.signals.dtype == np.float32
    assert found.info["signal_names"] == ("a", "b", "c")
    with ShardWriter(tmp_path / "part1-00000.tar") as writer:
        writer.write("clip", fields)
    row = describe(tmp_path / "part1-00000.tar")[0]
    assert row["signals"] == "3 (a 1, b 1, c 1)"
    assert row["signal b"] == f"{values[:, 1].min():.3g} to {values[:, 1].max():.3g}"
    values[2, 1] = np.inf
    bad = packed_fields("clip", frame_sample_fields(sample), replace(track, signals=values), None)
    with pytest.raises(FclipError, match="clip.signals.npy: value 1 of frame 2 is inf"):
        parse_packed("clip", bad)
    renamed = json_bytes({**json.loads(fields["json"]), "signal_names": ["a", "b"]})
    with pytest.raises(FclipError, match="not float32"):
        parse_packed("clip", {**fields, "json": renamed})
    with pytest.raises(FclipError, match="signal_names: a name comes twice"):
        parse_packed("clip", {**fields, "json": renamed.replace(b'"b"', b'"a"')})


def test_webdataset_decodes_a_packed_shard_by_itself(tmp_path: Path, fields: dict[str, bytes]) -> None:
    with ShardWriter(tmp_path / "part1-00000.tar") as writer:
        writer.write("clip", fields)
    sample = read_with_webdataset(tmp_path / "part1-00000.tar", decode="pil")["clip"]
    track = make_track(frame_sample("clip", count=4, height=64, width=64).frames)
    assert sample["frames.jpg"].size == (64, 4 * 64)
    assert sample["parsing.png"].size == (64, 4 * 64)
    assert np.array_equal(sample["landmarks.npy"], track.landmarks)
    assert sample["caption.json"]["text"] == sample["caption.txt"] == "The mouth opens slowly."


def test_missing_and_unwanted_fields_are_none(fields: dict[str, bytes]) -> None:
    bare = packed_fields("clip", frame_sample_fields(frame_sample("clip")), None, None)
    assert set(bare) == {"frames.jpg", "json"}
    sample = parse_packed("clip", bare)
    assert (sample.parsing, sample.landmarks, sample.caption, sample.caption_info) == (None,) * 4
    sample = parse_packed("clip", {**fields, "parsing.png": b"damaged"}, wanted=("landmarks",))
    assert sample.parsing is None and sample.caption is None and sample.landmarks is not None


def test_a_smaller_size_reduces_frames_and_parsing_alike(fields: dict[str, bytes]) -> None:
    sample, full = parse_packed("clip", fields, size=30), parse_packed("clip", fields)
    assert sample.frames.shape == (4, 32, 32, 3) and sample.parsing.shape == (4, 32, 32)
    assert np.array_equal(sample.parsing, full.parsing[:, 1::2, 1::2])
    assert np.array_equal(sample.landmarks, full.landmarks)


def npy(array: np.ndarray, pickled: bool = False) -> bytes:
    """An array as an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("field", "data"),
    [
        ("landmarks.npy", npy(np.zeros((4, 68, 2)))),
        ("landmarks.npy", npy(np.zeros((5, 68, 2), np.float32))),
        ("landmarks.npy", npy(np.asfortranarray(np.zeros((4, 68, 2), np.float32)))),
        ("landmarks.npy", npy(np.zeros((4, 68, 2), np.float32))[:-4]),
        ("landmarks.npy", npy(np.array([{}], object), pickled=True)),
        ("landmarks.npy", npy(np.zeros((4, 68, 2), np.float32)).replace(b"(4, 68, 2)", b"(4**9999) ")),
        ("landmarks.npy", b""),
        ("parsing.png", b""),
        ("caption.txt", b"\xff\xff"),
        ("caption.json", b"[]"),
        ("caption.json", b'{"key": "clip"}'),
    ],
)
def test_damaged_fields_are_named(fields: dict[str, bytes], field: str, data: bytes) -> None:
    with pytest.raises(FclipError) as caught:
        parse_packed("clip", {**fields, field: data})
    assert "\n" not in str(caught.value)
    assert f"clip.{field}" in str(caught.value) or field == "parsing.png"


def test_a_track_of_another_size_is_refused() -> None:
    sample = frame_sample("clip")
    track = make_track(sample.frames)
    with pytest.raises(FclipError, match="clip clip: face track"):
        packed_fields("clip", frame_sample_fields(sample), replace(track, parsing=track.parsing[:, ::2]), None)


def test_a_json_of_another_clip_is_refused(fields: dict[str, bytes]) -> None:
    info = {**json.loads(fields["json"]), "key": "other"}
    with pytest.raises(FclipError, match="belongs to clip 'other'"):
        parse_packed("clip", {**fields, "json": json_bytes(info)})
