"""The validation finds every planted mismatch and nothing in a sound release."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import release_layouts as layouts
from release_layouts import write_text

from fclip.data.layouts import Dataset, open_dataset
from fclip.data.layouts.base import class_names, published_facts
from fclip.data.layouts.validation import validate
from fclip.data.storage.splits import read_classes, read_splits
from fclip.errors import FclipError
from fclip.records import Clip
from fclip.stages import preprocess

NONE: dict[str, object] = {}  # no published counts: the copies are miniatures


@pytest.mark.parametrize("name", ["dfew", "ferv39k", "mafw", "crema_d", "ravdess"])
def test_sound_releases(tmp_path: Path, name: str) -> None:
    """No finding, and the report is plain data."""
    getattr(layouts, f"write_{name}")(tmp_path)
    extra = {"media": 1000} if name == "mafw" else {}  # its compound clips are in no single list
    report = validate(open_dataset(name.replace("_", "-"), tmp_path), extra)
    assert report.ok and report.errors == []
    assert json.loads(json.dumps(report.as_dict()))["ok"] is True
    assert sum(report.per_class.values()) == report.clips > 0
    assert all(finding["count"] == 0 for finding in report.findings.values())


def test_counts_and_table(tmp_path: Path) -> None:
    """Counts per class, part and fold; the table shows them."""
    layouts.write_dfew(tmp_path)
    report = validate(open_dataset("dfew", tmp_path), NONE)
    assert report.per_class == dict.fromkeys(class_names("dfew"), 5)
    assert report.per_part["part1"]["happiness"] == 1 and set(report.per_part) == {f"part{k}" for k in range(1, 6)}
    assert sum(report.per_fold["2"]["train"].values()) == 28 and sum(report.per_fold["2"]["test"].values()) == 7
    lines = report.table().splitlines()
    assert lines[0].split() == ["part1", "part2", "part3", "part4", "part5", "all", "share"]
    assert lines[1].split() == ["happiness", "1", "1", "1", "1", "1", "5", "14.3", "%"]
    assert lines[8].split() == ["all", "7", "7", "7", "7", "7", "35"]
    assert "fold 5: 28 train, 7 test" in lines


def test_published_counts(tmp_path: Path) -> None:
    """A miniature is not the release: totals, classes and folds differ, each in one line."""
    layouts.write_dfew(tmp_path)
    report = validate(open_dataset("dfew", tmp_path))
    assert not report.ok and report.errors[0] == "35 clips, published are 11697"
    assert "all clips: 5 happiness, published are 2445" in report.errors
    assert "fold 1 test: 1 disgust, published are 29" in report.errors
    assert "fold 5 train: 28 clips, published are 9361" in report.errors
    assert "error: 35 clips, published are 11697" in report.table()


def test_the_command_stops_at_a_mismatch_or_goes_on(tmp_path: Path) -> None:
    """Both reports are there before any work; accepted, every fold's parts become shards with the official names."""
    layouts.write_dfew(tmp_path / "release")
    options = {"root": tmp_path, "dataset": "dfew", "source": tmp_path / "release", "workers": 1}
    options |= {"frames": "2", "size": 16}
    with pytest.raises(FclipError, match=r"35 clips, published are 11697; all in .*validation\.txt") as caught:
        preprocess.run(preprocess.Config(**options))
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    assert {path.name for path in (tmp_path / "dfew").iterdir()} == {
        "duplicates.csv",  # the miniature repeats one picture
        "validation.json",
        "validation.txt",
    }
    assert json.loads((tmp_path / "dfew" / "validation.json").read_text())["ok"] is False
    table = (tmp_path / "dfew" / "validation.txt").read_text().splitlines()
    assert "error: fold 1 test: 1 disgust, published are 29" in table
    report = preprocess.run(preprocess.Config(**options, accept_mismatch=True))
    assert report.counts["ok"] == 35 and set(table) <= set(report.lines)
    frames = tmp_path / "dfew" / "frames"
    assert {path.stem for path in frames.glob("*.tar")} == {f"part{k}-00000" for k in range(1, 6)}
    assert read_classes(frames) == class_names("dfew")
    assert read_splits(frames).fold_parts(3, "test") == ["part3"]


def _published_clips(name: str, table: str) -> Dataset:
    """A data set in memory with exactly the published counts."""
    facts = published_facts(name)["counts"][table]
    clips = []
    if name == "ferv39k":
        for side, counts in facts["folds"]["1"].items():
            scenes = [scene for scene, sides in facts["scenes"].items() for _ in range(sides[side])]
            labels = [label for label, count in counts.items() for _ in range(count)]
            clips += [
                Clip(f"{side}{i}", ".", label, side, meta={"scene": scene})
                for i, (label, scene) in enumerate(zip(labels, scenes, strict=True))
            ]
        folds = {"1": {"train": ["train"], "test": ["test"]}}
    else:
        for fold, sides in facts["folds"].items():
            clips += [
                Clip(f"{fold}{label}{i}", ".", label, f"part{fold}")
                for label, count in sides["test"].items()
                for i in range(count)
            ]
        parts = [f"part{fold}" for fold in "12345"]
        folds = {part[4:]: {"train": [other for other in parts if other != part], "test": [part]} for part in parts}
    for index, clip in enumerate(clips):
        object.__setattr__(clip, "source", f"/{index}")
    return Dataset(name, Path(), class_names(name), clips, folds, published=f"{name}/{table}")


@pytest.mark.parametrize("name", ["dfew", "ferv39k"])
def test_published_tables_agree_with_themselves(name: str) -> None:
    """Totals, classes, folds and scenes of the table fit together; one clip less is noticed."""
    dataset = _published_clips(name, "single")
    report = validate(dataset)
    assert [line for line in report.errors if not line.startswith("listed but not there")] == []
    dataset.clips.pop()
    report = validate(dataset)
    assert any("published are" in line for line in report.errors)


@pytest.mark.parametrize(("table", "total"), [("single", 9172), ("single-captions", 8034), ("compound", 8996)])
def test_published_mafw_tables(table: str, total: int) -> None:
    """Every fold's train and test are the whole set."""
    facts = published_facts("mafw")["counts"][table]
    for sides in facts["folds"].values():
        test = sides["test"] if isinstance(sides["test"], int) else sum(sides["test"].values())
        assert sides["train"] + test == facts["total"] == total
    assert sum(facts.get("per_class", {"all": total}).values()) == total


def findings(report: object) -> set[str]:
    return {name for name, finding in report.findings.items() if finding["count"]}  # type: ignore[attr-defined]


def test_missing_and_surplus_clips(tmp_path: Path) -> None:
    """A listed clip that is not there; a clip in no list, unless the release is known to hold more."""
    layouts.write_dfew(tmp_path)
    shutil.rmtree(tmp_path / "Clip/clip_224x224/00002")
    layouts.touch_frames(tmp_path / "Clip/clip_224x224/99999")
    layouts.touch_frames(tmp_path / "Clip/clip_224x224/99998")
    dataset = open_dataset("dfew", tmp_path)
    report = validate(dataset, NONE)
    assert findings(report) == {"missing_files", "surplus_files"}
    assert report.errors == ["listed but not there: Clip/clip_224x224/00002", "there but in no list: 99998 and 1 more"]
    assert findings(validate(dataset, {"media": 36})) == {"missing_files"}
    assert findings(validate(dataset, {"media": 35})) == {"missing_files", "surplus_files"}


def test_frame_counts(tmp_path: Path) -> None:
    """A 16-frame folder with 15 frames, and an annotation that counts one frame too many."""
    layouts.write_dfew(tmp_path / "a", media="clip_224x224_16f")
    next((tmp_path / "a/Clip/clip_224x224_16f/00005").iterdir()).unlink()
    report = validate(open_dataset("dfew", tmp_path / "a"), NONE)
    assert report.errors == ["number of frames differs: Clip/clip_224x224_16f/00005 (16 annotated, 15 on disk)"]
    layouts.write_dfew(tmp_path / "b")
    for side, rows in (("train", ["x/00002 4 0"]), ("test", ["x/00005 3 1"])):
        write_text(tmp_path / "lists" / f"DFEW_{side}.txt", rows)
    imported = open_dataset("dfew", tmp_path / "b", order="dferclip", splits=tmp_path / "lists")
    report = validate(imported, {"media": 35})
    assert report.errors == ["number of frames differs: Clip/clip_224x224/00002 (4 annotated, 3 on disk)"]


@pytest.mark.parametrize(("name", "least", "most"), [("dfew", 11, 847), ("ferv39k", 8, 47), ("mafw", 9, 727)])
def test_published_frame_ranges(tmp_path: Path, name: str, least: int, most: int) -> None:
    """A frame folder shorter or longer than any of the release (crops cut off, or two clips in one folder)."""
    getattr(layouts, f"write_{name}")(tmp_path)
    dataset = open_dataset(name, tmp_path)
    table = published_facts(name)["counts"]["single"]
    assert table["frames"] == [least, most]
    layouts.touch_frames(Path(dataset.clips[0].source), 5, "png" if name == "mafw" else "jpg")
    for bounds, offenders in (([2, 5], 0), ([4, 5], len(dataset.clips) - 1), ([2, 4], 1)):
        report = validate(dataset, {"media": 1000, "frames": bounds})
        assert report.findings["frame_counts"]["count"] == offenders
    assert report.errors == [f"number of frames differs: {dataset.clips[0].meta['path']} (2 to 4 published, 5 on disk)"]


def _edit(path: Path, change: object) -> None:
    lines = path.read_text().splitlines()
    write_text(path, change(lines))  # type: ignore[operator]


def test_duplicates_overlap_and_gaps(tmp_path: Path) -> None:
    """Repeated rows, a test clip in train, a clip tested twice, a train list that leaves one out."""
    split = tmp_path / "EmoLabel_DataSplit"
    train1, test2 = split / "train(single-labeled)/set_1.csv", split / "test(single-labeled)/set_2.csv"

    def fresh() -> None:
        shutil.rmtree(tmp_path)
        layouts.write_dfew(tmp_path)

    layouts.write_dfew(tmp_path)
    _edit(train1, lambda lines: [*lines, lines[-1]])
    report = validate(open_dataset("dfew", tmp_path), NONE)
    assert findings(report) == {"duplicate_rows"} and "fold 1, train" in report.errors[0]

    fresh()
    _edit(train1, lambda lines: [*lines, "2,1"])
    report = validate(open_dataset("dfew", tmp_path), NONE)
    assert findings(report) == {"train_test_overlap", "incomplete_train"}
    assert report.errors[0] == "in train and test of one fold: 00002 (fold 1)"

    fresh()
    _edit(test2, lambda lines: [*lines, "2,1"])
    report = validate(open_dataset("dfew", tmp_path), NONE)
    assert "tested_twice" in findings(report) and any("two folds: 00002" in line for line in report.errors)

    fresh()
    _edit(train1, lambda lines: lines[:-1])
    report = validate(open_dataset("dfew", tmp_path), NONE)
    assert findings(report) == {"incomplete_train"} and "(fold 1)" in report.errors[0]

    fresh()
    _edit(train1, lambda lines: [*lines[:-1], lines[-1].split(",")[0] + ",1"])
    report = validate(open_dataset("dfew", tmp_path), NONE)
    assert not findings(report)
    assert report.errors == ["label differs between lists: 00104, happiness and fear in the train list of fold 2"]


def test_people_on_both_sides(tmp_path: Path) -> None:
    """A person whose clips are in train and test."""
    layouts.write_crema_d(tmp_path)
    dataset = open_dataset("crema-d", tmp_path)
    dataset.clips[0] = dataclasses.replace(
        dataset.clips[0], part=next(clip.part for clip in dataset.clips if clip.part != dataset.clips[0].part)
    )
    report = validate(dataset, NONE)
    assert findings(report) == {"train_test_overlap"} and "person 1001" in report.errors[0]
    assert "10 people, published are 91" in validate(dataset).errors


def test_hand_made_mistakes(tmp_path: Path) -> None:
    """Repeated keys and files, unknown labels, folds over parts without clips."""
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(b"video")
    clips = [
        Clip("a", str(tmp_path / "a.mp4"), "joy", "train"),
        Clip("a", str(tmp_path / "b.mp4"), "joy", "train"),
        Clip("c", str(tmp_path / "b.mp4"), "bliss", "test"),
    ]
    folds = {"1": {"train": ["train", "extra"], "test": ["test", "train"]}}
    report = validate(Dataset("mine", tmp_path, ("joy",), clips, folds))
    assert findings(report) == {
        "duplicate_keys",
        "duplicate_files",
        "unknown_classes",
        "untrained_classes",
        "empty_parts",
        "train_test_overlap",
    }
    assert not report.ok and report.as_dict()["ok"] is False and all("\n" not in line for line in report.errors)
