"""Packed samples: a clip's frames with its face maps, landmarks and caption, as training reads them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fclip.data.storage.arrays import check_finite, check_range, npy_bytes, parse_npy
from fclip.data.storage.captions import caption_from_dict
from fclip.data.storage.shards import need_field, parse_info, parse_json
from fclip.data.storage.strips import decode_palette_strip, decode_strip, encode_palette_strip
from fclip.errors import FclipError
from fclip.files import json_bytes
from fclip.records import LANDMARKS, CaptionRecord, FaceTrack

OPTIONAL_FIELDS = {
    "parsing": "parsing.png",
    "landmarks": "landmarks.npy",
    "signals": "signals.npy",
    "caption": "caption.txt",
}


@dataclass
class PackedSample:
    """One clip for training; what it does not have is None.

    frames uint8 (T, H, W, 3) RGB; info: its json; parsing uint8 (T, H, W); landmarks float32 (T, 68, 2) in [0, 1] of
    the frame; signals float32 (T, S), named by info["signal_names"], 0 in frames without a face; caption: its text;
    caption_info: the whole record.
    """

    key: str
    frames: np.ndarray
    info: dict[str, Any]
    parsing: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    signals: np.ndarray | None = None
    caption: str | None = None
    caption_info: CaptionRecord | None = None


def packed_fields(
    key: str, fields: Mapping[str, bytes], track: FaceTrack | None, caption: CaptionRecord | None
) -> dict[str, bytes]:
    """Join a frame sample's fields with its face track and caption; the film strip is taken over as it is.

    The track's confidence, rounded to four digits, and its signals' names go into the json. Raises FclipError if the
    track's size does not fit to the frames.
    """
    info = parse_info(key, fields)
    info.pop("seen", None)  # for face analysis alone
    packed = {"frames.jpg": need_field(key, fields, "frames.jpg")}
    if track is not None:
        if track.parsing.shape != (info["frames"], info["height"], info["width"]):
            raise FclipError(f"clip {key}: face track is {track.parsing.shape}, its frames are not; rerun face-analyze")
        info["confidence"] = [round(float(value), 4) for value in track.confidence]
        packed["parsing.png"] = encode_palette_strip(track.parsing)
        packed["landmarks.npy"] = npy_bytes(track.landmarks)
        if track.signals is not None:
            packed["signals.npy"] = npy_bytes(track.signals)
            info["signal_names"] = list(track.signal_names)
    if caption is not None:
        packed["caption.txt"] = caption.text.encode()
        packed["caption.json"] = json_bytes(asdict(caption))
    packed["json"] = json_bytes(info)
    return packed


def parse_packed(
    key: str, fields: Mapping[str, bytes], wanted: Collection[str] = tuple(OPTIONAL_FIELDS), size: int | None = None
) -> PackedSample:
    """Decode a packed sample; what it lacks, or is not in `wanted` (names of OPTIONAL_FIELDS), is None.

    With `size`, frames and parsing come at a half, quarter or eighth of their scale where that is at least
    `size` (fast, see decode_strip). Raises FclipError if a field is damaged or disagrees with the json.
    """
    info = parse_info(key, fields)
    shape = info["frames"], info["height"], info["width"]
    sample = PackedSample(key, decode_strip(need_field(key, fields, "frames.jpg"), *shape, size=size), info)
    present = {name for name in wanted if OPTIONAL_FIELDS[name] in fields}
    if "parsing" in present:
        sample.parsing = shrink_parsing(decode_palette_strip(fields["parsing.png"], *shape), sample.frames.shape[1])
    if "landmarks" in present:
        shape = (info["frames"], LANDMARKS, 2)
        sample.landmarks = parse_npy(f"{key}.landmarks.npy", fields["landmarks.npy"], shape)  # (T, 68, 2)
    if "signals" in present:
        sample.signals = parse_signals(key, fields["signals.npy"], info)
    if "caption" in present:
        sample.caption = parse_text(f"{key}.caption.txt", fields["caption.txt"])
        if "caption.json" in fields:
            name = f"{key}.caption.json"
            sample.caption_info = caption_from_dict(name, parse_json(name, fields["caption.json"]))
    check_range(f"clip {key}", "landmarks", sample.landmarks)
    return sample


def shrink_parsing(parsing: np.ndarray, height: int) -> np.ndarray:
    """Parsing maps (T, H, W) at the scale of frames that were decoded with `height` rows, a divisor of H."""
    step = parsing.shape[1] // height
    return parsing[:, step // 2 :: step, step // 2 :: step]


def parse_text(name: str, data: bytes) -> str:
    """Decode a text field; raises FclipError naming the member."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FclipError(f"{name}: not UTF-8; make the shard again") from error


def parse_signals(key: str, data: bytes, info: dict[str, Any]) -> np.ndarray:
    """Decode signals.npy (T, S), S being the number of names in the json; FclipError for another shape or NaN."""
    names = info.get("signal_names", ())
    values = parse_npy(f"{key}.signals.npy", data, (info["frames"], len(names)))
    try:
        check_finite(values)
    except ValueError as error:
        raise FclipError(f"{key}.signals.npy: {error}; make the shard again") from error
    return values
