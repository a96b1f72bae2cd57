"""Shards: deterministic writing, plain WebDataset for other readers, and a reader that trusts nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.data.storage.shards import (
    FIELDS,
    ShardWriter,
    frame_sample_fields,
    index_shard,
    parse_frame_sample,
    parse_info,
    read_shard,
)
from fclip.errors import FclipError
from fclip.files import json_bytes
from tests.data.storage_files import frame_sample, packed_shard, raw_tar, read_with_webdataset

KEYS = st.text("abcXYZ019_-", min_size=1, max_size=150)
SAMPLES = st.dictionaries(KEYS, st.dictionaries(st.sampled_from(sorted(FIELDS)), st.binary(max_size=1500), min_size=1))


@given(samples=SAMPLES)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_written_is_read(samples: dict[str, dict[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder) / "a-00000.tar", Path(folder) / "b-00000.tar"
        for target in (path, again):
            with ShardWriter(target) as writer:
                for key, fields in samples.items():
                    writer.write(key, dict(reversed(fields.items())) if target == again else fields)
        assert dict(read_shard(path)) == samples
        assert path.read_bytes() == again.read_bytes()
        assert [key for key, _ in read_shard(path)] == list(samples) == list(writer.keys)


def test_a_shard_has_the_bytes_that_webdataset_writes(tmp_path: Path) -> None:
    samples = {key: frame_sample_fields(frame_sample(key)) for key in ("a", "b")}
    with webdataset.TarWriter(str(tmp_path / "w.tar"), mtime=0, user="", group="", encoder=False) as theirs:
        for key, fields in samples.items():
            theirs.write({"__key__": key, **fields})
    with ShardWriter(tmp_path / "a.tar") as ours:
        for key, fields in samples.items():
            ours.write(key, fields)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "w.tar").read_bytes()


def test_webdataset_reads_a_shard_by_itself(tmp_path: Path) -> None:
    path = packed_shard(tmp_path / "part1-00000.tar", ["a", "b-1", "c_2"])
    samples = read_with_webdataset(path)
    assert samples == dict(read_shard(path))
    decoded = read_with_webdataset(path, decode="rgb8")["a"]
    assert decoded["frames.jpg"].shape == (4 * 48, 48, 3)
    assert decoded["json"]["label"] == "anger"
    assert decoded["landmarks.npy"].shape == (4, 68, 2)
    assert decoded["caption.txt"] == "The mouth opens slowly."


def test_members_have_no_owner_and_no_time(tmp_path: Path) -> None:
    path = packed_shard(tmp_path / "part1-00000.tar", ["a"])
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert [m.name for m in members] == sorted(m.name for m in members)


def test_an_exception_publishes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "part1-00000.tar"
    with pytest.raises(RuntimeError), ShardWriter(path) as writer:
        writer.write("a", {"json": b"{}"})
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    packed_shard(path, ["old"])
    with pytest.raises(FclipError, match="comes twice"), ShardWriter(path) as writer:
        writer.write("a", {"json": b"{}"})
        writer.write("a", {"json": b"{}"})
    assert [key for key, _ in read_shard(path)] == ["old"]


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "../a", "é", "a b", "a\n"])
def test_bad_keys_are_not_written(tmp_path: Path, key: str) -> None:
    with pytest.raises(FclipError, match="rename the clip"), ShardWriter(tmp_path / "a.tar") as writer:
        writer.write(key, {"json": b"{}"})


def test_unknown_and_oversize_fields_are_not_written(tmp_path: Path) -> None:
    for fields, reason in ({"pkl": b""}, "unknown field 'pkl'"), ({"caption.txt": bytes(70_000)}, "65536 allowed"):
        with pytest.raises(FclipError, match=reason), ShardWriter(tmp_path / "a.tar") as writer:
            writer.write("a", fields)


UNSAFE = ("../a.json", "/a.json", "x/a.json", "a", ".json", "a..json", "a.JSON", "a.b.json", "é.json", "a.json/b")


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_member_names_are_refused(tmp_path: Path, name: str) -> None:
    path = raw_tar(tmp_path / "a.tar", [("ok.json", b"{}"), (name, b"{}")])
    with pytest.raises(FclipError, match=r"a\.tar: ") as caught:
        list(read_shard(path))
    assert "\n" not in str(caught.value)


class Malicious:
    """Unpickling an instance creates a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


@pytest.mark.parametrize("field", ["pkl", "pickle", "pyd", "pth", "npy", "landmarks.npy", "json"])
def test_pickles_are_never_loaded(tmp_path: Path, field: str) -> None:
    trap = tmp_path / "trap"
    fields = dict(frame_sample_fields(frame_sample("a")))
    fields[field] = pickle.dumps(Malicious(str(trap)))
    path = raw_tar(tmp_path / "a.tar", [(f"a.{name}", data) for name, data in fields.items()])
    from fclip.data.storage.packed import parse_packed

    with pytest.raises(FclipError):
        for key, found in read_shard(path):
            parse_packed(key, found)
    assert not trap.exists()


def special_tar(path: Path, **attributes: object) -> Path:
    """A tar with one good member and one with these TarInfo attributes."""
    with tarfile.open(path, "w") as tar:
        good = tarfile.TarInfo("a.json")
        good.size = 2
        tar.addfile(good, io.BytesIO(b"{}"))
        info = tarfile.TarInfo("b.json")
        for name, value in attributes.items():
            setattr(info, name, value)
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "a.json"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.DIRTYPE},
        {"size": FIELDS["json"] + 1},
    ],
    ids=["symlink", "hardlink", "fifo", "device", "folder", "oversize"],
)
def test_special_and_oversize_members_are_refused(tmp_path: Path, attributes: dict[str, object]) -> None:
    with pytest.raises(FclipError, match=r"b\.json"):
        index_shard(special_tar(tmp_path / "a.tar", **attributes))


@pytest.mark.parametrize(
    "names", [["a.json", "a.json"], ["a.json", "b.json", "a.caption.txt"], ["a.json", "b.json", "a.json"]]
)
def test_repeated_keys_are_refused(tmp_path: Path, names: list[str]) -> None:
    path = raw_tar(tmp_path / "a.tar", [(name, b"{}") for name in names])
    with pytest.raises(FclipError, match="comes twice"):
        index_shard(path)


def test_a_shard_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = packed_shard(tmp_path / "a.tar", ["a", "b"], count=1, height=8, width=8).read_bytes()
    content = len(whole.rstrip(b"\0"))
    cut = tmp_path / "cut.tar"
    for size in [*range(0, content, 256), content, content + 511]:
        cut.write_bytes(whole[:size])
        with pytest.raises(FclipError, match=r"cut\.tar"):
            list(read_shard(cut))


def test_bytes_after_the_end_are_refused(tmp_path: Path) -> None:
    path = packed_shard(tmp_path / "a.tar", ["a"], count=1, height=8, width=8)
    path.write_bytes(path.read_bytes() + b"x" * 512)
    with pytest.raises(FclipError, match="damaged after byte"):
        index_shard(path)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE])
@pytest.mark.parametrize("size", [1 << 20, 1 << 50, 1 << 63])
def test_extension_headers_that_promise_too_much_are_refused(tmp_path: Path, kind: bytes, size: int) -> None:
    info = tarfile.TarInfo("a.json")
    info.type, info.size = kind, size
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(header + bytes(4096))
    with pytest.raises(FclipError, match=r"a\.tar: ") as caught:
        index_shard(tmp_path / "a.tar")
    assert "\n" not in str(caught.value)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_wild_headers_never_crash_or_lie(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = raw_tar(Path(folder) / "a.tar", [("a.json", b"{}"), ("b.json", b"[1]"), ("b.caption.txt", b"hm")])
        wild = bytearray(path.read_bytes())
        for place in rng.integers(0, 6 * 512, 2):
            wild[place] = rng.integers(0, 256)
        path.write_bytes(wild)
        try:
            samples = dict(read_shard(path))
        except FclipError as error:
            assert "\n" not in str(error)
        else:
            assert [sorted(fields) for fields in samples.values()] in ([["json"], ["caption.txt", "json"]],)


def test_missing_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("hello " * 1000)
    (tmp_path / "zip.tar.gz").write_bytes(b"\x1f\x8b" + bytes(100))
    for name in ("nothing.tar", "text.tar", "zip.tar.gz", "."):
        with pytest.raises(FclipError, match="make it again") as caught:
            index_shard(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_frame_sample_comes_back() -> None:
    sample = frame_sample("clip", label="fear", count=5, height=32, width=40)
    fields = frame_sample_fields(sample)
    back = parse_frame_sample("clip", fields)
    assert back.frames.shape == (5, 32, 40, 3)
    assert np.abs(back.frames.astype(int) - sample.frames).mean() < 3
    assert back.info == {**sample.info, "frames": 5, "height": 32, "width": 40}
    assert fields == frame_sample_fields(sample)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": "other"}, "belongs to clip 'other'"),
        ({"frames": 4.0}, "frames is 4.0, not int"),
        ({"frames": True}, "frames is True, not int"),
        ({"height": 10**9}, "do not fit into a strip"),
        ({"width": 47}, "its json says"),
        ({"label": 3}, "label is 3, not str"),
    ],
)
def test_a_json_that_disagrees_is_refused(change: dict[str, object], reason: str) -> None:
    fields = frame_sample_fields(frame_sample("clip"))
    fields["json"] = json_bytes({**json.loads(fields["json"]), **change})
    with pytest.raises(FclipError, match=reason):
        parse_frame_sample("clip", fields)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 99_999, b'{"key": NaN'])
def test_a_damaged_json_names_its_member(data: bytes) -> None:
    with pytest.raises(FclipError, match=r"clip\.json: not") as caught:
        parse_info("clip", {"json": data})
    assert "\n" not in str(caught.value)


def test_missing_fields_are_named() -> None:
    with pytest.raises(FclipError, match=r"clip c has no json"):
        parse_info("c", {})
    with pytest.raises(FclipError, match=r"clip clip has no frames.jpg"):
        parse_frame_sample("clip", {"json": frame_sample_fields(frame_sample("clip"))["json"]})
