"""Small videos whose frames show their own number, so that tests can tell which frame they got."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

BITS = 10  # frames are numbered 0..1023 in blocks of black and white


def numbered_frame(number: int, height: int = 48, width: int = 80) -> np.ndarray:
    """uint8 (H, W, 3): `number` in binary, one block per bit in two rows of five, over a grey that drifts."""
    frame = np.full((height, width, 3), 90 + number % 32, np.uint8)
    for bit, (rows, columns) in enumerate(_blocks(height, width)):
        frame[rows, columns] = 255 if number >> bit & 1 else 0
    return frame


def read_number(frame: np.ndarray) -> int:
    """The number that a (possibly compressed or resized) numbered frame shows."""
    bits = [frame[rows, columns].mean() > 127 for rows, columns in _blocks(*frame.shape[:2])]
    return sum(1 << place for place, bit in enumerate(bits) if bit)


def read_numbers(frames: Sequence[np.ndarray]) -> list[int]:
    """The numbers of several frames."""
    return [read_number(frame) for frame in frames]


def _blocks(height: int, width: int) -> list[tuple[slice, slice]]:
    rows, columns = height // 2, width // (BITS // 2)
    return [
        (slice(row * rows + 3, (row + 1) * rows - 3), slice(column * columns + 3, (column + 1) * columns - 3))
        for row in range(2)
        for column in range(BITS // 2)
    ]


def write_numbered(
    path: Path,
    count: int = 40,
    codec: str = "libx264",
    fps: int = 25,
    size: tuple[int, int] = (48, 80),
    pixels: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    container: str | None = None,
    start: int = 0,
    **options: str,
) -> Path:
    """Encode `count` numbered frames; `ticks` gives the time of each in 1/1000 s (variable frame rate)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        if ticks is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_frame(start + index, *size), format="rgb24")
            frame = frame.reformat(format=pixels)
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = Fraction(1, fps) if ticks is None else Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def write_frames(folder: Path, count: int, names: str = "{:05d}.jpg", size: tuple[int, int] = (48, 80)) -> Path:
    """A folder of numbered frame images."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(numbered_frame(index, *size)).save(folder / names.format(index))
    return folder


def turn_mp4(path: Path) -> None:
    """Write a 90 degree rotation into the track header of an .mp4 file, as a phone held upright does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    matrix = [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


def decode_all(path: Path) -> list[np.ndarray]:
    """Every frame by PyAV alone, as it comes, upright."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        return [
            np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            for frame in container.decode(video=0)
        ]
