"""Adapters read the official layouts with all their traps, and the lists of three other code bases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import release_layouts as layouts
from release_layouts import check_sound, labels_of, write_text

from fclip.data.layouts import open_dataset
from fclip.data.layouts.base import class_names, published_facts
from fclip.data.layouts.validation import validate
from fclip.errors import FclipError, UsageError

# --- official releases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media", ["clip_224x224", "clip_224x224_16f", "clip_224x224_avi"])
def test_dfew(tmp_path: Path, media: str) -> None:
    """Folders with parentheses, numbers without zeros, labels from 1; each clip's part is the fold that tests it."""
    labels = layouts.write_dfew(tmp_path, media=media)
    dataset = open_dataset("dfew", tmp_path)
    check_sound(dataset)
    assert dataset.classes == class_names("dfew") == tuple(layouts.DFEW_CLASSES)
    assert labels_of(dataset) == {f"{n:05d}": layouts.DFEW_CLASSES[label - 1] for n, label in labels.items()}
    assert {clip.key: clip.part for clip in dataset.clips} == {
        f"{n:05d}": f"part{index % 5 + 1}" for index, n in enumerate(labels)
    }
    assert dataset.folds["3"] == {"train": ["part1", "part2", "part4", "part5"], "test": ["part3"]}
    expected = 16 if media.endswith("_16f") else None
    assert all(clip.meta.get("frames") == expected for clip in dataset.clips)
    assert dataset.media is not None and dataset.media.name == media


def test_dfew_views(tmp_path: Path) -> None:
    """`--view full` reads the original clips, `--media` any variant; what is missing is named."""
    layouts.write_dfew(tmp_path, media="original")
    full = open_dataset("dfew", tmp_path, view="full")
    check_sound(full)
    assert Path(full.clips[0].source).name == "2.mp4" and full.clips[0].key == "00002"
    assert open_dataset("dfew", tmp_path, media="original").clips == full.clips
    with pytest.raises(FclipError, match="clip_224x224"):
        open_dataset("dfew", tmp_path)
    with pytest.raises(UsageError, match="faces, full"):
        open_dataset("dfew", tmp_path, view="side")


def test_dfew_clip_outside_all_tests(tmp_path: Path) -> None:
    """A clip that no fold tests trains in all of them."""
    layouts.write_dfew(tmp_path)
    path = tmp_path / "EmoLabel_DataSplit" / "test(single-labeled)" / "set_1.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("2,")))
    dataset = open_dataset("dfew", tmp_path)
    assert {clip.key: clip.part for clip in dataset.clips}["00002"] == "train-only"
    assert all("train-only" in sides["train"] for sides in dataset.folds.values())


@pytest.mark.parametrize("label", ["0", "8", "x", ""])
def test_dfew_wrong_label(tmp_path: Path, label: str) -> None:
    """A label outside 1..7 (a list that counts from 0) names file and line."""
    layouts.write_dfew(tmp_path)
    path = tmp_path / "EmoLabel_DataSplit" / "train(single-labeled)" / "set_2.csv"
    write_text(path, ["video_name,label", "2,1", f"5,{label}"])
    with pytest.raises(FclipError, match=r"set_2.csv: line 3: label .* 1 to 7"):
        open_dataset("dfew", tmp_path)


@pytest.mark.parametrize("view", ["faces", "full"])
def test_ferv39k(tmp_path: Path, view: str) -> None:
    """Three-level folders, no header, scenes as metadata, one split."""
    labels = layouts.write_ferv39k(tmp_path)
    dataset = open_dataset("ferv39k", tmp_path, view=view)
    check_sound(dataset)
    assert labels_of(dataset) == {name.replace("/", "_"): label for name, label in labels.items()}
    assert dataset.folds == {"1": {"train": ["train"], "test": ["test"]}}
    assert Counter(clip.meta["scene"] for clip in dataset.clips) == {"Action": 21, "DailyLife": 21, "Talkshow": 21}
    assert not dataset.problems
    folder = "2_ClipsforFaceCrop" if view == "faces" else "3_ClipsforScenImages"
    assert dataset.clips[0].source == str(tmp_path / folder / "Action/Angry/0000")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a/../Sad/.. Sad", "leads out"),
        ("Action/Sad Sad", "is not <Scene>"),
        ("Action/Sad/0010", "expected `Scene"),
        ("Action/Sad/0010 Joyous", "unknown class 'Joyous'"),
    ],
)
def test_ferv39k_wrong_rows(tmp_path: Path, row: str, message: str) -> None:
    """Paths that lead out, missing columns and unknown classes are refused."""
    layouts.write_ferv39k(tmp_path)
    path = tmp_path / "4_setups" / "All_scenes" / "test_All.csv"
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(FclipError, match=message) as caught:
        open_dataset("ferv39k", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("splits", ["Train & Test Set", "Train_Test_Set"])
def test_mafw_single(tmp_path: Path, splits: str) -> None:
    """All single clips; captions of the other lists go along, in both languages, where there are any."""
    layouts.write_mafw(tmp_path, splits)
    dataset = open_dataset("mafw", tmp_path)
    check_sound(dataset)
    assert dataset.classes == tuple(layouts.MAFW_CLASSES) and len(dataset.clips) == 55
    assert Counter(clip.label for clip in dataset.clips) == dict.fromkeys(layouts.MAFW_CLASSES, 5)
    assert set(dataset.folds) == set("12345")
    for clip in dataset.clips:
        if clip.label == "neutral":
            assert clip.caption is None and "caption_zh" not in clip.meta
        else:
            assert clip.caption == f"A woman frowns, her lips part, clip {clip.key}."
            assert clip.meta["caption_zh"].startswith("一位女士“皱眉”")


def test_mafw_captioned_lists(tmp_path: Path) -> None:
    """`--human-captions` takes the clips of the caption lists only: no neutral ones."""
    layouts.write_mafw(tmp_path)
    dataset = open_dataset("mafw", tmp_path, human_captions=True)
    check_sound(dataset)
    assert len(dataset.clips) == 50 and all(clip.caption for clip in dataset.clips)
    assert dataset.published == "mafw/single-captions"


def test_mafw_compound(tmp_path: Path) -> None:
    """Compound labels are one class whatever the order of their words; single classes come first."""
    layouts.write_mafw(tmp_path)
    dataset = open_dataset("mafw", tmp_path, subset="compound", view="full")
    check_sound(dataset)
    assert dataset.classes[:11] == tuple(layouts.MAFW_CLASSES)
    assert dataset.classes[11:] == ("anger_contempt_disgust", "anger_disgust", "fear_sadness", "fear_surprise")
    assert Counter(clip.label for clip in dataset.clips)["anger_disgust"] == 4
    assert Path(dataset.clips[0].source).suffix == ".mp4"


def test_mafw_wrong_encoding(tmp_path: Path) -> None:
    """A caption list that is not GB18030 is named."""
    layouts.write_mafw(tmp_path)
    path = tmp_path / "Train & Test Set" / "single" / "with_caption" / "set_4" / "test.txt"
    path.write_bytes(b"00001.mp4\tanger\t\xff\xff\xfe\tText")
    with pytest.raises(FclipError, match=r"set_4.*test.txt: not gb18030"):
        open_dataset("mafw", tmp_path)


def test_crema_d(tmp_path: Path) -> None:
    """Labels from file names; five folds, and no actor on both sides of any."""
    layouts.write_crema_d(tmp_path)
    dataset = open_dataset("crema-d", tmp_path)
    check_sound(dataset)
    assert len(dataset.clips) == 60 and len(dataset.folds) == 5
    assert Counter(clip.label for clip in dataset.clips) == dict.fromkeys(dataset.classes, 10)
    parts = {(clip.meta["identity"], clip.part) for clip in dataset.clips}
    assert len(parts) == 10 and Counter(part for _, part in parts) == {f"part{k}": 2 for k in range(1, 6)}
    again = open_dataset("crema-d", tmp_path)
    other = open_dataset("crema-d", tmp_path, seed=7)
    assert again == dataset and {c.key: c.part for c in other.clips} != {c.key: c.part for c in dataset.clips}


def test_crema_d_not_fetched(tmp_path: Path) -> None:
    """Videos that git-lfs has not fetched yet are recognised, wherever they are."""
    layouts.write_crema_d(tmp_path)
    (tmp_path / "VideoFlash/1005_DFA_SAD_XX.flv").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid x")
    report = validate(open_dataset("crema-d", tmp_path), {})
    assert len(report.errors) == 1 and "1005_DFA_SAD_XX.flv" in report.errors[0] and "git lfs pull" in report.errors[0]


def test_ravdess(tmp_path: Path) -> None:
    """Speech only by default, one version of each performance, six actor-disjoint folds."""
    layouts.write_ravdess(tmp_path)
    dataset = open_dataset("ravdess", tmp_path)
    check_sound(dataset)
    assert dataset.classes == tuple(published_facts("ravdess")["classes"])
    assert len(dataset.clips) == 12 * 8 and len(dataset.folds) == 6
    modalities = Counter((clip.key[:2], clip.meta["identity"]) for clip in dataset.clips)
    assert modalities["02", "02"] == 8 and modalities["01", "01"] == 8 and ("02", "01") not in modalities
    song = open_dataset("ravdess", tmp_path, media="song")
    assert len(song.clips) == 11 * 8
    with pytest.raises(UsageError, match="speech, song"):
        open_dataset("ravdess", tmp_path, media="opera")


@pytest.mark.parametrize("name", ["crema-d", "ravdess", "folder"])
def test_empty_releases(tmp_path: Path, name: str) -> None:
    """A folder without clips says what was expected."""
    (tmp_path / "VideoFlash").mkdir()
    with pytest.raises(FclipError, match="no (videos|clips)"):
        open_dataset(name, tmp_path)


# --- class orders of other code bases -------------------------------------------------------------------------------


def _index_lists(root: Path, order: str, name: str, truth: dict[str, str], folds: int) -> None:
    """Write lists as the three code bases do."""
    classes = published_facts(name)["orders"][order]
    clips = list(truth)
    for fold in range(1, folds + 1):
        test = set(clips[fold - 1 :: 5])
        for side in ("train", "test"):
            members = [(clip, classes.index(truth[clip])) for clip in clips if (clip in test) == (side == "test")]
            if order == "dferclip":
                stem = f"{name.upper()}_set_{fold}_{side}" if folds > 1 else f"{name.upper()}_{side}"
                write_text(
                    root / "annotation" / f"{stem}.txt",
                    [f"/data/any where/{name}/{clip} 3 {index}" for clip, index in members],
                    end=False,
                )
            elif order == "maedfer":
                folder = root / "saved/data" / name / (f"split0{fold}" if folds > 1 else "all_scenes")
                rows = [f"path/to/frames/{clip} {index}" for clip, index in members]
                write_text(folder / f"{side}.csv", rows)
                if side == "test":
                    write_text(folder / "val.csv", rows)
            else:
                folder = root / name / f"{side}(single-labeled)"
                write_text(
                    folder / (f"{side}_set_{fold}.csv" if folds > 1 else f"{side}.csv"),
                    ["path,label", *(f"{clip},{index}" for clip, index in members)],
                )


@pytest.mark.parametrize("order", ["dferclip", "maedfer", "s2d"])
@pytest.mark.parametrize("name", ["dfew", "ferv39k", "mafw"])
def test_orders_round_trip(tmp_path: Path, name: str, order: str) -> None:
    """Lists written with a code base's indices come back as the same names, parts and folds."""
    release, lists = tmp_path / "release", tmp_path / "lists"
    getattr(layouts, f"write_{name}")(release)
    official = open_dataset(name, release)
    if name == "ferv39k":
        truth = {clip.meta["path"].split("/", 1)[1]: clip.label for clip in official.clips}
    else:
        truth = {clip.key: clip.label for clip in official.clips}
    _index_lists(lists, order, name, truth, 1 if name == "ferv39k" else 5)
    write_text(lists / "OTHER_set_1_train.txt", ["/data/other/00001 3 0"])
    imported = open_dataset(name, release, order=order, splits=lists)
    check_sound(imported)
    assert labels_of(imported) == labels_of(official) and imported.classes == official.classes
    if name != "ferv39k":
        assert {c.key: c.part for c in imported.clips} == {c.key: c.part for c in official.clips}
    assert not imported.problems
    assert all(clip.meta.get("frames") == (3 if order == "dferclip" else None) for clip in imported.clips)


def test_orders_differ_where_they_must() -> None:
    """The tables are the known ones: S2D alphabetical, MAE-DFER's MAFW starting with anger."""
    for name in ("dfew", "ferv39k", "mafw"):
        orders = published_facts(name)["orders"]
        assert set(orders) == {"dferclip", "maedfer", "s2d"}
        assert all(sorted(order) == sorted(class_names(name)) for order in orders.values())
        assert tuple(orders["dferclip"]) == class_names(name)
    assert published_facts("mafw")["orders"]["s2d"] == sorted(class_names("mafw"))
    assert published_facts("ferv39k")["orders"]["s2d"] == sorted(class_names("ferv39k"))
    assert published_facts("mafw")["orders"]["maedfer"][:3] == ["anger", "disgust", "fear"]


def test_wrong_order_is_noticed(tmp_path: Path) -> None:
    """FERV39k's folders contradict labels read in the wrong order; an index beyond the classes is an error."""
    layouts.write_ferv39k(tmp_path)
    truth = {clip.meta["path"].split("/", 1)[1]: clip.label for clip in open_dataset("ferv39k", tmp_path).clips}
    _index_lists(tmp_path / "lists", "s2d", "ferv39k", truth, 1)
    wrong = open_dataset("ferv39k", tmp_path, order="dferclip", splits=tmp_path / "lists")
    assert len(wrong.problems) == 1 and "is --order right?" in wrong.problems[0]
    write_text(tmp_path / "lists/ferv39k/test(single-labeled)/test.csv", ["Action/Sad/0001,7"])
    with pytest.raises(FclipError, match="line 1: class index 7"):
        open_dataset("ferv39k", tmp_path, order="s2d", splits=tmp_path / "lists")
    with pytest.raises(UsageError, match="dferclip, maedfer, s2d"):
        open_dataset("ferv39k", tmp_path, order="alphabet")
