"""Contact sheets: clips with label, landmarks, parsing and caption in one picture; the first thing to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fclip.data.media.sampling import segment_centres
from fclip.data.storage.packed import PackedSample, parse_packed
from fclip.data.storage.shards import read_shard
from fclip.data.storage.strips import parsing_palette
from fclip.errors import FclipError

CELL, LINE, MARGIN = 112, 15, 6  # pixels
PARSING_SHARE = 0.6  # of the map in the blend with the frame
_INK, _PAPER, _POINT = (30, 30, 30), (255, 255, 255), (255, 230, 0)


def contact_sheet(path: str | Path, clips: int = 8, frames: int = 8) -> Any:
    """Return a PIL image of the first clips of a frames or packed shard, or of a folder of shards.

    Raises FclipError if there is no clip, or a damaged one.
    """
    path = Path(path)
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    samples = (parse_packed(key, fields) for shard in shards for key, fields in read_shard(shard))
    chosen = list(islice(samples, clips))
    if not chosen:
        raise FclipError(f"{path}: no clip to draw")
    return draw_clips(chosen, frames)


def draw_clips(samples: Iterable[PackedSample], frames: int = 8, *, written: bool = True) -> Any:
    """Return a PIL image of clips, one below the other.

    Each clip has a line with key, label and part, `frames` of its frames, the same with landmarks, the same under their
    parsing maps with the number of the frame and, where its json has it, the confidence of the face, and its caption.
    Without words and numbers where these stand elsewhere (`written` False).
    """
    from PIL import Image

    blocks = [_block(sample, frames, written) for sample in samples]
    sheet = Image.new("RGB", (2 * MARGIN + frames * CELL, sum(block.height for block in blocks) or LINE), _PAPER)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _block(sample: PackedSample, frames: int, written: bool) -> Any:
    """One clip of a contact sheet, a PIL image of the sheet's width."""
    from PIL import Image, ImageDraw

    width = 2 * MARGIN + frames * CELL
    title = f"{sample.key}   {sample.info['label']}   {sample.info.get('part', '')}"
    caption = textwrap.wrap(sample.caption or "", width // 7) if written else []
    top = MARGIN + LINE * written
    strips = [_side_by_side(sample.frames[segment_centres(len(sample.frames), frames)])]
    if sample.landmarks is not None:
        strips.append(_landmark_row(sample, sample.landmarks, frames))
    if sample.parsing is not None:
        strips.append(_parsing_row(sample, sample.parsing, frames, written))
    block = Image.new("RGB", (width, top + MARGIN + LINE * len(caption) + CELL * len(strips)), _PAPER)
    draw = ImageDraw.Draw(block)
    draw.text((MARGIN, MARGIN), title if written else "", fill=_INK)
    for row, strip in enumerate(strips):
        block.paste(strip, (MARGIN, top + row * CELL))
    for row, line in enumerate(caption):
        draw.text((MARGIN, top + LINE * row + CELL * len(strips)), line, fill=_INK)
    return block


def _landmark_row(sample: PackedSample, landmarks: np.ndarray, frames: int) -> Any:
    """Frames side by side, with their landmarks as dots."""
    from PIL import ImageDraw

    chosen = segment_centres(len(sample.frames), frames)
    row = _side_by_side(sample.frames[chosen])
    draw = ImageDraw.Draw(row)
    for place, points in enumerate(landmarks[chosen]):
        for x, y in points * CELL if points.any() else ():  # all 0: no face
            if 0 <= x < CELL:
                draw.circle((place * CELL + x, y), 1, fill=_POINT)
    return row


def _parsing_row(sample: PackedSample, parsing: np.ndarray, frames: int, written: bool) -> Any:
    """Frames side by side, blended with the colours of their parsing maps; below, number and confidence."""
    from PIL import ImageDraw

    chosen = segment_centres(len(sample.frames), frames)
    colours = np.array(parsing_palette(), np.float32)[parsing[chosen]]  # (T, H, W, 3)
    blend = PARSING_SHARE * colours + (1 - PARSING_SHARE) * sample.frames[chosen]
    row = _side_by_side(blend.astype(np.uint8))
    draw, confidence = ImageDraw.Draw(row), sample.info.get("confidence")
    for place, index in enumerate(chosen if written else ()):
        note = str(index) if confidence is None else f"{index}: {confidence[index]:.2f}"
        draw.text((place * CELL + 3, CELL - LINE), note, fill=_POINT)
    return row


def _side_by_side(frames: np.ndarray) -> Any:
    """Frames uint8 (T, H, W, 3) as one PIL image of T cells."""
    from PIL import Image

    row = Image.new("RGB", (len(frames) * CELL, CELL))
    for place, frame in enumerate(frames):
        row.paste(Image.fromarray(frame).resize((CELL, CELL), Image.Resampling.BILINEAR), (place * CELL, 0))
    return row
