"""Official releases as they arrive: left-overs, doubles, stubs and missing clips are seen, and change nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import release_layouts as layouts

from fclip.data.layouts import Dataset, open_dataset
from fclip.data.layouts.validation import validate
from fclip.stages import preprocess

RELEASES = ["dfew", "ferv39k", "mafw", "crema_d", "ravdess", "caer", "afew"]


def open_release(name: str, root: Path) -> Dataset:
    return open_dataset(name.replace("_", "-"), root)


def facts(dataset: Dataset) -> list[tuple[str, str, str, str | None]]:
    return [(clip.key, clip.label, clip.part, clip.caption) for clip in dataset.clips]


@pytest.mark.parametrize("name", RELEASES)
def test_left_overs_change_nothing(tmp_path: Path, name: str) -> None:
    """The same clips, labels and parts, whatever lies between them; an archive that is still there is told."""
    getattr(layouts, f"write_{name}")(tmp_path)
    clean = open_release(name, tmp_path)
    layouts.damage(
        tmp_path, [p for p in tmp_path.rglob("*") if p.suffix in (".csv", ".txt") and p.name != "README.txt"]
    )
    damaged = open_release(name, tmp_path)
    assert facts(damaged) == facts(clean) and damaged.folds == clean.folds
    report = validate(damaged, {"media": 1000})
    assert report.errors == [] and "an archive that may not be unpacked yet: release.zip.001" in report.remarks


@pytest.mark.parametrize("name", RELEASES)
def test_missing_clips_doubles_and_stubs(tmp_path: Path, name: str) -> None:
    """Each is counted: clips that a list names, a git-lfs stub in the middle, a copy of a clip."""
    getattr(layouts, f"write_{name}")(tmp_path)
    clean = open_release(name, tmp_path)
    listed = name in ("dfew", "ferv39k", "mafw")
    sources = [Path(clip.source) for clip in clean.clips]
    copy = sources[3].with_name(f"{sources[3].stem} (1){sources[3].suffix}")
    (shutil.copytree if sources[3].is_dir() else shutil.copy)(sources[3], copy)
    if sources[5].is_dir():
        for frame in sources[5].iterdir():
            frame.write_bytes(layouts.POINTER)
    else:
        sources[5].write_bytes(layouts.POINTER)
    (shutil.rmtree if sources[7].is_dir() else Path.unlink)(sources[7])
    dataset = open_release(name, tmp_path)
    report = validate(dataset, {"total": len(clean.clips)})
    found = {key: value["count"] for key, value in report.findings.items() if value["count"]}
    assert found.get("lfs_pointers") == 1 and "git lfs pull" in " ".join(report.errors)
    if listed:
        assert (found["missing_files"], found["surplus_files"] > 0, len(dataset.clips)) == (1, True, len(clean.clips))
    elif name in ("caer", "afew"):
        assert len(dataset.clips) == len(clean.clips)  # one more, one less
    else:
        assert any("not named as in the release" in line for line in report.remarks)
        if name == "crema_d":  # of ravdess the version without sound takes its place
            assert f"{len(clean.clips) - 1} clips, published are {len(clean.clips)}" in report.errors


@pytest.mark.parametrize("name", ["crema_d", "ravdess", "dfew"])
def test_doubles(tmp_path: Path, name: str) -> None:
    """A clip that is there twice under the release's own name counts once, and is told."""
    getattr(layouts, f"write_{name}")(tmp_path)
    clean = open_release(name, tmp_path)
    source = Path(clean.clips[0].source)
    if name == "dfew":
        shutil.copytree(source, source.with_name(str(int(source.name))))
    else:
        (source.parent / "again").mkdir()
        shutil.copy(source, source.parent / "again")
    dataset = open_release(name, tmp_path)
    assert len(dataset.clips) == len(clean.clips)
    assert [line.split(" (")[0] for line in dataset.remarks] == [f"comes twice: {clean.clips[0].key}"]


def test_caer_and_afew(tmp_path: Path) -> None:
    """The official splits and classes; AFEW tests on val, and says what it leaves out."""
    layouts.write_caer(tmp_path)
    layouts.write_afew(tmp_path)
    caer, afew = open_dataset("caer", tmp_path), open_dataset("afew", tmp_path)
    layouts.check_sound(caer)
    layouts.check_sound(afew)
    assert caer.classes == afew.classes == tuple(layouts.DFEW_CLASSES)
    assert len(caer.clips) == 42 and {clip.part for clip in caer.clips} == {"train", "val", "test"}
    assert caer.folds == {"1": {"train": ["train"], "test": ["test"]}}
    assert layouts.labels_of(caer)["train_Anger_0001"] == "anger"
    assert len(afew.clips) == 28 and afew.folds == {"1": {"train": ["train"], "test": ["val"]}}
    assert "no part is for testing: val is tested" in afew.remarks
    assert "not read: Test_AFEW/000146160.avi, which is no class" in afew.remarks
    assert "part train: 14 clips, published are 773" in validate(afew).errors
    assert "42 clips, published are 13201" in validate(caer).errors


@pytest.mark.parametrize("name", RELEASES)
def test_check_prints_counts_and_writes_nothing(tmp_path: Path, name: str) -> None:
    """`--check`: the published counts beside those found, exit 1, no file anywhere."""
    getattr(layouts, f"write_{name}")(tmp_path / "source")
    before = sorted(tmp_path.rglob("*"))
    config = preprocess.Config(
        root=tmp_path / "ws", dataset=name.replace("_", "-"), source=tmp_path / "source", check=True
    )
    report = preprocess.run(config)
    text = report.as_text()
    assert report.exit_code == 1 and sorted(tmp_path.rglob("*")) == before
    assert "found" in text and "published" in text and "classes" in text
    assert json.dumps(report.as_dict()) and report.counts["errors"] == len(report.values["errors"])


def test_check_of_own_data(tmp_path: Path) -> None:
    """Nothing is published, so what is in order ends with 0."""
    layouts.write_class_folders(tmp_path / "own")
    report = preprocess.run(preprocess.Config(dataset="folder", source=tmp_path / "own", check=True))
    assert report.exit_code == 0 and report.lines[0] == "2 parts, 2 classes, 1 people, 28 clips (folders: class/person)"


@pytest.mark.parametrize("name", ["dfew", "mafw", "crema_d", "ravdess", "caer"])
def test_links_to_folders_and_clips_are_followed(tmp_path: Path, name: str) -> None:
    """A release whose clips lie on another disk, linked folder by folder or clip by clip, is the same release."""
    source, disk = tmp_path / "source", tmp_path / "disk"
    getattr(layouts, f"write_{name}")(source)
    clean = open_release(name, source)
    folders = sorted({Path(clip.source).parent for clip in clean.clips})
    disk.mkdir()
    for number, folder in enumerate(folders[:-1] or folders):
        folder.rename(disk / str(number))
        folder.symlink_to(disk / str(number))
    clip = Path(clean.clips[-1].source)
    clip.rename(disk / "clip")
    clip.symlink_to(disk / "clip")
    linked = open_release(name, source)
    assert facts(linked) == facts(clean) and validate(linked, {"media": 1000}).errors == []
