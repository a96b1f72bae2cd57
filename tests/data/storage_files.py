"""Small clips, tracks, captions and shards that the storage and loader tests share."""

from __future__ import annotations

import gc
import io
import tarfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from fclip.data.storage.packed import packed_fields
from fclip.data.storage.shards import ShardWriter, frame_sample_fields
from fclip.data.storage.splits import Splits
from fclip.files import write_json
from fclip.records import PARSING_CLASSES, CaptionRecord, FaceTrack, FrameSample


def smooth_frames(count: int = 4, height: int = 48, width: int = 48, seed: int = 0) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) of moving soft blobs: photographs' kind of content for a JPEG encoder."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width][:, None, :, :, None]
    time = np.arange(count)[:, None, None, None]
    centres = rng.uniform(0.2, 0.8, (2, 3)) * [[width], [height]]
    distance = (x - centres[0] - time) ** 2 + (y - centres[1]) ** 2
    return (30 + 200 * np.exp(-distance / (height * width / 12))).astype(np.uint8)


def make_track(frames: np.ndarray, seed: int = 0) -> FaceTrack:
    """A face track that fits to the frames, with random landmarks and blocks of parsing ids."""
    rng = np.random.default_rng(seed)
    count, height, width, _ = frames.shape
    blocks = rng.integers(0, len(PARSING_CLASSES), (count, -(-height // 8), -(-width // 8)), dtype=np.uint8)
    parsing = blocks.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    landmarks = rng.random((count, 68, 2), dtype=np.float32)
    return FaceTrack(parsing, landmarks, rng.random(count, dtype=np.float32))


def make_caption(key: str, text: str = "The mouth opens slowly.") -> CaptionRecord:
    """A caption record with every field set."""
    return CaptionRecord(key, text, "template", "1", "ab" * 32, [0, 2], {"tokens": 40}, False, [("a smile", "emotion")])


def frame_sample(key: str, label: str = "anger", part: str = "part1", seed: int = 0, **size: int) -> FrameSample:
    """A frame sample with the json that preprocess writes."""
    frames = smooth_frames(seed=seed, **size)
    info = {
        "key": key,
        "dataset": "toy",
        "label": label,
        "part": part,
        "source": f"{key}.mp4",
        "fps": 25.0,
        "times": [index / 25 for index in range(len(frames))],
        "sha256": "0" * 64,
    }
    return FrameSample(key, frames, info)


def packed_shard(
    path: Path, keys: Sequence[str], labels: Sequence[str] = ("anger", "fear"), faces: bool = True, **size: int
) -> Path:
    """Write a packed shard of small clips; the clip number i has label i modulo the labels."""
    with ShardWriter(path) as writer:
        for number, key in enumerate(keys):
            sample = frame_sample(key, labels[number % len(labels)], path.stem.rpartition("-")[0], seed=number, **size)
            track = make_track(sample.frames, number) if faces else None
            writer.write(key, packed_fields(key, frame_sample_fields(sample), track, make_caption(key)))
    return path


def raw_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """Write a tar with these members and no check at all."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_splits(folder: Path, splits: Splits) -> None:
    """Write `splits.json` as preprocess and pack do."""
    write_json(folder / "splits.json", {"dataset": splits.dataset, "parts": splits.parts, "folds": splits.folds})


def write_classes(folder: Path, classes: Sequence[str]) -> None:
    """Write `classes.json` as preprocess and pack do."""
    write_json(folder / "classes.json", list(classes))


def read_with_webdataset(path: Path, decode: str | None = None) -> dict[str, dict[str, Any]]:
    """What WebDataset makes of a shard by itself, undecoded or with its own decoders: {key: {field: value}}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files to the garbage collector
        dataset = webdataset.WebDataset([str(path)], shardshuffle=False, empty_check=False)
        if decode:
            dataset = dataset.decode(decode)
        samples = {sample["__key__"]: {k: v for k, v in sample.items() if k[0] != "_"} for sample in dataset}
        del dataset
        gc.collect()
    return samples
