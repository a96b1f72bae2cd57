"""Reading checkpoint files without running what they carry: formats, foreign classes, hostile and broken files."""

from __future__ import annotations

import argparse
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_files import write_dfer_clip, write_torchscript
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fclip.errors import FclipError
from fclip.models.convert import convert
from fclip.models.convert.archive import open_archive
from fclip.models.convert.pickles import StandIn, StoredTensor
from fclip.registry import CONVERTERS

TENSORS = {
    "a.weight": torch.arange(12.0).reshape(3, 4),
    "a.bias": torch.tensor([1.0, -2.0]).half(),
    "scale": torch.tensor(3.5),
    "b.index": torch.arange(5),
    "b.turned": torch.arange(6.0).reshape(2, 3).T,
    "b.narrow": torch.arange(9.0)[4:7],
    "b.brain": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    "b.empty": torch.zeros(0, 3),
}


def read_all(tree: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor.read() for name, tensor in tree.items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
        assert found[name].is_contiguous()


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_of_both_formats_give_the_same_tensors(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=zipped)
    archive = open_archive(path)
    assert archive.format == ("torch" if zipped else "legacy")
    assert_same(read_all(archive.tree), TENSORS)


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(TENSORS, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(read_all(open_archive(tmp_path / "a.pth").tree), TENSORS)


def test_torchscript_tensors_are_read_by_attribute_path(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    tensors = {name: tensor for name, tensor in TENSORS.items() if name != "scale"}
    write_torchscript(path, tensors)
    archive = open_archive(path)
    assert archive.format == "torchscript"
    assert_same(read_all(archive.tree), tensors)


def test_safetensors_are_read(tmp_path: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    save_file(tensors, tmp_path / "a.bin")
    archive = open_archive(tmp_path / "a.bin")
    assert archive.format == "safetensors"
    assert archive.tree["a.bias"].dtype == torch.float16
    assert_same(read_all(archive.tree), tensors)


def test_foreign_classes_become_stand_ins(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    write_dfer_clip(path, {"ctx": torch.ones(2, 3)})
    archive = open_archive(path)
    assert isinstance(archive.tree["recorder"], StandIn)
    assert archive.tree["recorder"].class_name == "__main__.RecorderMeter"
    assert "__main__.RecorderMeter" in archive.stand_ins
    assert archive.tree["epoch"] == 41
    assert archive.tree["optimizer"]["param_groups"][0]["momentum"] == 0.9
    assert torch.equal(archive.tree["state_dict"]["module.ctx"].read(), torch.ones(2, 3))


def test_usual_ballast_is_read_as_data(tmp_path: Path) -> None:
    ballast = {
        "args": argparse.Namespace(lr=1.0),
        "path": Path("/x"),
        "device": torch.device("cpu"),
        "set": {1, 2},
        "size": torch.Size([1, 2]),
        "type": torch.float32,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "bytes": b"\x00\xff",
        "none": None,
        "nested": [(1, 2.5, "x"), {"y": True}],
    }
    torch.save(ballast, tmp_path / "a.pth")
    tree = open_archive(tmp_path / "a.pth").tree
    assert tree["nested"] == [(1, 2.5, "x"), {"y": True}]
    assert tree["bytes"] == b"\x00\xff"
    assert isinstance(tree["parameter"], StoredTensor)


# -- hostile files ------------------------------------------------------------------------------------------------


class Runs:
    """Pickles into a call of `function(*args)`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def hostile_streams(marker: Path) -> dict[str, bytes]:
    """Pickles that would write `marker` if they were run, in the ways known for torch checkpoints."""
    command, code = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    named = {
        "os.system": b"\x80\x02cposix\nsystem\n" + _text(command) + b"\x85R.",
        "stack_global": b"\x80\x04" + _text("posix") + _text("system") + b"\x93" + _text(command) + b"\x85R.",
        "builtins.exec": b"\x80\x02cbuiltins\nexec\n" + _text(code) + b"\x85R.",
        "builtins.getattr": b"\x80\x02cbuiltins\ngetattr\ncos\npath\n" + _text("x") + b"\x86R.",
        "numpy runstring": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n" + _text(code) + b"}\x86R.",
        "torch.hub.load": b"\x80\x02ctorch.hub\nload\n" + _text("a/b") + _text("c") + b"\x86R.",
        "inst": b"(" + _text(command) + b"iposix\nsystem\n.",
        "obj": b"\x80\x02(cposix\nsystem\n" + _text(command) + b"o.",
        "subclass trick": b"\x80\x02ctorch\nFloatStorage.__init__.__globals__\n.",
        "persistent id": b"P" + command.encode() + b"\n.",
        "call of a stand-in": b"\x80\x02c__main__\nRecorderMeter\n)\x81)R.",
        "state of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.",
        "deep key": b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.",
        "deep state": b"\x80\x02c__main__\nRecorderMeter\n)\x81" + b")" + b"\x85" * 100_000 + b"bR.",
        "huge memo": b"\x80\x02Nr\xff\xff\xff\xff0cposix\nsystem\n.",
        "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    }
    return {**named, "pickle.dumps": pickle.dumps({"state_dict": Runs(os.system, command)}, protocol=2)}


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def write_zip(path: Path, stream: bytes, script: bool = False) -> None:
    """The archive that torch.save (or torch.jit.save) would write around this pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", stream)
        archive.writestr("model/version", b"3\n")
        if script:
            archive.writestr("model/constants.pkl", b"\x80\x02).")
            archive.writestr("model/code/__torch__.py", "import os\nos.system('touch marker')\n")


@pytest.mark.parametrize("name", sorted(hostile_streams(Path("x"))))
def test_hostile_files_run_nothing_and_write_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, out = tmp_path / "marker", tmp_path / "out.safetensors"
    monkeypatch.chdir(tmp_path)
    stream = hostile_streams(marker)[name]
    legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}" + _text("little_endian") + b"\x88s."
    files = {"zip.pth": None, "script.pt": None, "legacy.pth": legacy + stream, "bare.pkl": stream}
    write_zip(tmp_path / "zip.pth", stream)
    write_zip(tmp_path / "script.pt", stream, script=True)
    for file, content in files.items():
        if content is not None:
            (tmp_path / file).write_bytes(content)
        with pytest.raises(FclipError) as error:
            convert(tmp_path / file, out, "openai" if file == "script.pt" else "dfer-clip")
        assert "\n" not in str(error.value) and file in str(error.value) and len(str(error.value)) < 400
    assert not marker.exists() and not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_the_hostile_pickle_would_have_run(tmp_path: Path) -> None:
    """The control: Python's own unpickler does run it."""
    pickle.loads(hostile_streams(tmp_path / "marker")["os.system"])
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", sorted(CONVERTERS.names()))
def test_truncated_files_are_refused(tmp_path: Path, zipped: bool, kind: str) -> None:
    path, out = tmp_path / "a.pth", tmp_path / "out.safetensors"
    torch.save({"state_dict": TENSORS}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for length in (0, 5, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(FclipError, match="a.pth"):
            convert(path, out, kind)
    assert not out.exists()


def test_file_cut_within_an_empty_storage_is_refused(tmp_path: Path) -> None:
    """Its length alone is missing; which storage comes last in a legacy file changes from run to run."""
    path = tmp_path / "a.pth"
    torch.save({"empty": torch.zeros(0, 3)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FclipError, match="too short"):
        open_archive(path)


def _valid(tmp_path: Path, zipped: bool) -> bytes:
    path = tmp_path / "valid.pth"
    if not path.exists():
        torch.save({"state_dict": TENSORS, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    return path.read_bytes()


@pytest.mark.parametrize("zipped", [True, False])
@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path, zipped: bool, data: st.DataObject) -> None:
    content = bytearray(_valid(tmp_path, zipped))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.pth"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        tree = open_archive(path).tree
        for tensor in tree.get("state_dict", {}).values() if isinstance(tree, dict) else ():
            if isinstance(tensor, StoredTensor):
                assert tensor.read().numel() <= len(content)
    except FclipError as error:
        assert "\n" not in str(error)
    except AttributeError as error:  # a damaged tree may hold something else under "state_dict"
        assert "items" in str(error) or "values" in str(error)


@given(
    stream=st.lists(st.sampled_from([bytes([op]) for op in range(256)] + [b"\x80\x02", b"cos\nsystem\n"]), max_size=60)
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_opcodes_are_data_or_refused(tmp_path: Path, stream: list[bytes]) -> None:
    write_zip(tmp_path / "a.pth", b"".join(stream))
    try:
        open_archive(tmp_path / "a.pth")
    except FclipError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("shape", "stride", "offset"), [((3, 4), (4, 1), 1), ((13,), (1,), 0), ((1 << 40,), (0,), 0), ((2, -1), (1, 1), 0)]
)
def test_tensors_beyond_their_storage_are_refused(tmp_path: Path, shape: Any, stride: Any, offset: int) -> None:
    class Wrong:
        def __reduce__(self) -> Any:
            storage = torch.zeros(12).untyped_storage()
            typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, offset, shape, stride, False, {})

    torch.save({"state_dict": {"x": Wrong()}}, tmp_path / "a.pth")
    with pytest.raises(FclipError, match="shape|sizes"):
        open_archive(tmp_path / "a.pth")


def test_damaged_numbers_are_found(tmp_path: Path) -> None:
    torch.save({"x": torch.full((1000,), 1.5)}, tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes()
    at = content.index(struct.pack("<f", 1.5) * 10)
    (tmp_path / "a.pth").write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    with pytest.raises(FclipError, match="CRC"):
        open_archive(tmp_path / "a.pth").tree["x"].read()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04" + bytes(100), bytes(200)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(FclipError, match="a.pth"):
        open_archive(tmp_path / "a.pth")
    with pytest.raises(FclipError, match="no such file"):
        open_archive(tmp_path / "b.pth")
