"""Contact sheets: frame, parsing and landmarks of some clips at several times; the first thing to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from fclip.data.records import FaceTrack
from fclip.faces.maps import landmark_images, parsing_images

TITLE_HEIGHT = 16


def contact_sheet(
    clips: Sequence[tuple[np.ndarray, FaceTrack, str]], times: int = 6, tile: int = 160
) -> Image.Image:
    """Draw clips, each (frames uint8 (T, H, W, 3), its face track, a title), one below the other.

    Each clip has three rows: frames, parsing over the frame, landmarks over the darkened frame; `times` frames evenly
    spaced over the clip, side by side, `tile` pixels wide. Confidence is written on each landmark picture, with an
    f where the values were filled. No clips give an empty sheet.
    """
    blocks = [_block(*clip, times, tile) for clip in clips]
    width = max((block.width for block in blocks), default=tile)
    sheet = Image.new("RGB", (width, sum(block.height for block in blocks) or tile), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _block(frames: np.ndarray, track: FaceTrack, title: str, times: int, tile: int) -> Image.Image:
    """One clip's title and three rows of pictures."""
    shown = np.unique(np.linspace(0, len(frames) - 1, min(times, len(frames))).round().astype(int))
    height = max(1, round(tile * frames.shape[1] / frames.shape[2]))
    block = Image.new("RGB", (tile * len(shown), TITLE_HEIGHT + 3 * height), "white")
    pen = ImageDraw.Draw(block)
    pen.text((3, 2), title, fill="black")
    for column, index in enumerate(shown):
        frame = np.asarray(Image.fromarray(frames[index]).resize((tile, height), Image.Resampling.BICUBIC))
        pictures = (frame, _with_parsing(frame, track, index), _with_landmarks(frame, track, index))
        for row, picture in enumerate(pictures):
            block.paste(Image.fromarray(picture), (column * tile, TITLE_HEIGHT + row * height))
        filled = track.filled is not None and bool(track.filled[index])
        note = f"{index}: {track.confidence[index]:.2f}{' f' if filled else ''}"
        pen.text((column * tile + 3, TITLE_HEIGHT + 2 * height + 2), note, fill="yellow")
    return block


def _with_parsing(frame: np.ndarray, track: FaceTrack, index: int) -> np.ndarray:
    """The parsing's colours, mixed half and half with the frame where they are not background."""
    ids = Image.fromarray(track.parsing[index]).resize(frame.shape[1::-1], Image.Resampling.NEAREST)
    parsing = torch.from_numpy(np.array(ids))
    colours = 255 * parsing_images(parsing).permute(1, 2, 0).numpy()  # (H, W, 3)
    share = np.where(parsing.numpy() > 0, 0.6, 0.0)[..., None]
    return (share * colours + (1 - share) * frame).astype(np.uint8)


def _with_landmarks(frame: np.ndarray, track: FaceTrack, index: int) -> np.ndarray:
    """The landmarks' dots over the frame at half its brightness."""
    dots = landmark_images(torch.from_numpy(track.landmarks[index]), frame.shape[:2])
    return np.maximum(frame // 2, (255 * dots).byte().permute(1, 2, 0).numpy())
