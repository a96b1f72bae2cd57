"""What people have on disk is read as they mean it: folder levels, lists, splits, labels; and what is not read is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from media_files import read_numbers, write_numbered
from release_layouts import touch_frames

from fclip.config import config_dict
from fclip.data.layouts import Dataset, open_dataset
from fclip.data.layouts.duplicates import drop_duplicates, same_content, write_duplicates
from fclip.data.layouts.validation import validate
from fclip.data.media.files import IMAGE_SUFFIXES
from fclip.data.media.sampling import SamplingPlan
from fclip.data.media.video import Segment, open_source, read_clip
from fclip.data.storage.shards import parse_frame_sample, read_shard
from fclip.errors import ClipFailure, FclipError, UsageError
from fclip.stages import preprocess


def put(root: Path, *names: str) -> Path:
    """Empty files; listing does not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write_list(path: Path, *lines: str, encoding: str = "utf-8", clips: int = 6) -> Path:
    """A list, and v1.mp4 ... beside it."""
    put(path.parent, *(f"v{index}.mp4" for index in range(1, clips + 1)))
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def facts(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Path -> label, part where it is not drawn, person, scene."""
    return {
        clip.meta["path"]: (clip.label, clip.part, clip.meta.get("identity", ""), clip.meta.get("scene", ""))
        for clip in dataset.clips
    }


# --- levels of folders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "levels", "sample", "expected"),
    [
        ("{train,test,val}/{Angry,Happy}/1.mp4", "split/class", "test/Happy/1.mp4", ("Happy", "test", "", "")),
        ("{Training,Dev,TEST}/{a,b}/1.mp4", "split/class", "Dev/b/1.mp4", ("b", "val", "", "")),
        ("{happy,sad}/{train,valid}/1.mp4", "class/split", "sad/valid/1.mp4", ("sad", "val", "", "")),
        ("{train,test}/{x,y}/{s1,s2}/1.mp4", "split/class/person", "test/y/s2/1.mp4", ("y", "test", "s2", "")),
        ("{happy,sad}/{ann,bob}/day1/1.mp4", "class/person", "sad/bob/day1/1.mp4", ("sad", None, "bob", "")),
        ("{s1,s2}/{happy,sad}/take/1.mp4", "person/class", "s2/sad/take/1.mp4", ("sad", None, "s2", "")),
        ("{s1,s2,s3}/{bored,keen}/1.mp4", "person/class", "s2/keen/1.mp4", ("keen", None, "s2", "")),
        ("{Action,War}/{Angry,Sad}/0001.mp4", "scene/class", "War/Sad/0001.mp4", ("Sad", None, "", "War")),
        ("{Action,War}/{Angry,Sad}/0001/1.jpg", "scene/class", "War/Sad/0001", ("Sad", None, "", "War")),
        ("{bored,keen}/{c1,c2}/1.jpg", "class", "keen/c2", ("keen", None, "", "")),
        ("{train,test}/{x,y}/1.jpg", "split/class", "test/y/1.jpg", ("y", "test", "", "")),
        ("{happy,sad}/{train,test}/1.jpg", "class/split", "sad/test/1.jpg", ("sad", "test", "", "")),
    ],
)
def test_levels_are_recognised(
    tmp_path: Path, tree: str, levels: str, sample: str, expected: tuple[str | None, ...]
) -> None:
    """By their names; each clip gets what its folders say, and the split is never a class."""
    names = [""]
    for piece in tree.replace("{", "|{").replace("}", "}|").split("|"):
        choices = piece.strip("{}").split(",") if piece.startswith("{") else [piece]
        names = [name + choice for name in names for choice in choices]
    dataset = open_dataset("folder", put(tmp_path, *names))
    assert dataset.levels == levels and len(dataset.clips) == len(names)
    label, part, person, scene = facts(dataset)[sample]
    assert (label, person, scene) == (expected[0], expected[2], expected[3]) and expected[1] in (None, part)
    if "split" in levels:
        tested = "test" if "test" in {clip.part for clip in dataset.clips} else "val"
        assert dataset.folds == {"1": {"train": ["train"], "test": [tested]}}
    assert validate(dataset).ok or "person s1 (fold 1)" in validate(dataset).errors[0]


def test_layout_says_what_levels_are(tmp_path: Path) -> None:
    """`--layout` overrides the names; what it cannot mean is refused; half a split is not guessed at."""
    put(tmp_path, *(f"{a}/{b}/{n}.mp4" for a in ("happy", "sad") for b in ("train", "test") for n in (1, 2)))
    dataset = open_dataset("folder", tmp_path, layout="any/class")
    assert dataset.classes == ("test", "train") and dataset.levels == "any/class"
    people = open_dataset("folder", tmp_path, layout="person/class")
    assert {clip.meta["identity"] for clip in people.clips} == {"happy", "sad"}
    assert people.summary() == "2 parts, 2 classes, 2 people, 8 clips (folders: person/class)"
    for wrong in ("split", "class/class", "class/peson"):
        with pytest.raises(UsageError, match="--layout"):
            open_dataset("folder", tmp_path, layout=wrong)
    with pytest.raises(UsageError, match="--folds 2: .* has a level of splits already"):
        open_dataset("folder", tmp_path, folds=2)
    mixed = put(tmp_path / "mixed", "train/a/1.mp4", "test/a/1.mp4", "more/a/1.mp4")
    with pytest.raises(FclipError, match="folder more beside those for training and test.*--layout"):
        open_dataset("folder", mixed)
    touch_frames(tmp_path / "pictures" / "happy" / "ann", 3)
    assert len(open_dataset("folder", tmp_path / "pictures").clips) == 1
    assert len(open_dataset("folder", tmp_path / "pictures", layout="class/person").clips) == 3


def test_nothing_vanishes(tmp_path: Path) -> None:
    """Deeper clips, every suffix, a portrait among a person's videos; what is no clip is counted by kind."""
    put(tmp_path, "happy/ann/s1/deep.mp4", "happy/ann/portrait.jpg", "happy/ann/1.VOB", "happy/2.Mp4", "sad/bob/3.m2v")
    put(tmp_path, "sad/3.mp4", "sad/3.jpg", "sad/poster.png", "sad/notes.txt", "readme.md", "stray.mp4", "sad/._3.mp4")
    put(tmp_path, "sad/__MACOSX/3.mp4", "sad/x", "sad/sub/clip/1.jpg", "sad/sub/clip/2.jpg", "sad/sub/me.jpg")
    (tmp_path / "sad" / "gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "sad" / "loop").symlink_to(tmp_path)
    dataset = open_dataset("folder", tmp_path)
    taken = ["happy/2.Mp4", "happy/ann/1.VOB", "happy/ann/s1/deep.mp4", "sad/3.mp4", "sad/bob/3.m2v", "sad/sub/clip"]
    assert sorted(facts(dataset)) == taken
    assert {clip.meta["path"] for clip in dataset.clips if clip.meta.get("identity") == "ann"} == set(taken[1:3])
    told = " | ".join(dataset.remarks)
    assert (
        "3 pictures are no clips (happy/ann, sad, sad/sub)" in told
        and "1 pictures have the name of a clip beside" in told
    )
    for kind in ("1 .txt", "1 .md", "1 without suffix", "1 broken link", "1 videos above the class folders"):
        assert kind in told
    clips = facts(open_dataset("folder", tmp_path, pictures="clips"))
    assert sorted(set(clips) - set(taken)) == ["happy/ann/portrait.jpg", "sad/poster.png", "sad/sub/me.jpg"]
    assert clips["happy/ann/portrait.jpg"][2] == "ann"
    touch_frames(tmp_path / "only", 2)
    assert len(open_dataset("folder", put(tmp_path / "p", "a/1.jpg", "b/1.jpg")).clips) == 2
    with pytest.raises(FclipError, match="no clips"):
        open_dataset("folder", tmp_path / "p", pictures="ignore")


@pytest.mark.parametrize(
    ("suffix", "codec", "container"),
    [
        ("vob", "mpeg2video", "vob"),
        ("asf", "msmpeg4v3", "asf"),
        ("mxf", "mpeg2video", "mxf"),
        ("divx", "mpeg4", "avi"),
        ("f4v", "libx264", "f4v"),
        ("y4m", "rawvideo", "yuv4mpegpipe"),
        ("m2v", "mpeg2video", "mpeg2video"),
        ("mjpeg", "mjpeg", "mjpeg"),
        ("qt", "libx264", "mov"),
        ("3g2", "libx264", "3g2"),
        ("nut", "mpeg4", "nut"),
        ("mpe", "mpeg1video", "mpeg"),
    ],
)
def test_suffixes_that_the_decoder_reads(tmp_path: Path, suffix: str, codec: str, container: str) -> None:
    """Each is a clip of a folder, in any case, and gives its frames."""
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    write_numbered(tmp_path / "a" / f"x.{suffix.upper()}", 8, codec, 25, (288, 352), pixels, container=container)
    (clip,) = open_dataset("folder", tmp_path).clips
    assert read_numbers(read_clip(clip.source, SamplingPlan(4)).frames) == [1, 3, 5, 7]


def test_picture_suffixes(tmp_path: Path) -> None:
    """Each picture kind is written by Pillow and read as a clip of one frame; the pages of a TIFF are frames."""
    from media_files import numbered_frame
    from PIL import Image

    pages = [Image.fromarray(numbered_frame(number)) for number in range(4)]
    for suffix in ("tiff", "ppm", "jfif", "jpe", "avif", "tga", "dib"):
        pages[3].save(tmp_path / f"{suffix}.{suffix}")
        assert f".{suffix}" in IMAGE_SUFFIXES
        assert read_numbers(read_clip(tmp_path / f"{suffix}.{suffix}", SamplingPlan(2)).frames) == [3, 3]
    pages[0].save(tmp_path / "many.tif", save_all=True, append_images=pages[1:])
    assert read_numbers(read_clip(tmp_path / "many.tif", SamplingPlan(4)).frames) == [0, 1, 2, 3]


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("Train Train Test", "train train test"),
        ("TRAIN VALID TEST", "train val test"),
        ("training validation testing", "train val test"),
        ("train dev test", "train val test"),
        ("Training PublicTest PrivateTest", "train val test"),
        ("train val val", "train val val"),
        ("part1 part2 part2", "part1 part2 part2"),
    ],
)
def test_split_words(tmp_path: Path, words: str, parts: str) -> None:
    """Usual words in any case are the one split; val is tested where nothing else is; other names are folds."""
    rows = [f"v{index}.mp4,a,{word}" for index, word in enumerate(words.split(), start=1)]
    dataset = open_dataset("csv", write_list(tmp_path / "l.csv", "path,label,part", *rows))
    assert [clip.part for clip in dataset.clips] == parts.split()
    if "part1" in parts:
        assert dataset.folds["1"] == {"train": ["part2"], "test": ["part1"]} and len(dataset.folds) == 2
    else:
        tested = "test" if "test" in parts else "val"
        assert dataset.folds == {"1": {"train": ["train"], "test": [tested]}}
        assert ("no part is for testing: val is tested" in dataset.remarks) == (tested == "val")


@pytest.mark.parametrize("column", ["identity", "subject", "Actor", "person", "Speaker", "Subject_ID"])
def test_people_columns(tmp_path: Path, column: str) -> None:
    """Whatever the column of people is called, nobody is in two parts."""
    rows = [f"v{index}.mp4,{'ab'[index % 2]},{'ABC'[(index - 1) // 2]}" for index in range(1, 7)]
    dataset = open_dataset("csv", write_list(tmp_path / "l.csv", f"path,label,{column}", *rows), folds=3)
    people = {(clip.meta["identity"], clip.part) for clip in dataset.clips}
    assert len(people) == 3 and {person for person, _ in people} == set("ABC")
    assert dataset.summary() == "3 parts, 2 classes, 3 people, 6 clips"


@pytest.mark.parametrize(
    "header", ["filename,emotion,split", "File Name,Expression,Usage", "video,class,set", "clip,label,subset"]
)
def test_usual_columns(tmp_path: Path, header: str) -> None:
    """File, label and part under their usual names; every other column is told."""
    path = write_list(tmp_path / "l.csv", f"{header},mood,", "v1.mp4,a,train,x,1", "v2.mp4,b,test,y,2")
    dataset = open_dataset("csv", path)
    assert facts(dataset) == {"v1.mp4": ("a", "train", "", ""), "v2.mp4": ("b", "test", "", "")}
    assert "not used: mood, column 5" in dataset.remarks


def test_fold_column(tmp_path: Path) -> None:
    """Each fold tests the clips of its number, and bears it; a part column comes first."""
    rows = [f"v{index}.mp4,a,{index % 3}.0" for index in range(6)]
    dataset = open_dataset("csv", write_list(tmp_path / "l.csv", "path,label,fold", *rows))
    assert set(dataset.folds) == set("012") and dataset.folds["0"]["test"] == ["part0"]
    assert [clip.part for clip in dataset.clips] == ["part0", "part1", "part2"] * 2
    both = write_list(tmp_path / "b.csv", "path,label,fold,split", "v1.mp4,a,1,train", "v2.mp4,a,2,test")
    dataset = open_dataset("csv", both)
    assert [clip.part for clip in dataset.clips] == ["train", "test"]
    assert dataset.remarks[0] == "not used: fold (part says it)"


def test_segments(tmp_path: Path) -> None:
    """Rows with start and end are stretches of a video: own keys, own frames, and one side of a drawn split."""
    write_numbered(tmp_path / "v.mp4", 50)
    lines = ["video,start,end,label", "v.mp4,0,1,a", "v.mp4,0:01,0:00:01.5,b", 'v.mp4,"1,5",,a']
    path = tmp_path / "l.csv"
    path.write_text("\n".join(lines))
    dataset = open_dataset("csv", path)
    assert [clip.key for clip in dataset.clips] == ["v_0-1", "v_1-1_5", "v_1_5-"]
    assert len({clip.part for clip in dataset.clips}) == 1 and validate(dataset).ok
    root = tmp_path / "ws"
    preprocess.run(preprocess.Config(root=root, dataset="csv", source=path, frames="5", size=96, workers=1))
    (shard,) = (root / "l" / "frames").glob("*.tar")
    seen = {key: parse_frame_sample(key, fields) for key, fields in read_shard(shard)}
    numbers = {key: [round(time * 25) for time in sample.info["times"]] for key, sample in seen.items()}
    assert numbers["v_0-1"] == [2, 7, 12, 17, 22] and numbers["v_1-1_5"] == [1, 3, 6, 9, 11]
    assert seen["v_1-1_5"].info["segment"] == [1.0, 1.5] and seen["v_1-1_5"].info["end"] == pytest.approx(0.52)
    assert read_numbers(read_clip(Segment(tmp_path / "v.mp4", 1, 1.5), SamplingPlan(5)).frames) == [26, 28, 31, 34, 36]
    with pytest.raises(ClipFailure, match="from 9 s to its end: no frames there; the video is 2.00 s long"):
        open_source(Segment(tmp_path / "v.mp4", 9))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_spreadsheets(tmp_path: Path, encoding: str, delimiter: str, newline: str) -> None:
    """Delimiters, encodings and line ends of spreadsheets, with their empty columns and lines."""
    put(tmp_path, "v1.mp4", "ü.mp4")
    lines = [
        delimiter.join(row) for row in (("path", "label", ""), ("v1.mp4", "愤怒", ""), ("ü.mp4", "joy", ""), ("",) * 3)
    ]
    (tmp_path / "l.tsv").write_bytes(newline.join(lines).encode(encoding))
    assert facts(open_dataset("csv", tmp_path / "l.tsv")).keys() == {"v1.mp4", "ü.mp4"}
    assert open_dataset("csv", tmp_path / "l.tsv").classes == ("joy", "愤怒")


def test_code_pages(tmp_path: Path) -> None:
    """A code page is asked for by name, and read with it; a workbook is told to be one."""
    path = write_list(tmp_path / "l.csv", "sep=;", "path;label", "v1.mp4;fröhlich", encoding="cp1252")
    with pytest.raises(FclipError, match=r"l.csv: not utf-8-sig text \(byte .*--encoding .*cp1252") as caught:
        open_dataset("csv", path)
    assert "\n" not in str(caught.value)
    assert open_dataset("csv", path, encoding="cp1252").classes == ("fröhlich",)
    with pytest.raises(UsageError, match="--encoding cp0: no such encoding"):
        open_dataset("csv", path, encoding="cp0")
    path.write_bytes(b"PK\3\4 and more")
    with pytest.raises(FclipError, match="a workbook or an archive, not text; save the sheet as CSV"):
        open_dataset("csv", path)


def test_lists_lead_anywhere(tmp_path: Path) -> None:
    """Absolute paths, `..`, links and --media: keys and paths are those below the common folder, on any disk."""
    put(tmp_path / "disk", "a/1.mp4", "b/2.mp4")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "link.mp4").symlink_to(tmp_path / "disk" / "a" / "1.mp4")
    rows = {"abs": [f"{tmp_path}/disk/a/1.mp4,x", "../disk/b/2.mp4,y"], "rel": ["a/1.mp4,x", "b/2.mp4,y"]}
    for name, lines in (*rows.items(), ("link", ["link.mp4,x"])):
        (tmp_path / "lists" / f"{name}.csv").write_text("\n".join(["path,label", *lines]))
    expected = [("a_1", "a/1.mp4"), ("b_2", "b/2.mp4")]
    for name, media in (("abs", None), ("rel", tmp_path / "disk")):
        clips = open_dataset("csv", tmp_path / "lists" / f"{name}.csv", media=media).clips
        assert [(clip.key, clip.meta["path"]) for clip in clips] == expected
        assert all(Path(clip.source).is_file() for clip in clips)
    assert [clip.key for clip in open_dataset("csv", tmp_path / "lists" / "link.csv").clips] == ["link"]
    with pytest.raises(FclipError, match="line 2: 'a/1.mp4': no such file.*--media"):
        open_dataset("csv", tmp_path / "lists" / "rel.csv")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "happy").symlink_to(tmp_path / "disk" / "a")
    put(tmp_path / "linked", "sad/3.mp4")
    (tmp_path / "linked" / "sad" / "4.mp4").symlink_to(tmp_path / "disk" / "b" / "2.mp4")
    assert sorted(facts(open_dataset("folder", tmp_path / "linked"))) == ["happy/1.mp4", "sad/3.mp4", "sad/4.mp4"]


def test_a_missing_file_is_a_failed_clip(tmp_path: Path) -> None:
    """It is told before the work, and fails alone; as a share of the clips under --max-failed."""
    write_numbered(tmp_path / "v1.mp4", 4)
    shutil.copy(tmp_path / "v1.mp4", tmp_path / "v2.mp4")
    (tmp_path / "l.csv").write_text("path,label\nv1.mp4,a\nv2.mp4,b\nv99.mp4,a\n")
    config = {"root": tmp_path, "dataset": "csv", "source": tmp_path / "l.csv", "frames": "2", "size": 32, "workers": 1}
    report = preprocess.run(preprocess.Config(**config))
    assert report.exit_code == 1 and report.counts == {"ok": 2, "skipped": 0, "failed": 1}
    assert "listed but not there: v99.mp4" in report.values["remarks"]
    assert preprocess.run(preprocess.Config(**config, max_failed=0.5)).exit_code == 0
    (failed,) = (tmp_path / "l" / "frames").glob("*.failed.jsonl")
    assert json.loads(failed.read_text())["key"] == "v99"


# --- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "classes", "remark"),
    [
        ("happy Happy happiness sad", "happiness sad", "read as one class: Happy, happiness, happy -> happiness"),
        ("happy happy hapy sad sad", "happy hapy sad", "class hapy looks like happy misspelt"),
        (
            "happiness happiness hapy sad sad",
            "happiness hapy sad",
            "class hapy looks like happiness misspelt",
        ),
        ("suprise surprised sad sad", "sad suprise surprised", "class suprise looks like surprised misspelt"),
        ("bored bored keen", "bored keen", "of one clip only: class keen"),
        ("0 1 1 0", "0 1", "labels are numbers: class texts would read 'expression of 0': give --classes"),
        ("0.0 0 1.0", "0 1.0", "read as one class: 0, 0.0 -> 0"),
        ("1.5 2.5 1.5", "1.5 2.5", "labels are numbers: class texts would read 'expression of 1.5'"),
        ("level1 level2 level1 level2", "level1 level2", ""),
    ],
)
def test_labels(tmp_path: Path, texts: str, classes: str, remark: str) -> None:
    """One class for the spellings of one expression; what looks wrong is told."""
    rows = [f"v{index}.mp4,{text}" for index, text in enumerate(texts.split(), start=1)]
    dataset = open_dataset("csv", write_list(tmp_path / "l.csv", "path,label", *rows))
    assert set(dataset.classes) == set(classes.split()) and list(dataset.classes) == sorted(dataset.classes)
    assert any(line.startswith(remark) for line in dataset.remarks) if remark else not dataset.remarks
    put(tmp_path / "tree", *(f"{text}/{index}.mp4" for index, text in enumerate(texts.split())))
    if "0" not in texts:
        assert set(open_dataset("folder", tmp_path / "tree").classes) == set(classes.split())


@pytest.mark.parametrize(
    ("texts", "labels"),
    [("0 1 2", "a b c"), ("1 2 3", "a b c"), ("0.0 2.0", "a c"), ("A C b", "a c b"), ("1 2", None), ("0 3", None)],
)
def test_numbers_into_given_classes(tmp_path: Path, texts: str, labels: str | None) -> None:
    """With --classes numbers count from 0 or 1 where that is clear."""
    rows = [f"v{index}.mp4,{text}" for index, text in enumerate(texts.split(), start=1)]
    path = write_list(tmp_path / "l.csv", "path,label", *rows)
    if labels is None:
        with pytest.raises(FclipError, match="which is which is not clear"):
            open_dataset("csv", path, classes=("a", "b", "c"))
        return
    dataset = open_dataset("csv", path, classes=("a", "b", "c"))
    assert [clip.label for clip in dataset.clips] == labels.split()
    assert any(line.startswith("labels are numbers, read as") for line in dataset.remarks) == texts[0].isdigit()


def test_a_class_that_is_never_trained(tmp_path: Path) -> None:
    """Told before the work, whatever the data set."""
    rows = ["v1.mp4,a,train", "v2.mp4,a,test", "v3.mp4,b,test"]
    report = validate(open_dataset("csv", write_list(tmp_path / "l.csv", "path,label,part", *rows)))
    assert report.ok and "class with test clips and no training clip: b (fold 1)" in report.remarks


# --- the same content twice -------------------------------------------------------------------------------------------


def _contents(root: Path) -> Path:
    """a = b in train and test, c = d with two labels, e = f (frame folders) in train, g alone; i is as long as g."""
    rows = []
    for name, label, part, content in (
        *(("a.mp4", "x", "train", b"one"), ("b.mp4", "x", "test", b"one")),
        *(("c.mp4", "x", "train", b"four"), ("d.mp4", "y", "train", b"four")),
        *(("e", "y", "train", b""), ("f", "y", "train", b"")),
        *(("g.mp4", "x", "test", b"sevens"), ("i.mp4", "y", "test", b"eleven")),
    ):
        if content:
            (root / name).write_bytes(content)
        else:
            touch_frames(root / name, 3)
        rows.append(f"{name},{label},{part}")
    (root / "l.csv").write_text("\n".join(["path,label,part", *rows]))
    return root / "l.csv"


def test_equal_content_is_told_or_dropped(tmp_path: Path) -> None:
    """By what is in the files, not by their names: in train and test, with different labels, and just twice."""
    path = _contents(tmp_path)
    check = preprocess.Config(dataset="csv", source=path, check=True)
    remarks = preprocess.run(check).values["remarks"]
    assert "the same content in train and test: a.mp4 = b.mp4" in remarks
    assert "the same content with different labels: c.mp4 = d.mp4" in remarks
    assert "the same content under several names: e = f" in remarks
    dataset = open_dataset("csv", path)
    left = drop_duplicates(dataset, same_content(dataset.clips))
    assert [clip.key for clip in left.clips] == ["b", "e", "g", "i"]
    assert left.remarks[-1] == "dropped 4 clips whose content comes several times"
    write_duplicates(tmp_path / "duplicates.csv", same_content(dataset.clips))
    assert (tmp_path / "duplicates.csv").read_text().splitlines()[:3] == [
        "group,path,label,part",
        "1,a.mp4,x,train",
        "1,b.mp4,x,test",
    ]


def test_stretches_of_one_video_are_not_equal(tmp_path: Path) -> None:
    lines = ["path,start,end,label", "v1.mp4,0,1,a", "v1.mp4,1,2,b", "v2.mp4,0,1,a"]
    groups = same_content(open_dataset("csv", write_list(tmp_path / "l.csv", *lines, clips=2)).clips)
    assert [[clip.key for clip in group] for group in groups] == [["v1_0-1", "v2_0-1"]]


def test_new_options_leave_old_hashes_alone() -> None:
    """At their defaults they are no part of the configuration that a folder is compared with."""
    plain = config_dict(preprocess.Config(dataset="folder"), output_only=True)
    assert set(plain["options"]) == {"classes", "folds", "seed"} and "drop_duplicates" not in plain
    config = preprocess.Config(dataset="folder", drop_duplicates=True, options={"pictures": "clips"})
    given = config_dict(config, output_only=True)
    assert given["drop_duplicates"] is True and given["options"]["pictures"] == "clips"
