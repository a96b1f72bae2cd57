"""Frames as parts of a chat message: JPEG images or one MP4 video, as data URLs."""

from __future__ import annotations

import base64
import io
from fractions import Fraction
from typing import Any

import numpy as np

JPEG_QUALITY = 90


def image_parts(frames: np.ndarray) -> list[dict[str, Any]]:
    """One `image_url` part for each of frames uint8 (T, H, W, 3)."""
    from PIL import Image

    parts = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY)
        parts.append({"type": "image_url", "image_url": {"url": _data_url("image/jpeg", buffer.getvalue())}})
    return parts


def video_parts(frames: np.ndarray, times: np.ndarray) -> list[dict[str, Any]]:
    """One `video_url` part with frames uint8 (T, H, W, 3) as H.264 MP4, at the mean rate of times (T,) seconds."""
    import av

    rate = Fraction(frame_rate(times)).limit_denominator(1000)
    height, width = (size - size % 2 for size in frames.shape[1:3])  # H.264 wants even sizes
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return [{"type": "video_url", "video_url": {"url": _data_url("video/mp4", buffer.getvalue())}}]


def frame_rate(times: np.ndarray) -> float:
    """Mean frames a second of times (T,) in seconds, between 0.1 and 120; 1 for a single frame."""
    duration = float(times[-1] - times[0]) if len(times) > 1 else 0.0
    return float(np.clip((len(times) - 1) / duration, 0.1, 120.0)) if duration > 0 else 1.0


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
