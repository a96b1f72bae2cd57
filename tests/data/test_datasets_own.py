"""Users' own folders and CSV files, the rendered sets, drawn parts, safe names and paths."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import release_layouts as layouts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from release_layouts import check_sound, labels_of, write_text

from fclip.data.layouts import open_dataset
from fclip.data.layouts.base import class_names, inside, unique_keys
from fclip.data.layouts.grouping import draw_parts
from fclip.data.layouts.validation import validate
from fclip.data.media.sampling import SamplingPlan
from fclip.data.media.video import read_clip
from fclip.errors import FclipError, UsageError
from fclip.records import check_key
from fclip.registry import DATASETS

# --- own data -------------------------------------------------------------------------------------------------------


def test_folder(tmp_path: Path) -> None:
    """Class folders with videos, frame folders and a person's folder; 80/20 by default."""
    layouts.write_class_folders(tmp_path)
    dataset = open_dataset("folder", tmp_path)
    check_sound(dataset)
    assert dataset.classes == ("Happy", "Sad") and len(dataset.clips) == 28
    assert Counter((clip.label, clip.part) for clip in dataset.clips)["Happy", "train"] in (10, 11, 12)
    anna = {clip.part for clip in dataset.clips if "/anna/" in clip.meta["path"]}
    assert len(anna) == 1
    assert {c.meta.get("identity") for c in dataset.clips} == {"anna", None}
    assert all((c.meta.get("identity") == "anna") == ("/anna/" in c.meta["path"]) for c in dataset.clips)
    assert dataset.folds == {"1": {"train": ["train"], "test": ["test"]}}
    assert open_dataset("folder", tmp_path) == dataset


def test_folder_of_pictures(tmp_path: Path) -> None:
    """Pictures right in a class folder are clips of one frame; a class folder without clips is a mismatch."""
    layouts.touch_frames(tmp_path / "Happy", 3)
    layouts.touch_frames(tmp_path / "Sad" / "clip", 2)
    (tmp_path / "Fear").mkdir()
    (tmp_path / "Fear" / "notes.txt").write_text("to come")
    dataset = open_dataset("folder", tmp_path)
    check_sound(dataset)
    assert labels_of(dataset) == {f"Happy_Happy_{n:05d}": "Happy" for n in (1, 2, 3)} | {"Sad_clip": "Sad"}
    clip = read_clip(dataset.clips[0].source, SamplingPlan(4))
    assert clip.total == 1 and clip.frames.shape == (4, 32, 40, 3)
    assert validate(dataset).errors == ["class folder Fear holds no clips"]


def test_folder_folds_and_classes(tmp_path: Path) -> None:
    """`--folds` draws equal stratified parts; `--classes` fixes names and order through known spellings."""
    layouts.write_class_folders(tmp_path)
    dataset = open_dataset("folder", tmp_path, folds=4, classes=("sadness", "happiness"))
    check_sound(dataset)
    assert dataset.classes == ("sadness", "happiness") and set(dataset.folds) == set("1234")
    sizes = Counter(clip.part for clip in dataset.clips)
    assert sum(sizes.values()) == 28 and max(sizes.values()) <= 10
    with pytest.raises(FclipError, match=r"unknown class 'Happy'.*anger"):
        open_dataset("folder", tmp_path, classes=("anger", "sadness"))
    with pytest.raises(UsageError, match="--folds 1"):
        open_dataset("folder", tmp_path, folds=1)


def _csv(path: Path, header: str, *rows: str) -> Path:
    for row in rows:
        clip = path.parent / row.split(",")[0].strip('"')
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(b"video")
    write_text(path, [header, *rows])
    return path


def test_csv(tmp_path: Path) -> None:
    """Parts, captions with commas and line breaks, a byte-order mark, other columns."""
    path = _csv(
        tmp_path / "clips.csv",
        "path,label,part,caption,note",
        'a/x.mp4,joy,part1,"Smiles, then laughs.",1',
        "a/y.mp4,fear,part2,,2",
        "b/x.mp4,joy,part10,Still.,3",
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"Smiles, then", b"Smiles,\nthen"))
    dataset = open_dataset("csv", path)
    check_sound(dataset)
    assert dataset.classes == ("fear", "joy")
    assert [clip.key for clip in dataset.clips] == ["a_x", "a_y", "b_x"]
    assert [clip.caption for clip in dataset.clips] == ["Smiles,\nthen laughs.", None, "Still."]
    assert dataset.folds["3"] == {"train": ["part1", "part2"], "test": ["part10"]}


def test_csv_with_absolute_paths(tmp_path: Path) -> None:
    """Files below the table's folder may be named from the root of the disk; keys do not hold that."""
    path = _csv(tmp_path / "clips.csv", "path,label", "a/x.mp4,joy", f"{tmp_path.resolve()}/b/y.mp4,fear")
    clips = open_dataset("csv", path).clips
    assert [(clip.key, clip.meta["path"]) for clip in clips] == [("a_x", "a/x.mp4"), ("b_y", "b/y.mp4")]
    assert all(Path(clip.source).is_file() for clip in clips)


def test_csv_train_test_column(tmp_path: Path) -> None:
    """train and test as parts make one fold; people stay together when parts are drawn."""
    path = _csv(tmp_path / "a.csv", "path,label,part", "1.mp4,a,train", "2.mp4,b,test", "3.mp4,a,val")
    assert open_dataset("csv", path).folds == {"1": {"train": ["train"], "test": ["test"]}}
    rows = [f"{person}_{take}.mp4,{'ab'[take % 2]},{person}" for person in "klmnopqrst" for take in range(4)]
    drawn = open_dataset("csv", _csv(tmp_path / "b.csv", "path,label,identity", *rows), folds=5)
    assert len({(clip.meta["identity"], clip.part) for clip in drawn.clips}) == 10
    assert Counter((clip.part, clip.label) for clip in drawn.clips).most_common()[-1][1] == 4
    with pytest.raises(UsageError, match="--folds 3"):
        open_dataset("csv", path, folds=3)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["path,label", "gone.mp4,a", "C:\\x.mp4,b"],
            r"line 2: 'gone.mp4': no such file \(nor any of 1 more\).*--media",
        ),
        (["path,label", "a.mp4,"], r"line 2: 'a.mp4' has no label"),
        (["path,label,part", "a.mp4,a,train", "b.mp4,a,test", "c.mp4,b,extra"], r"part 'extra' beside 'test'"),
        (["path,label,fold", "a.mp4,a,1", "b.mp4,a,1"], r"one fold only \(1\)"),
        (["path,start,end,label", "a.mp4,3,2,a"], r"line 2: the clip ends at 2 s, before it begins \(3 s\)"),
        (["path,start,end,label", "a.mp4,soon,,a"], r"line 2: start 'soon' is no time; give seconds or h:m:s"),
        (["path,label", ",a"], r"line 2: empty"),
        (["path,label", "a.mp4,a", "a.mp4,a"], r"line 3: 'a.mp4' is already listed in line 2"),
        (["path,label", "a.mp4,a", "./a.mp4,b"], r"line 3: './a.mp4' is already listed in line 2"),
        (["path,label", "a.mp4,a,b"], r"line 2: 3 values for 2 columns"),
        (["path,label,part", "a.mp4,a,part 1", "b.mp4,a,part 2"], r"line 2: part 'part 1'"),
        (["path,label", 'a.mp4,"a'], r"not comma-separated"),
        (
            ["place,kind", "a.mp4,a"],
            r"no column path, label in its header \(place,kind\) \(path may also be called file",
        ),
        (["path;label", "a.mp4;a;b"], r"line 2: 3 values for 2 columns"),
        (["path,label"], r"no clips"),
        ([], r"no column path, label"),
    ],
)
def test_csv_mistakes(tmp_path: Path, lines: list[str], message: str) -> None:
    """Each mistake is one line with file, line and remedy."""
    root = tmp_path / "data"
    root.mkdir()
    (root / "a.mp4").write_bytes(b"video")
    write_text(root / "a.csv", lines)
    with pytest.raises(FclipError, match=message) as caught:
        open_dataset("csv", root / "a.csv")
    assert "\n" not in str(caught.value)


def test_csv_unknown_class(tmp_path: Path) -> None:
    """With --classes, another label is an error that proposes the nearest name."""
    path = _csv(tmp_path / "a.csv", "path,label", "1.mp4,happiness", "2.mp4,hapiness")
    with pytest.raises(FclipError, match=r"line 3: unknown class 'hapiness'.*did you mean happiness\?"):
        open_dataset("csv", path, classes=("happiness", "fear"))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text(max_size=12), max_size=4), max_size=6), st.binary(max_size=40))
def test_any_csv(tmp_path: Path, rows: list[list[str]], noise: bytes) -> None:
    """Whatever the file holds: a data set, or one FclipError of one line."""
    path = tmp_path / "any.csv"
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerows([["path", "label", "part"], *rows])
    path.write_bytes(path.read_bytes() + noise)
    try:
        open_dataset("csv", path)
    except FclipError as error:
        assert "\n" not in str(error)


# --- the rendered sets and the common door --------------------------------------------------------------------------


def _rendered(root: Path, **changes: object) -> Path:
    description = {
        "name": "demo7",
        "classes": list(class_names("demo7")),
        "folds": {"1": {"train": ["part2"], "test": ["part1"]}},
    } | changes
    write_text(root / "dataset.json", [json.dumps(description)])
    _csv(
        root / "annotations.csv",
        "path,label,part,caption,identity",
        "clips/demo7-0.mp4,happiness,part1,Smiles.,4",
        "clips/demo7-1.mp4,fear,part2,,5",
    )
    return root


def test_rendered(tmp_path: Path) -> None:
    """The layout of `fclip synth`."""
    dataset = open_dataset("demo7", _rendered(tmp_path))
    check_sound(dataset)
    assert dataset.name == "demo7" and dataset.classes == class_names("demo7")
    assert [(c.key, c.label, c.part, c.caption, c.meta["identity"]) for c in dataset.clips] == [
        ("demo7-0", "happiness", "part1", "Smiles.", "4"),
        ("demo7-1", "fear", "part2", None, "5"),
    ]


@pytest.mark.parametrize("changes", [{"classes": 3}, {"folds": {"1": {"train": []}}}, {"folds": None}])
def test_damaged_rendered(tmp_path: Path, changes: dict[str, object]) -> None:
    """A damaged description says how to make it again."""
    with pytest.raises(FclipError, match="fclip synth"):
        open_dataset("demo7", _rendered(tmp_path, **changes))


def test_the_door(tmp_path: Path) -> None:
    """Unknown names, missing folders and options that do not apply."""
    assert {"demo7", "demo11", "dfew", "ferv39k", "mafw", "crema-d", "ravdess", "caer", "afew", "folder", "csv"} == set(
        DATASETS.names()
    )
    with pytest.raises(UsageError, match="did you mean ferv39k"):
        open_dataset("ferv39", tmp_path)
    with pytest.raises(FclipError, match="no such file or folder"):
        open_dataset("dfew", tmp_path / "nowhere")
    with pytest.raises(UsageError, match="data set folder: unknown option 'order'; there are: classes, folds"):
        open_dataset("folder", tmp_path, order="s2d")


# --- parts ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 15)), min_size=20, max_size=120),
    st.sampled_from([None, 2, 5]),
    st.integers(0, 5),
)
def test_drawn_parts(members: list[tuple[str, int]], folds: int | None, seed: int) -> None:
    """Groups stay whole, every part is filled, and the order of the clips does not matter."""
    labels, groups = [label for label, _ in members], [f"person{number}" for _, number in members]
    if len(set(groups)) < 8:
        return
    parts, plan = draw_parts(labels, groups, folds, seed)
    assert len(set(zip(groups, parts, strict=True))) == len(set(groups))
    assert set(parts) == ({"train", "test"} if folds is None else {f"part{k}" for k in range(1, folds + 1)})
    assert all(sides["train"] and sides["test"] for sides in plan.values())
    turned, _ = draw_parts(labels[::-1], groups[::-1], folds, seed)
    assert turned == parts[::-1]


def test_drawn_parts_are_balanced() -> None:
    """1,000 clips of 100 people in five parts: each class within 15 % of a fifth; 80/20 within 2 %."""
    groups = [f"p{index % 100}" for index in range(1000)]
    labels = ["abcdefg"[(index * 7 + index // 100) % 7] for index in range(1000)]
    parts, _ = draw_parts(labels, groups, 5, 0)
    counts = Counter(zip(parts, labels, strict=True))
    for label in "abcdefg":
        fifth = labels.count(label) / 5
        assert all(abs(counts[f"part{k}", label] - fifth) <= 0.15 * fifth for k in range(1, 6))
    single, _ = draw_parts(labels, groups, None, 0)
    assert single.count("train") / 1000 == pytest.approx(0.8, abs=0.02)


# --- names and paths ------------------------------------------------------------------------------------------------


@given(st.lists(st.text(min_size=1, max_size=20), unique=True, max_size=30))
def test_unique_keys(names: list[str]) -> None:
    """Different paths get different valid keys, whatever their characters, whoever else is there."""
    keys = unique_keys(names)
    assert len({check_key(key) for key in keys}) == len(names)


def test_keys_are_readable() -> None:
    """The path without suffix; a hash only where two would collide."""
    keys = unique_keys(["a/b.mp4", "a/c.d.mp4", "x y.avi", "x_y.mp4"])
    assert keys[:2] == ["a_b", "a_c_d"] and keys[2].startswith("x_y-") and keys[3].startswith("x_y-")
    assert keys[2] != keys[3]


@given(st.text(max_size=30))
def test_no_path_leads_out(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever a split file says, the path stays below the root or is refused."""
    root = tmp_path_factory.getbasetemp()
    try:
        path = inside(root, text, "list")
    except FclipError as error:
        assert "\n" not in str(error)
    else:
        assert path.resolve().is_relative_to(root.resolve())
