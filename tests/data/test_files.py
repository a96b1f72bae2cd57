"""Atomic writing and canonical JSON."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fclip.errors import FclipError
from fclip.files import atomic_write, json_bytes, read_json, sha256_bytes, sha256_file, write_json
from fclip.runner.hashes import MEMORY, hash_file
from fclip.tensors import read_tensors, write_tensors


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    for content in (b"old", b"new and longer"):
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
            assert temporary.name == f".file.bin.{os.getpid()}.tmp"
            assert temporary.parent == path.parent
            assert not path.exists() or path.read_bytes() == b"old"
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\nfrom fclip.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".tmp")] == ["file.bin"]
    others = [".other.bin.1.tmp", f".file.bin.{os.getppid()}.tmp"]  # another file's; of a process that runs
    for name in others:
        (tmp_path / name).touch()
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
    assert sorted(os.listdir(tmp_path)) == sorted(["file.bin", *others])


def test_what_a_library_writes_beside_its_file_lies_in_a_folder_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors writes to a random name first, which nobody removes after kill -9."""
    path, left = tmp_path / "w.safetensors", tmp_path / ".w.safetensors.999999999.tmp"
    left.mkdir()
    (left / ".tmpAbCdEf").touch()
    save = safetensors.torch.save_file

    def watched(tensors: dict[str, torch.Tensor], name: str, header: dict[str, str] | None) -> None:
        assert Path(name).parent == tmp_path / f".w.safetensors.{os.getpid()}.tmp"
        save(tensors, name, header)

    monkeypatch.setattr(safetensors.torch, "save_file", watched)
    write_tensors(path, {"a": torch.ones(3)})
    assert os.listdir(tmp_path) == ["w.safetensors"]
    assert read_tensors(path)["a"].tolist() == [1, 1, 1]
    monkeypatch.setattr(safetensors.torch, "save_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_tensors(path, {"a": torch.zeros(3)})
    assert os.listdir(tmp_path) == ["w.safetensors"]


@pytest.mark.parametrize("data", [b"NaN", b"[]", b"3", b'{"file": [1e999, 1, 1, 1, ""]}', b"\xff", b"[" * 100_000])
def test_a_damaged_memory_of_hashes_is_as_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MEMORY).write_bytes(data)
    (tmp_path / "file").write_bytes(b"x")
    assert hash_file(tmp_path / "file").sha256 == sha256_bytes(b"x")


@pytest.mark.parametrize("read", [read_json, hash_file])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_has_no_end_is_not_read(tmp_path: Path, read: Callable[[Path], object], kind: str) -> None:
    path = tmp_path / "file.json"
    make = {"device": lambda: path.symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}
    make[kind]()
    with pytest.raises((OSError, FclipError), match="directory" if kind == "folder" else "not a regular file"):
        read(path)


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == sha256_bytes(data) == hashlib.sha256(data).hexdigest()


def test_json_is_canonical_and_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": ["é", None]})
    write_json(tmp_path / "b.json", {"a": ["é", None], "b": 1})
    text = (tmp_path / "a.json").read_bytes()
    assert text == (tmp_path / "b.json").read_bytes() == '{\n "a": [\n  "é",\n  null\n ],\n "b": 1\n}\n'.encode()
    assert read_json(tmp_path / "a.json") == {"a": ["é", None], "b": 1}
    assert json_bytes({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes(math.nan)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"])
def test_unreadable_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FclipError, match="a.json") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_missing_json_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FclipError, match="nothing.json: No such file"):
        read_json(tmp_path / "nothing.json")
