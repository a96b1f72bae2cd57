"""Film strips: the frames of a clip, stacked downwards, as one JPEG; its parsing maps as one palette PNG.

One file per clip saves tar headers, opens and decoder starts. Quality 95 with halved chroma (4:2:0) was chosen by
measurement on real face clips of 16 frames at 224 x 224: 213 kB and 42.9 dB, against 271 kB, 45.5 dB and a third more
time to decode with full chroma, which the videos behind the clips do not have either. simplejpeg decodes to the same
pixels as PIL (both are libjpeg-turbo) in half of its time, and refuses damaged data.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import simplejpeg
from PIL import Image

from fclip.errors import FclipError
from fclip.files import resource_json
from fclip.records import PARSING_CLASSES

MAX_ROWS = 65500  # libjpeg's largest image side
MAX_SIDE = 4096  # of one frame
PNG_LEVEL = 6
REMEDY = "make the shard again"


def encode_strip(frames: np.ndarray, quality: int = 95) -> bytes:
    """Encode frames uint8 (T, H, W, 3) RGB as one JPEG of T*H rows; the same input gives the same bytes.

    Raises FclipError if the frames do not fit into one JPEG (T*H <= 65500).
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise FclipError(f"frames must be uint8 (T, H, W, 3), not {frames.dtype} {frames.shape}")
    count, height, width, _ = frames.shape
    _check_size(count, height, width)
    strip = np.ascontiguousarray(frames).reshape(count * height, width, 3)  # (T*H, W, 3)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def decode_strip(data: bytes, frames: int, height: int, width: int, size: int | None = None) -> np.ndarray:
    """Decode a JPEG strip to uint8 (T, H, W, 3) RGB.

    With `size`, frames at least twice that large are decoded at a half, quarter or eighth of their scale
    inside the JPEG decoder (much faster than decoding all and resizing); the result is never smaller than
    `size`. Raises FclipError if the JPEG's header does not promise exactly `frames` frames of `height` x
    `width`, checked before any pixel is decoded, or if the data are damaged.
    """
    _check_size(frames, height, width)
    shrink = _shrink(height, width, size)
    expected = (frames * height // shrink, width // shrink, 3)
    try:
        rows, columns, _, _ = simplejpeg.decode_jpeg_header(data)
        if (rows, columns) != (frames * height, width):
            raise FclipError(f"strip is {(columns, rows)}, its json says {(width, frames * height)}; {REMEDY}")
        strip = simplejpeg.decode_jpeg(data, "RGB", min_height=expected[0], min_width=expected[1], min_factor=1)
    except ValueError as error:
        raise FclipError(f"strip is no JPEG image, or damaged ({error}); {REMEDY}") from error
    if strip.shape != expected:
        raise FclipError(f"film strip decodes to {strip.shape}, not {expected}; {REMEDY}")
    return np.asarray(strip).reshape(frames, height // shrink, width // shrink, 3)  # (T, H, W, 3)


def encode_palette_strip(parsing: np.ndarray) -> bytes:
    """Encode parsing maps uint8 (T, H, W), ids of PARSING_CLASSES, as one palette PNG of T*H rows (lossless)."""
    if parsing.dtype != np.uint8 or parsing.ndim != 3:
        raise FclipError(f"parsing maps must be uint8 (T, H, W), not {parsing.dtype} {parsing.shape}")
    count, height, width = parsing.shape
    _check_size(count, height, width)
    if parsing.max() >= len(PARSING_CLASSES):
        raise FclipError(f"parsing id {parsing.max()} is not one of the {len(PARSING_CLASSES)} classes")
    image = Image.frombytes("P", (width, count * height), parsing.tobytes())
    image.putpalette([value for colour in parsing_palette() for value in colour])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def decode_palette_strip(data: bytes, frames: int, height: int, width: int) -> np.ndarray:
    """Decode a palette PNG strip to ids of PARSING_CLASSES, uint8 (T, H, W); raises FclipError as decode_strip."""
    _check_size(frames, height, width)
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        if image.size != (width, frames * height):
            raise FclipError(f"strip is {image.size}, its json says {(width, frames * height)}; {REMEDY}")
        if image.mode != "P":
            raise FclipError(f"parsing strip has mode {image.mode}, not a palette; {REMEDY}")
        ids = np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FclipError(f"strip is no PNG image, or damaged ({error}); {REMEDY}") from error
    if ids.max() >= len(PARSING_CLASSES):
        raise FclipError(f"parsing strip holds id {ids.max()}, which is no parsing class; {REMEDY}")
    return ids.reshape(frames, height, width)  # (T, H, W)


@cache
def parsing_palette() -> tuple[tuple[int, int, int], ...]:
    """Colours (r, g, b) of PARSING_CLASSES in order, for the palette PNG and for pictures."""
    colours = resource_json("parsing_palette.json")
    return tuple(tuple(colours[name]) for name in PARSING_CLASSES)


def _check_size(frames: int, height: int, width: int) -> None:
    if min(frames, height, width) < 1 or max(height, width) > MAX_SIDE or frames * height > MAX_ROWS:
        raise FclipError(
            f"{frames} frames of {height} x {width} do not fit into a strip (sides up to {MAX_SIDE}, {MAX_ROWS} rows "
            "together); use fewer or smaller frames"
        )


def _shrink(height: int, width: int, size: int | None) -> int:
    """The largest of 8, 4, 2, 1 by which frames can shrink whole and stay at least `size`."""
    if size is None:
        return 1
    fits = (n for n in (8, 4, 2) if min(height, width) // n >= size and height % n == 0 and width % n == 0)
    return next(fits, 1)
