"""Nothing is trusted unread: what was changed in a stage's output is refused by every command that reads it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fclip.data.storage.packed import parse_packed
from fclip.data.storage.parts import FacesPart, write_faces
from fclip.data.storage.shards import ShardWriter, read_shard
from fclip.errors import FclipError
from fclip.records import FaceTrack
from fclip.runner import hashes
from fclip.stages import caption, evaluate, face_analyze, inspect, pack, refine, train

SMALL = {"variant": "base", "clip": "tiny", "clip_weights": "random", "batch_size": 4, "epochs": 1, "device": "cpu"}
Sample = tuple[str, dict[str, bytes]]
Change = Callable[[Path], None]


def shard(edit: Callable[[list[Sample]], list[Sample]]) -> Change:
    """A change of the clips in a shard, written again as a whole and valid shard."""

    def change(path: Path) -> None:
        samples = edit(list(read_shard(path)))
        with ShardWriter(path) as writer:
            for key, fields in samples:
                writer.write(key, fields)

    return change


def exchange(field: str) -> Change:
    """A field of the first clip and of another that has another value."""

    def edit(samples: list[Sample]) -> list[Sample]:
        first = samples[0][1]
        other = next(fields for _, fields in samples if fields[field] != first[field])
        first[field], other[field] = other[field], first[field]
        return samples

    return shard(edit)


def relabel(samples: list[Sample]) -> list[Sample]:
    """All clips get the label of the first."""
    infos = [json.loads(fields["json"]) for _, fields in samples]
    for (_, fields), info in zip(samples, infos, strict=True):
        fields["json"] = json.dumps(info | {"label": infos[0]["label"]}).encode()
    return samples


def zero_landmarks(samples: list[Sample]) -> list[Sample]:
    for _, fields in samples:
        data = fields["landmarks.npy"]
        fields["landmarks.npy"] = data[: -4 * 68] + bytes(4 * 68)
    return samples


def flip_bit(path: Path) -> None:
    """One bit of a JPEG, in place."""
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xda") + 200  # in the first film strip's scan
    data[place] ^= 4
    path.write_bytes(bytes(data))


def swap_files(path: Path) -> None:
    """The shard of this part and that of another change names."""
    other = path.with_name(path.name.replace("part1", "part2"))
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def table(name: str, value: float) -> Change:
    """A table of the face part, overwritten with one value."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file[name][...] = value

    return change


def swap_tracks(path: Path) -> None:
    """The tracks of the first two clips."""
    with h5py.File(path, "r+") as file:
        keys = file["keys"].asstr()[:]
        file["keys"][:2] = keys[[1, 0]]
        file["sha256"][:2] = file["sha256"].asstr()[:2][[1, 0]]


def lines(edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Change:
    """A change of the records of a JSONL file."""

    def change(path: Path) -> None:
        rows = edit([json.loads(line) for line in path.read_text().splitlines()])
        path.write_text("".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in rows))

    return change


def swap_texts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first = rows[0]
    other = next(row for row in rows if row["text"] != first["text"])
    first["text"], other["text"] = other["text"], first["text"]
    return rows


def show_labels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"label_shown": not row["label_shown"]} for row in rows]


def values(edit: Callable[[Any], Any]) -> Change:
    """A change of a JSON file's value."""

    def change(path: Path) -> None:
        path.write_text(json.dumps(edit(json.loads(path.read_text())), indent=1))

    return change


def other_folds(splits: dict[str, Any]) -> dict[str, Any]:
    folds = splits["folds"]
    folds["1"], folds["2"] = folds["2"], folds["1"]
    return splits


def other_parts(splits: dict[str, Any]) -> dict[str, Any]:
    parts = splits["parts"]
    first, last = min(parts), max(parts)
    parts[first], parts[last] = parts[last], parts[first]
    return splits


CHANGES: dict[str, tuple[str, Change, str]] = {  # what -> file, change, who must refuse it
    "frames: labels": ("frames/part1-00000.tar", shard(relabel), "face-analyze caption pack"),
    "frames: jsons exchanged": ("frames/part1-00000.tar", exchange("frames.jpg"), "face-analyze caption pack"),
    "frames: a clip cut off": ("frames/part1-00000.tar", shard(lambda s: s[:-1]), "face-analyze caption pack"),
    "frames: a bit of a JPEG": ("frames/part1-00000.tar", flip_bit, "face-analyze caption pack"),
    "frames: cut in the middle": ("frames/part1-00000.tar", lambda p: p.write_bytes(p.read_bytes()[:9000]), "pack"),
    "frames: two shards exchanged": ("frames/part1-00000.tar", swap_files, "face-analyze caption pack"),
    "frames: other folds": ("frames/splits.json", values(other_folds), "pack"),
    "frames: classes in another order": ("frames/classes.json", values(sorted), "refine pack"),
    "faces: landmarks zero": ("faces/part1-00000.h5", table("landmarks", 0), "caption pack"),
    "faces: landmarks NaN": ("faces/part1-00000.h5", table("landmarks", np.nan), "caption pack"),
    "faces: confidence": ("faces/part1-00000.h5", table("confidence", 1), "caption pack"),
    "faces: parsing": ("faces/part1-00000.h5", table("parsing", 3), "caption pack"),
    "faces: two tracks exchanged": ("faces/part1-00000.h5", swap_tracks, "caption pack"),
    "captions: lines cut off": ("captions/part1-00000.jsonl", lines(lambda rows: rows[:-2]), "refine"),
    "captions: texts exchanged": ("captions/part1-00000.jsonl", lines(swap_texts), "refine"),
    "captions: label_shown": ("captions/part1-00000.jsonl", lines(show_labels), "refine"),
    "refined: lines cut off": ("refined/part1-00000.jsonl", lines(lambda rows: rows[:-2]), "pack"),
    "refined: texts exchanged": ("refined/part1-00000.jsonl", lines(swap_texts), "pack"),
    "refined: label_shown": ("refined/part1-00000.jsonl", lines(show_labels), "pack"),
    "packed: labels": ("packed/part1-00000.tar", shard(relabel), "train eval"),
    "packed: captions exchanged": ("packed/part1-00000.tar", exchange("caption.txt"), "train eval"),
    "packed: parsing exchanged": ("packed/part1-00000.tar", exchange("parsing.png"), "train eval"),
    "packed: landmarks zero": ("packed/part1-00000.tar", shard(zero_landmarks), "train eval"),
    "packed: a clip cut off": ("packed/part1-00000.tar", shard(lambda s: s[:-1]), "train eval"),
    "packed: a bit of a JPEG": ("packed/part1-00000.tar", flip_bit, "train eval"),
    "packed: other folds": ("packed/splits.json", values(other_folds), "train eval"),
    "packed: other parts": ("packed/splits.json", values(other_parts), "train eval"),
    "packed: classes in another order": ("packed/classes.json", values(sorted), "train eval"),
    "packed: a shard gone": ("packed/part1-00000.tar", Path.unlink, "train eval"),
    "packed: a shard left out of the manifest": (
        "packed/manifest.json",
        values(lambda m: m | {"shards": m["shards"][1:]}),
        "train eval",
    ),
}
MAKERS = {"frames": "preprocess", "faces": "face-analyze", "captions": "caption", "refined": "refine", "packed": "pack"}
CASES = [(what, command) for what, (_, _, commands) in CHANGES.items() for command in commands.split()]


@pytest.fixture(scope="module")
def trained(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workspace with a run that tests on part1."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(workspace, root, dirs_exist_ok=True)
    train.run(train.Config(**{"root": root, "dataset": "demo7", **SMALL}))
    return root


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "root", ignore=shutil.ignore_patterns("source"))


def run(command: str, root: Path) -> Any:
    """A command that has not been run on the workspace with this output."""
    common: dict[str, Any] = {"root": root, "dataset": "demo7"}
    shards = {**common, "workers": 1, "out": root / "new"}
    if command == "face-analyze":
        return face_analyze.run(face_analyze.Config(**shards, backend="lite"))
    if command == "train":
        return train.run(train.Config(**common, **SMALL, out=root / "new"))
    if command == "eval":
        return evaluate.run(evaluate.Config(**common, device="cpu"))
    module = {"caption": caption, "refine": refine, "pack": pack}[command]
    return module.run(module.Config(**shards))


@pytest.mark.parametrize(("what", "command"), CASES, ids=[f"{w} - {c}" for w, c in CASES])
def test_a_change_is_refused_with_the_file_and_the_command_that_makes_it_again(copy, what, command):
    name, change, _ = CHANGES[what]
    path = copy / "demo7" / name
    change(path)
    with pytest.raises(FclipError, match=re.escape(str(path.parent))) as error:
        run(command, copy)
    maker = MAKERS[name.split("/")[0]]
    assert error.value.exit_code == 1
    assert f"fclip {maker} --root {copy} --dataset demo7" in str(error.value)
    assert "\n" not in str(error.value)


def test_inspect_verify_finds_every_change_in_a_folder(trained, tmp_path):
    for what, (name, change, _) in CHANGES.items():
        stage, file = name.split("/")
        folder = shutil.copytree(trained / "demo7" / stage, tmp_path / what / stage)
        change(folder / file)
        report = inspect.run(inspect.Config(paths=(str(folder),), verify=True))
        assert report.exit_code == 1, what
        assert any(str(folder) in line for line in report.lines), what


def test_a_whole_workspace_verifies(trained):
    report = inspect.run(inspect.Config(paths=(str(trained),), verify=True))
    assert (report.exit_code, report.counts["changed"]) == (0, 0)
    assert report.counts["verified"] > 50


def test_the_command_named_makes_the_file_again(copy):
    path = copy / "demo7" / "packed" / "part1-00000.tar"
    before = path.read_bytes()
    flip_bit(path)
    assert pack.run(pack.Config(root=copy, dataset="demo7", workers=1)).values["written"] == 1
    assert path.read_bytes() == before
    run("train", copy)


def test_a_file_is_hashed_once_and_again_only_after_a_change(copy, monkeypatch):
    path = copy / "demo7" / "packed" / "splits.json"
    counted: list[str] = []
    real = hashes.sha256_file

    def counting(name: Path) -> str:
        counted.append(Path(name).name)
        return real(name)

    monkeypatch.setattr(hashes, "sha256_file", counting)
    monkeypatch.setattr(hashes, "TICK", 0)  # a copy made this very moment is old enough
    hashes.hash_file(path)
    hashes.hash_file(path)
    assert counted == ["splits.json"]
    hashes.save_hashes()
    monkeypatch.setattr(hashes, "_MEMORIES", {})  # another process
    hashes.hash_file(path)
    assert counted == ["splits.json"]
    path.write_bytes(path.read_bytes())
    hashes.hash_file(path)
    assert counted == ["splits.json"] * 2


def test_the_memory_of_hashes_is_not_trusted_to_refuse_nor_when_damaged(copy, monkeypatch):
    folder = copy / "demo7" / "packed"
    monkeypatch.setattr(hashes, "TICK", 0)
    for text in ("{", '{"part1-00000.tar": [1, 2]}', '{"part1-00000.tar": "x"}', "[" * 100_000):
        (folder / hashes.MEMORY).write_text(text)
        monkeypatch.setattr(hashes, "_MEMORIES", {})
        assert list(read_shard(folder / "part1-00000.tar"))
    hashes.save_hashes()
    known = json.loads((folder / hashes.MEMORY).read_text())
    known["part1-00000.tar"][4] = "0" * 64
    (folder / hashes.MEMORY).write_text(json.dumps(known))
    monkeypatch.setattr(hashes, "_MEMORIES", {})
    assert list(read_shard(folder / "part1-00000.tar"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -9.0])
def test_values_that_no_face_has_are_refused_where_they_enter(tmp_path, value):
    landmarks = np.full((2, 68, 2), 0.5, np.float32)
    track = FaceTrack(np.zeros((2, 8, 8), np.uint8), landmarks, np.ones(2, np.float32))
    write_faces(tmp_path / "ok.h5", ["a"], ["0" * 64], [track], {})
    landmarks[1, 7, 0] = value
    with pytest.raises(FclipError, match="landmarks holds"):
        write_faces(tmp_path / "bad.h5", ["a"], ["0" * 64], [track], {})
    assert not (tmp_path / "bad.h5").exists()
    table("landmarks", value)(tmp_path / "ok.h5")  # of another program: no manifest lists it
    with FacesPart(tmp_path / "ok.h5") as part, pytest.raises(FclipError, match="landmarks holds"):
        part.read("a", "0" * 64)


def test_landmarks_of_a_foreign_shard_are_checked(workspace, tmp_path):
    shutil.copy(workspace / "demo7" / "packed" / "part1-00000.tar", tmp_path / "part1-00000.tar")
    key, fields = next(read_shard(tmp_path / "part1-00000.tar"))
    data = fields["landmarks.npy"]
    fields["landmarks.npy"] = data[:-4] + np.float32(np.nan).tobytes()
    with pytest.raises(FclipError, match="landmarks holds NaN"):
        parse_packed(key, fields)


def overwrite_weights(path: Path) -> None:
    """Other weights under the same header."""
    data = bytearray(path.read_bytes())
    data[-64:] = bytes(64)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("file", ["model.safetensors", "state.safetensors"])
def test_other_weights_and_another_state_than_training_wrote_are_made_again(copy, file, caplog):
    folder = copy / "runs" / "demo7-base-fold1-seed0"
    path = folder / (folder / "LAST").read_text().strip() / file
    before = path.read_bytes()
    overwrite_weights(path)
    assert inspect.run(inspect.Config(paths=(str(copy / "runs"),), verify=True)).counts["changed"] == 1
    if file == "model.safetensors":
        with pytest.raises(FclipError, match=f"{file}: not as it was written"):
            evaluate.run(evaluate.Config(root=copy, runs=(str(folder),), device="cpu"))
    train.run(train.Config(**{"root": copy, "dataset": "demo7", **SMALL}))
    assert f"{file}: not as it was written" in caplog.text
    assert path.read_bytes() == before
