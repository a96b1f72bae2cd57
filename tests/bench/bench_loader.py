"""The training loader: clips per second and core, against a loader that opens 16 JPEG files per clip and uses PIL.

Rates are clips per second of processor time in one process and one thread, the best of several epochs that take turns
(other work on the machine counts little). The reference decodes the same pictures from separate files of the same
quality, makes the same draws, does with PIL what ours does (crop, resize, flip, brightness and contrast, rotation), and
ends, as such loaders do, with torchvision's to_tensor. Also measures how film strips should be stored.

    python -m tests.bench.bench_loader [--clips 32] [--repeats 4]
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageEnhance
from torchvision.transforms.functional import to_tensor

from fclip.data.storage.packed import packed_fields
from fclip.data.storage.shards import ShardWriter, frame_sample_fields
from fclip.data.storage.strips import decode_strip
from fclip.data.training.augment import AUGMENTATIONS, Augmentation, Change, clip_rng, draw_change
from fclip.data.training.loader import ClipLoader
from fclip.records import CaptionRecord, FaceTrack, FrameSample

FRAMES, SIZE, BATCH = 16, 224, 8
Clock = Callable[[], float]
CROP_FLIP = Augmentation()
COLOUR = Augmentation(brightness=0.2, contrast=0.2)
ROTATION = Augmentation(brightness=0.2, contrast=0.2, rotation=5.0)


def real_clips() -> list[np.ndarray]:
    """Clips uint8 (16, 224, 224, 3) of the sample videos, or of moving noise where there are none."""
    folder = Path(os.environ.get("FCLIP_SAMPLES", "../shared/samples")) / "clips"
    clips = []
    for path in sorted(folder.glob("*.mp4")) + sorted(folder.glob("*.mpg")):
        with av.open(str(path)) as container:
            images = [frame.to_image() for _, frame in zip(range(FRAMES), container.decode(video=0), strict=False)]
        side = min(images[0].size)
        left = (images[0].width - side) // 2
        box = (left, 0, left + side, side)
        clips.append(np.stack([np.asarray(image.resize((SIZE, SIZE), box=box)) for image in images]))
    if clips:
        return clips
    noise = np.random.default_rng(0).integers(0, 255, (40, 56, 56, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    return [noise[start : start + FRAMES] for start in range(4)]


def write_data(folder: Path, clips: list[np.ndarray], count: int) -> tuple[Path, Path]:
    """Write `count` clips as a packed shard and as folders of JPEG files; returns both paths."""
    shard, files = folder / "part1-00000.tar", folder / "files"
    rng = np.random.default_rng(0)
    with ShardWriter(shard) as writer:
        for number in range(count):
            key, frames = f"clip{number:04d}", np.roll(clips[number % len(clips)], number, axis=2)
            parsing = rng.integers(0, 11, (FRAMES, 14, 14), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
            track = FaceTrack(parsing, rng.random((FRAMES, 68, 2), np.float32), np.ones(FRAMES, np.float32))
            caption = CaptionRecord(key, "The mouth opens.", "template", "1", "", [], {}, False)
            fields = frame_sample_fields(FrameSample(key, frames, {"label": "anger"}))
            writer.write(key, packed_fields(key, fields, track, caption))
            (files / key).mkdir(parents=True)
            for index, frame in enumerate(frames):
                Image.fromarray(frame).save(files / key / f"{index}.jpg", quality=95, subsampling="4:2:0")
    return shard, files


def pil_frame(path: Path, change: Change) -> torch.Tensor:
    """Open one JPEG file and change it with PIL."""
    image = Image.open(path).convert("RGB")
    if change.angle:
        image = image.rotate(change.angle, Image.Resampling.BILINEAR)
    left, top, width, height = change.box
    image = image.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    if change.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if change.contrast != 1:
        image = ImageEnhance.Brightness(image).enhance(change.gains[0])
        image = ImageEnhance.Contrast(image).enhance(change.contrast)
    return to_tensor(image)


def pil_batches(files: Path, options: Augmentation, epoch: int) -> Iterator[torch.Tensor]:
    """The reference loader: 16 files per clip, one after another."""
    folders = sorted(files.iterdir())
    for start in range(0, len(folders), BATCH):
        clips = []
        for folder in folders[start : start + BATCH]:
            change = draw_change(options, SIZE, SIZE, clip_rng(0, epoch, folder.name, "augment"))
            clips.append(torch.stack([pil_frame(folder / f"{index}.jpg", change) for index in range(FRAMES)]))
        yield torch.stack(clips)


def rates(epochs: list[Callable[[int], Iterator[object]]], clips: int, repeats: int, clock: Clock) -> list[float]:
    """Most clips per second of several epochs of each loader, in turns; the first is not counted."""
    found: list[list[float]] = [[] for _ in epochs]
    for number in range(repeats + 1):
        for epoch, values in zip(epochs, found, strict=True):
            start = clock()
            for _ in epoch(number):
                pass
            values.append(clips / (clock() - start))
    return [max(values[1:]) for values in found]


def compare_loaders(shard: Path, files: Path, count: int, repeats: int) -> None:
    """Print clips per second and core of ours and of the reference for three augmentations."""

    def ours(**options: object) -> Callable[[int], Iterator[object]]:
        return ClipLoader([shard], BATCH, **{"train": True, "image_size": SIZE, "wanted": (), **options}).epoch

    print(f"clips of {FRAMES} frames of {SIZE} x {SIZE} per second of one core:")
    for name, options in (("crop, flip", CROP_FLIP), ("+ brightness, contrast", COLOUR), ("+ rotation", ROTATION)):
        pair = [ours(augmentation=options), lambda epoch, options=options: pil_batches(files, options, epoch)]
        mine, other = rates(pair, count, repeats, time.process_time)
        print(f"  {name:24s} fclip {mine:5.0f}   16 files and PIL {other:5.0f}   x {mine / other:.1f}")
    kinds = {
        "with parsing, landmarks, caption": ours(wanted=("parsing", "landmarks", "caption")),
        "test time": ours(train=False),
        "crop, flip, to 80 x 80": ours(image_size=80),
    }
    for name, value in zip(kinds, rates(list(kinds.values()), count, repeats, time.process_time), strict=True):
        print(f"  {name:33s} {value:5.0f}")
    workers = [ours(workers=number) for number in (1, 2)]
    one, two = rates(workers, count, repeats, time.perf_counter)
    print(f"by the clock: 1 worker {one:.0f}, 2 workers {two:.0f}, x {two / one:.2f}")


def compare_recipes(clips: list[np.ndarray], count: int, repeats: int, folder: Path) -> None:
    """Print what the papers' recipes cost: stronger augmentation, and 16 random ones of more stored frames."""
    print(f"clips per second of one core by --augment; {FRAMES} frames drawn from as many as are stored:")
    for stored in (1, 2, 4, 8):
        shard = folder / f"part1-{stored:05d}.tar"
        with ShardWriter(shard) as writer:
            for number in range(count):
                frames = np.concatenate(
                    [np.roll(clips[number % len(clips)], number + turn, axis=2) for turn in range(stored)]
                )
                key = f"clip{number:04d}"
                writer.write(key, frame_sample_fields(FrameSample(key, frames, {"label": "anger"})))
        loaders = [
            ClipLoader([shard], BATCH, train=True, image_size=SIZE, frames=FRAMES, wanted=(), augmentation=change)
            for change in AUGMENTATIONS.values()
        ]
        found = rates([loader.epoch for loader in loaders], count, repeats, time.process_time)
        told = "   ".join(f"{name} {rate:5.0f}" for name, rate in zip(AUGMENTATIONS, found, strict=True))
        print(f"  {FRAMES * stored:3d} stored:   {told}")


def compare_encodings(clips: list[np.ndarray], repeats: int) -> None:
    """Print size, decoding time and fidelity of film strips by quality and chroma."""
    print("film strip: kB, ms to decode, dB (means over the clips):")
    for quality in (90, 95):
        for chroma in ("4:4:4", "4:2:2", "4:2:0"):
            size, seconds, decibels = [], [], []
            for frames in clips:
                buffer = io.BytesIO()
                strip = Image.fromarray(frames.reshape(-1, SIZE, 3))
                strip.save(buffer, "JPEG", quality=quality, subsampling=chroma)
                data = buffer.getvalue()
                times = []
                for _ in range(repeats):
                    start = time.process_time()
                    decoded = decode_strip(data, FRAMES, SIZE, SIZE)
                    times.append(time.process_time() - start)
                error = np.mean((decoded.astype(float) - frames) ** 2)
                size.append(len(data) / 1e3)
                seconds.append(min(times) * 1e3)
                decibels.append(10 * np.log10(255**2 / error))
            print(f"  {quality} {chroma}: {np.mean(size):4.0f} {np.mean(seconds):5.2f} {np.mean(decibels):5.1f}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = real_clips()
    with tempfile.TemporaryDirectory() as folder:
        shard, files = write_data(Path(folder), clips, args.clips)
        compare_loaders(shard, files, args.clips, args.repeats)
        compare_recipes(clips, args.clips, args.repeats, Path(folder))
    compare_encodings(clips, args.repeats)


if __name__ == "__main__":
    main()
