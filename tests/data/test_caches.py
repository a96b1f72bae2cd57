"""HDF5 parts: exact round trip, identical bytes, stale rows refused, damaged files reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.data.storage.parts import FacesPart, read_features, write_faces, write_features
from fclip.errors import FclipError
from fclip.records import FaceTrack
from tests.data.storage_files import make_track, smooth_frames

ATTRIBUTES = {"backend": "lite", "weights_sha256": "ab" * 32, "version": 1, "margin": 0.25}


def full_track(seed: int, count: int) -> FaceTrack:
    """A track with every optional field."""
    rng = np.random.default_rng(seed)
    track = make_track(smooth_frames(count, 24, 24), seed)
    return replace(
        track,
        blendshapes=rng.random((count, 52), dtype=np.float32),
        pose=rng.normal(0, 20, (count, 3)).astype(np.float32),
        filled=rng.random(count) < 0.3,
        signals=rng.normal(size=(count, 2)).astype(np.float32),
        signal_names=("mouth", "pose.yaw"),
        signal_units=("score", "degrees"),
    )


def same(a: FaceTrack, b: FaceTrack) -> bool:
    """Whether two tracks have equal fields of equal types."""
    pairs = [(vars(a)[name], vars(b)[name]) for name in vars(a)]
    return all(
        type(x) is type(y) and np.array_equal(x, y) and getattr(x, "dtype", 0) == getattr(y, "dtype", 0)
        for x, y in pairs
        if not x is y is None
    )


@given(counts=st.lists(st.integers(1, 6), max_size=5), full=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_tracks_come_back_and_bytes_are_the_same(tmp_path_factory, counts: list[int], full: bool, seed: int) -> None:
    folder = tmp_path_factory.mktemp("faces")
    make = full_track if full else lambda seed, count: make_track(smooth_frames(count, 24, 24), seed)
    tracks = [make(seed + number, count) for number, count in enumerate(counts)]
    keys = [f"clip{number}" for number in range(len(counts))]
    shas = [f"{number:064x}" for number in range(len(counts))]
    for name in ("a.h5", "b.h5"):
        write_faces(folder / name, keys, shas, iter(tracks), ATTRIBUTES)
    assert (folder / "a.h5").read_bytes() == (folder / "b.h5").read_bytes()
    with FacesPart(folder / "a.h5") as part:
        assert part.keys == tuple(keys)
        named = (
            {"signal_names": '["mouth", "pose.yaw"]', "signal_units": '["score", "degrees"]'} if full and keys else {}
        )
        assert part.attributes == {**ATTRIBUTES, **named, "schema": "fclip-faces-1"}
        for key, sha, track in reversed(list(zip(keys, shas, tracks, strict=True))):
            assert same(part.read(key, sha), track)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signals": np.full((3, 2), np.nan, np.float32)}, "value 0 of frame 0 is nan"),
        ({"signals": np.zeros((2, 2), np.float32)}, "signals has shape"),
        ({"signals": np.zeros((3, 3), np.float32)}, "2 names for 3 values"),
        ({"signal_names": ("mouth", "mouth")}, "comes twice"),
        ({"signal_units": ()}, "0 names for 2 values"),
    ],
)
def test_signals_that_are_none_are_refused(tmp_path: Path, change: dict, reason: str) -> None:
    with pytest.raises(FclipError, match=reason):
        write_faces(tmp_path / "a.h5", ["a"], ["1"], [replace(full_track(0, 3), **change)], {})
    assert not (tmp_path / "a.h5").exists()


def test_clips_of_a_part_have_the_same_signals(tmp_path: Path) -> None:
    other = replace(full_track(1, 3), signal_names=("mouth", "eyes"))
    with pytest.raises(FclipError, match="signals of b are not those"):
        write_faces(tmp_path / "a.h5", ["a", "b"], ["1", "2"], [full_track(0, 3), other], {})


def test_writing_takes_one_track_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []

    def tracks() -> Iterator[FaceTrack]:
        for number in range(3):
            alive.append(number)
            yield make_track(smooth_frames(2, 16, 16), number)

    source = tracks()
    write_faces(tmp_path / "a.h5", ["a", "b", "c"], ["1", "2", "3"], source, {})
    assert alive == [0, 1, 2] and next(source, None) is None
    with h5py.File(tmp_path / "a.h5") as file:
        assert {name: table.shape for name, table in file.items()} == {
            "keys": (3,),
            "sha256": (3,),
            "offsets": (4,),
            "parsing": (6, 16, 16),
            "landmarks": (6, 68, 2),
            "confidence": (6,),
        }
        assert file["parsing"].compression == "gzip"


def test_a_stale_row_can_not_be_read(tmp_path: Path) -> None:
    write_faces(tmp_path / "a.h5", ["a"], ["1" * 64], [make_track(smooth_frames(2, 16, 16))], {})
    with FacesPart(tmp_path / "a.h5") as part:
        with pytest.raises(FclipError, match="clip a was made from other frames; run fclip face-analyze again"):
            part.read("a", "2" * 64)
        with pytest.raises(FclipError, match="clip b is not in the file"):
            part.read("b", "1" * 64)


def bad_tracks() -> dict[str, FaceTrack]:
    """Tracks that do not fit beside a plain one of frames of 16 x 16."""
    plain = make_track(smooth_frames(2, 16, 16))
    return {
        "other size": make_track(smooth_frames(2, 16, 24)),
        "more tables": replace(plain, pose=np.zeros((2, 3), np.float32)),
        "length": replace(plain, confidence=np.zeros(3, np.float32)),
        "points": replace(plain, landmarks=np.zeros((2, 5, 2), np.float32)),
        "class": replace(plain, parsing=np.full((2, 16, 16), 11, np.uint8)),
    }


@pytest.mark.parametrize("name", bad_tracks())
def test_a_track_that_does_not_fit_publishes_nothing(tmp_path: Path, name: str) -> None:
    tracks = [make_track(smooth_frames(2, 16, 16)), bad_tracks()[name]]
    with pytest.raises(FclipError, match=r"of b|b: ") as caught:
        write_faces(tmp_path / "a.h5", ["a", "b"], ["1", "2"], tracks, {})
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_wrong_calls_publish_nothing(tmp_path: Path) -> None:
    track = make_track(smooth_frames(1, 8, 8))
    for keys, attributes, reason in ((["a", "a"], {}, "comes twice"), (["a", "b"], {"x": [1]}, "attribute x is list")):
        with pytest.raises(FclipError, match=reason):
            write_faces(tmp_path / "a.h5", keys, ["1", "2"], [track, track], attributes)
    with pytest.raises(ValueError, match="shorter"):
        write_faces(tmp_path / "a.h5", ["a", "b"], ["1", "2"], [track], {})
    assert os.listdir(tmp_path) == []


def test_foreign_and_damaged_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_faces(path, ["a", "b"], ["1", "2"], [make_track(smooth_frames(2, 16, 16))] * 2, {})
    whole = path.read_bytes()
    write_features(tmp_path / "f.h5", {"1": np.ones((1, 4), np.float32)}, "model", {})
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    for name in ("f.h5", "text.h5", "cut.h5", "none.h5"):
        with pytest.raises(FclipError, match=name) as caught:
            FacesPart(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    track = make_track(smooth_frames(2, 16, 16))
    write_faces(path, ["a", "b"], ["1", "2"], [track] * 2, {})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        wild = bytearray(whole)
        for place in rng.integers(0, len(whole), 8):
            wild[place] = rng.integers(0, 256)
        path.write_bytes(wild)
        try:
            with FacesPart(path) as part:
                assert part.read("b", "2").parsing.shape == (2, 16, 16)
        except FclipError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("link", [h5py.SoftLink("/confidence"), h5py.ExternalLink("other.h5", "/landmarks")])
def test_links_out_of_the_file_are_not_followed(tmp_path: Path, link: object) -> None:
    write_faces(tmp_path / "other.h5", ["a"], ["1"], [make_track(smooth_frames(1, 8, 8))], {})
    (tmp_path / "a.h5").write_bytes((tmp_path / "other.h5").read_bytes())
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["landmarks"]
        file["landmarks"] = link
    with FacesPart(tmp_path / "a.h5") as part, pytest.raises(FclipError, match="no table landmarks in the file"):
        part.read("a", "1")


def test_features_are_found_by_input_and_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {f"{number:064x}": rng.normal(size=(1 + number % 3, 8)).astype(np.float16) for number in range(7)}
    write_features(tmp_path / "a.h5", rows, "model-a", {"width": 8})
    found = read_features(tmp_path / "a.h5", "model-a")
    assert set(found) == set(rows)
    assert all(found[sha].dtype == np.float16 and np.array_equal(found[sha], rows[sha]) for sha in rows)
    assert read_features(tmp_path / "a.h5", "model-b") == {}
    assert read_features(tmp_path / "not there.h5", "model-a") == {}


def test_damaged_features_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_features(path, {"a": np.ones((2, 4), np.float32)}, "model", {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FclipError, match="a.h5.*make it again"):
        read_features(path, "model")


def test_a_flipped_bit_of_a_number_is_found(tmp_path: Path) -> None:
    path, values = tmp_path / "a.h5", np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    write_features(path, {"a": values[:2], "b": values[2:]}, "model", {})
    whole = path.read_bytes()
    numbers, offsets = whole.index(values.tobytes()), whole.index(np.array([0, 2, 4], "<i8").tobytes())
    for place in (numbers, numbers + 77, numbers + values.nbytes - 1, offsets + 8):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(FclipError, match="make it again"):
            read_features(path, "model")


def test_features_have_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    rows = {str(number): np.full((2, 3), number, np.float32) for number in range(5)}
    write_features(tmp_path / "a.h5", rows, "model", {"b": 1, "a": 2})
    write_features(tmp_path / "b.h5", dict(reversed(rows.items())), "model", {"a": 2, "b": 1})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_features_of_other_shapes_are_refused(tmp_path: Path) -> None:
    one = np.ones((1, 4))
    for rows in ({"a": np.ones(4)}, {"a": one, "b": np.ones((1, 5))}, {"a": one, "b": one.astype("f4")}):
        with pytest.raises(FclipError, match="shape|does not fit"):
            write_features(tmp_path / "a.h5", rows, "model", {})
    assert os.listdir(tmp_path) == []
