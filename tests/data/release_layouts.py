"""Miniature copies of the official releases, with own frames and every trap of the real layouts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from media_files import numbered_frame, write_frames
from PIL import Image

from fclip.data.layouts import Dataset
from fclip.records import check_key

DFEW_CLASSES = ["happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear"]
FERV_NAMES = {
    "Angry": "anger",
    "Disgust": "disgust",
    "Fear": "fear",
    "Happy": "happiness",
    "Neutral": "neutral",
    "Sad": "sadness",
    "Surprise": "surprise",
}
MAFW_CLASSES = [*DFEW_CLASSES, "contempt", "anxiety", "helplessness", "disappointment"]
_PICTURE = numbered_frame(3, 32, 40)


def touch_frames(folder: Path, count: int = 3, suffix: str = "jpg") -> None:
    """A frame folder with one small picture repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / f"{folder.name}_00001.{suffix}"
    Image.fromarray(_PICTURE).save(first)
    for index in range(2, count + 1):
        (folder / f"{folder.name}_{index:05d}.{suffix}").write_bytes(first.read_bytes())


def write_text(
    path: Path, lines: Iterable[str], encoding: str = "utf-8", newline: str = "\n", end: bool = True
) -> None:
    """Lines to a file; `end=False` leaves out the last line's end, as MAFW's files do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((newline.join(lines) + (newline if end else "")).encode(encoding))


def dfew_labels(clips: int = 35) -> dict[int, int]:
    """Clip number -> label 1..7; numbers are not contiguous, as in the release."""
    return {3 * index + 2: index % 7 + 1 for index in range(clips)}


def write_dfew(root: Path, clips: int = 35, media: str = "clip_224x224") -> dict[int, int]:
    """DFEW-part2: parentheses in folder names, unpadded numbers, labels from 1, frame folders padded to five digits."""
    labels = dfew_labels(clips)
    numbers = list(labels)
    for number in numbers:
        if media == "original":
            (root / "Clip" / media).mkdir(parents=True, exist_ok=True)
            (root / "Clip" / media / f"{number}.mp4").write_bytes(b"video")
        elif media.endswith("_avi"):
            (root / "Clip" / media).mkdir(parents=True, exist_ok=True)
            (root / "Clip" / media / f"{number:05d}.avi").write_bytes(b"video")
        else:
            touch_frames(root / "Clip" / media / f"{number:05d}", 16 if media.endswith("_16f") else 3)
    for fold in range(1, 6):
        test = set(numbers[fold - 1 :: 5])
        for side in ("train", "test"):
            rows = [f"{n},{labels[n]}" for n in numbers if (n in test) == (side == "test")]
            write_text(
                root / "EmoLabel_DataSplit" / f"{side}(single-labeled)" / f"set_{fold}.csv",
                ["video_name,label", *rows],
                newline="\r\n",
            )
    return labels


def write_ferv39k(root: Path) -> dict[str, str]:
    """FERV39k: blank-separated lists without header, three levels of folders, the misspelt scene folder."""
    labels, lists = {}, {"train": [], "test": []}  # type: ignore[var-annotated]
    for scene in ("Action", "DailyLife", "Talkshow"):
        for emotion, label in FERV_NAMES.items():
            for index in range(3):
                name = f"{scene}/{emotion}/{index:04d}"
                labels[name] = label
                touch_frames(root / "2_ClipsforFaceCrop" / name, 2)
                touch_frames(root / "3_ClipsforScenImages" / name, 2)
                lists["test" if index == 2 else "train"].append(f"{name} {emotion}")
    for side, rows in lists.items():
        write_text(root / "4_setups" / "All_scenes" / f"{side}_All.csv", rows)
    return labels


def write_mafw(root: Path, splits: str = "Train & Test Set") -> dict[str, str]:
    """MAFW: GB18030 tab-separated captions, few of them for neutral clips, compound labels, no last line end."""
    labels = {f"{7 * index + 1:05d}": MAFW_CLASSES[index % 11] for index in range(55)}
    compound = {
        f"{7 * index + 4:05d}": name
        for index, name in enumerate(
            ["anger_disgust", "disgust_anger", "sadness_fear", "anger_disgust_contempt", "surprise_fear"] * 2
        )
    }
    for name in labels:
        touch_frames(root / "data" / "faces" / name, 2, "png")
    (root / "data" / "clips").mkdir(parents=True)
    for name in [*labels, *compound]:
        (root / "data" / "clips" / f"{name}.mp4").write_bytes(b"video")
    for name in compound:
        touch_frames(root / "data" / "faces" / name, 2, "png")
    _mafw_lists(root / splits / "single", labels)
    _mafw_lists(root / splits / "compound", {**dict(list(labels.items())[:20]), **compound})
    return labels | compound


def _mafw_lists(folder: Path, labels: Mapping[str, str]) -> None:
    names = list(labels)
    for fold in range(1, 6):
        test = set(names[fold - 1 :: 5])
        for side in ("train", "test"):
            members = [name for name in names if (name in test) == (side == "test")]
            write_text(
                folder / "no_caption" / f"set_{fold}" / f"{side}.txt",
                [f"{name}.mp4 {labels[name]}" for name in members],
                end=False,
            )
            rows = [
                f"{name}.mp4\t{labels[name]}\t一位女士“皱眉”，{name}。\tA woman frowns, her lips part, clip {name}."
                for name in members
                if labels[name] != "neutral"
            ]
            write_text(folder / "with_caption" / f"set_{fold}" / f"{side}.txt", rows, encoding="gb18030", end=False)


def write_crema_d(root: Path, actors: int = 10) -> None:
    """CREMA-D: everything in the file name, odd intensity codes, other files beside the videos."""
    (root / "VideoFlash").mkdir(parents=True)
    for actor in range(1001, 1001 + actors):
        for code in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"):
            level = "X" if (actor, code) == (1001, "SAD") else "XX"
            (root / "VideoFlash" / f"{actor}_DFA_{code}_{level}.flv").write_bytes(b"video")
    (root / "VideoFlash" / "README.txt").write_text("about")
    (root / "AudioWAV").mkdir()
    (root / "AudioWAV" / "1001_DFA_ANG_XX.wav").write_bytes(b"sound")


def write_ravdess(root: Path, actors: int = 12) -> None:
    """RAVDESS: with and without sound, speech and song, nested archives; actor 2 lacks the version with sound."""
    for actor in range(1, actors + 1):
        folder = root / f"Video_Speech_Actor_{actor:02d}" / f"Actor_{actor:02d}"
        folder.mkdir(parents=True)
        for emotion in range(1, 9):
            for modality in ("01", "02", "03"):
                for channel in ("01", "02"):
                    if (modality == "01" and actor == 2) or (channel == "02" and actor == 3):
                        continue
                    name = f"{modality}-{channel}-{emotion:02d}-01-01-01-{actor:02d}"
                    (folder / f"{name}.{'wav' if modality == '03' else 'mp4'}").write_bytes(b"video")


def write_class_folders(root: Path) -> None:
    """Class folders with frame folders, videos and one person's group folder."""
    for label in ("Happy", "Sad"):
        for index in range(10):
            if index % 2:
                write_frames(root / label / f"clip {index}", 2, size=(32, 40))
            else:
                (root / label).mkdir(parents=True, exist_ok=True)
                (root / label / f"clip {index}.mp4").write_bytes(b"video")
        for index in range(4):
            (root / label / "anna").mkdir(exist_ok=True)
            (root / label / "anna" / f"take{index}.mp4").write_bytes(b"video")
    (root / "notes.txt").write_text("about")


def labels_of(dataset: Dataset) -> dict[str, str]:
    """Clip key -> class name."""
    return {clip.key: clip.label for clip in dataset.clips}


def check_sound(dataset: Dataset) -> None:
    """What holds for every data set: valid unique keys, existing files, known classes, disjoint folds."""
    assert len({check_key(clip.key) for clip in dataset.clips}) == len(dataset.clips) > 0
    for clip in dataset.clips:
        assert Path(clip.source).exists() and clip.label in dataset.classes
        assert clip.meta["path"] == Path(clip.source).relative_to(dataset.source).as_posix()
    parts = {clip.part for clip in dataset.clips}
    for sides in dataset.folds.values():
        assert not set(sides["train"]) & set(sides["test"]) and set(sides["train"]) | set(sides["test"]) <= parts


def write_caer(root: Path) -> None:
    """CAER: three splits of emotion folders with numbered .avi files, which begin anew in every folder."""
    for split in ("train", "validation", "test"):
        for emotion in ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"):
            for index in (1, 2):
                _touch_video(root / "CAER" / split / emotion / f"{index:04d}.avi")


def write_afew(root: Path) -> None:
    """AFEW: train and val by emotion, a test part without labels, aligned faces beside the emotions."""
    for split in ("Train_AFEW", "Val_AFEW"):
        for place, emotion in enumerate(FERV_NAMES):
            for index in (1, 2):
                _touch_video(root / split / emotion / f"{place:03d}{index:03d}{(split == 'Val_AFEW') * 280 + 100}.avi")
        touch_frames(root / split / "AlignedFaces_LBPTOP_Points" / "Faces" / "000046280", 2)
    _touch_video(root / "Test_AFEW" / "000146160.avi")


def _touch_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.as_posix().encode())


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def damage(root: Path, lists: Iterable[Path]) -> None:
    """What happens to releases on the way: zip left-overs, archives, upper-case suffixes, CRLF and marks in lists."""
    for folder in [path for path in root.rglob("*") if path.is_dir() and len(path.relative_to(root).parts) < 4]:
        (folder / ".DS_Store").write_bytes(b"x")
        (folder / "Thumbs.db").write_bytes(b"x")
    for path in [path for path in root.rglob("*") if path.suffix in (".mp4", ".avi", ".flv")]:
        junk = root / "__MACOSX" / path.relative_to(root).with_name(f"._{path.name}")
        junk.parent.mkdir(parents=True, exist_ok=True)
        junk.write_bytes(b"\0\5\x16\7")
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
        path.rename(path.with_suffix(path.suffix.upper()))
    (root / "release.zip.001").write_bytes(b"PK")
    for path in lists:
        text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        path.write_bytes(b"" if not text else b"\xef\xbb\xbf" + text if _is_utf8(text) else text)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
