"""Clips stored as images: a folder of frames, or one picture. Sizes are checked before any pixel is decoded."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from fclip.data.media.files import ANIMATED_SUFFIXES, is_hidden, is_picture, is_pointer, is_video
from fclip.data.media.sampling import Timeline
from fclip.errors import ClipFailure

MAX_ANIMATION = 100_000  # frames of one file
Size = tuple[int, int] | int | None  # exactly (height, width); or the longest side at most; or as it is
MAX_SIDE = 8192  # pixels; larger frames are refused before decoding
MAX_PIXELS = 1 << 23  # of a frame; larger ones (than 3840 x 2160) are scaled down while decoding, to bound memory
IN_FLIGHT = 16 * MAX_PIXELS  # pixels of such frames that are held at once: 400 MB
FOLDER_FPS = 25.0  # frame folders carry no clock; this rate only names the times


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts `frame2` before `frame10`: runs of digits compare as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts]


def list_frames(folder: Path) -> list[Path]:
    """The image files of a frame folder in natural order; hidden files and other files do not count."""
    return in_order(path for path in folder.iterdir() if is_picture(path.name) and not is_hidden(path.name))


def list_media(folder: Path) -> list[Path]:
    """Videos and sub-folders of a folder in natural order, hidden ones left out."""
    return in_order(
        Path(entry.path)
        for entry in os.scandir(folder)
        if not is_hidden(entry.name) and (is_video(entry.name) or entry.is_dir())
    )


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Paths in the natural order of their names."""
    return sorted(paths, key=lambda path: (natural_key(path.name), path.name))


def fit_size(height: int, width: int, size: Size) -> tuple[int, int]:
    """The (height, width) that a frame of height x width gets under `size`; a longest side never enlarges.

    Nor does a frame without a size hold more than MAX_PIXELS.
    """
    if isinstance(size, tuple):
        return size
    if size is None and height * width <= MAX_PIXELS:
        return height, width
    scale = math.sqrt(MAX_PIXELS / (height * width)) if size is None else min(1.0, size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def bounded_size(extent: tuple[int, int], held: int) -> Size:
    """How to decode a source of which `held` frames are in memory at once; None, as they are, up to MAX_PIXELS each.

    Larger ones get a longest side with which all that are held have at most IN_FLIGHT pixels. extent: (height, width).
    """
    height, width = extent
    if height * width <= MAX_PIXELS:
        return None
    pixels = min(MAX_PIXELS, IN_FLIGHT // max(held, 1))
    return max(1, int(max(extent) * math.sqrt(pixels / (height * width))))


def source_pixels(extent: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """(4,): boxes in frames of (height, width, ...), made smaller while decoding, times this are in source pixels."""
    short, long = sorted(extent)
    height, width = shape[:2]
    across, down = (short / width, long / height) if height >= width else (long / width, short / height)  # turned?
    return np.array([across, down, across, down], np.float32)


def read_image(path: Path, size: Size = None) -> np.ndarray:
    """Decode one picture, upright, as uint8 (H, W, 3) RGB, resized with antialias if `size` asks for it.

    Raises ClipFailure when it is not a picture or has a side over MAX_SIDE.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_SIDE bounds the size
            check_size(*image.size, path)
            return _upright(image, size)
    except ClipFailure:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds (OSError, SyntaxError, struct.error, ...)
        refuse_pointer(path)
        raise ClipFailure(f"{path}: not a readable picture ({first_line(error)})") from error


def _upright(image: Image.Image, size: Size) -> np.ndarray:
    """An open picture, or the frame it is at, as read_image gives it."""
    upright = ImageOps.exif_transpose(image)
    picture = _rgb(upright if upright is not None else image)
    height, width = fit_size(picture.height, picture.width, size)
    if (picture.height, picture.width) != (height, width):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: 16-bit grey is scaled down, not clipped."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def check_size(width: int, height: int, path: Path) -> None:
    """Refuse frames that are too large to decode safely (ClipFailure)."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ClipFailure(f"{path}: frames of {width} x {height} pixels; up to {MAX_SIDE} x {MAX_SIDE} are read")


def refuse_pointer(path: Path) -> None:
    """Raise ClipFailure for a file whose content git-lfs has not fetched."""
    if is_pointer(path):
        raise ClipFailure(f"{path}: a git-lfs pointer, not the file itself; fetch it with: git lfs pull")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type's name."""
    return next(iter(str(error).splitlines()), "").strip() or type(error).__name__


class FrameFolder:
    """A folder of frame images (or one picture) as a clip, with the same face as `decoder.VideoFile`.

    The `timeline` assumes FOLDER_FPS.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = [path] if path.is_file() else list_frames(path)
        if not self._files:
            raise ClipFailure(f"{path}: no frames; the folder holds no picture files")
        count = len(self._files)
        self.timeline = Timeline(np.arange(count) / FOLDER_FPS, count / FOLDER_FPS)
        self.truncated = False
        suffix = self._files[0].suffix.lower().lstrip(".")
        self.info: dict[str, Any] = {"format": "frames", "codec": suffix, "rotation": 0}

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the first picture, as it is stored."""
        try:
            with warnings.catch_warnings(), Image.open(self._files[0]) as image:
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                return image.height, image.width
        except Exception:  # read_image will say what is wrong
            return 1, 1

    def frames(self, wanted: Sequence[int], size: Size = None) -> Iterator[tuple[int, float, np.ndarray]]:
        """Yield (index, seconds, uint8 RGB (H, W, 3)) for rising frame indices; all get the first one's size."""
        for index in wanted:
            frame = read_image(self._files[index], size)
            size = frame.shape[:2]
            yield index, float(self.timeline.times[index]), frame

    def close(self) -> None:
        """Nothing is held open."""


class AnimatedImage:
    """An animated WebP or PNG as a clip, with the same face as `decoder.VideoFile`; GIF goes through that one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            self._image = Image.open(self._file)
            check_size(*self._image.size, path)
            steps = []
            for index in range(min(self._count, MAX_ANIMATION)):
                self._image.seek(index)
                self._image.load()
                steps.append((self._image.info.get("duration") or 1000 / FOLDER_FPS) / 1000)
        except Exception as error:  # as in read_image
            self.close()
            raise ClipFailure(f"{path}: not a readable animation ({first_line(error)})") from error
        ends = np.cumsum(steps)
        self.timeline = Timeline(np.concatenate([[0.0], ends[:-1]]), float(ends[-1]))
        self.truncated = len(steps) < self._count
        self.info: dict[str, Any] = {"format": "animation", "codec": path.suffix.lower().lstrip("."), "rotation": 0}

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        return self._image.height, self._image.width

    @property
    def _count(self) -> int:
        return int(getattr(self._image, "n_frames", 1))

    def frames(self, wanted: Sequence[int], size: Size = None) -> Iterator[tuple[int, float, np.ndarray]]:
        """Yield (index, seconds, uint8 RGB (H, W, 3)) for rising frame indices."""
        for index in wanted:
            try:
                self._image.seek(index)
                frame = _upright(self._image, size)
            except Exception as error:
                raise ClipFailure(f"{self.path}: frame {index + 1} cannot be read ({first_line(error)})") from error
            yield index, float(self.timeline.times[index]), frame

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def is_animated(path: Path) -> bool:
    """Whether a picture file holds more than one frame."""
    if path.suffix.lower() not in ANIMATED_SUFFIXES:
        return False
    try:
        with Image.open(path) as image:
            return int(getattr(image, "n_frames", 1)) > 1
    except Exception:  # read_image will say what is wrong
        return False
