"""Exact access to the frames of a video file through PyAV, with flat memory.

A frame is reached from the nearest key frame before it and is the same, bit for bit, that decoding the whole file
gives. Frames are turned upright (PyAV reports the rotation in the metadata but does not apply it).
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from fclip.data.media.images import Size, check_size, first_line, fit_size
from fclip.data.media.index import PacketReader
from fclip.data.media.sampling import Timeline
from fclip.errors import ClipFailure

# Decoders that can leave out single frames that no other frame refers to (others decode frames in parallel).
_SKIPPING = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
# The usual formats, and the one to scale them to before they become RGB: three times as fast as at once, and nearer
# to what scaling the RGB picture gives (49 against 47 dB and 43 against 42 dB on real clips), without its cast.
_SCALED_AS = {"yuv420p": "yuv422p", "yuvj420p": "yuvj422p"}
_WIDEST_PIXEL = 8  # or one over it: another aspect is damage
_SEEK_GAIN = 8  # frames: a shorter stretch is decoded through rather than jumped over ...
_JUMP_GAIN = 2  # ... where that means no reading from disk, and loses none of the frames that decoders hold back
_HOLDING_BACK = frozenset({"h264", "hevc", "vvc", "av1", "libdav1d", "libaom-av1"})  # several frames; others one

Stamped = tuple[int, av.VideoFrame]  # time stamp in the stream's time base, frame


class VideoFile:
    """A video file: its `timeline` (when each frame is shown) and its frames by index.

    `truncated` says that the file is damaged or ends before its header says; `info` describes the encoding.
    Raises ClipFailure with a one-line reason for what is no readable video.
    """

    def __init__(self, path: Path) -> None:
        self._reader = PacketReader(path)
        self._index = self._reader.index
        self._exact_seek = True
        self.truncated = self._index.truncated
        try:
            stream = self._reader.stream
            self._rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self._time_base = float(stream.time_base or 1 / self._rate)
            self.info: dict[str, Any] = {
                "format": self._reader.format,
                "codec": stream.codec_context.name,
                "rotation": 0,
            }
            times = self._seconds(self._index.stamps) if self._index.trusted else self._count_frames()
            if len(times) == 0:
                raise ClipFailure(f"{path}: no frames in the video")
            self.timeline = Timeline(times, self._end(times))
        except BaseException:
            self.close()
            raise

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the frames with square pixels, as the file's header says, before they are turned."""
        stream = self._reader.stream
        context = stream.codec_context
        return square_pixels(context.width, context.height, pixel_aspect(stream.sample_aspect_ratio))[::-1]

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def frames(self, wanted: Sequence[int], size: Size = None) -> Iterator[tuple[int, float, np.ndarray]]:
        """Yield (index, seconds, uint8 RGB (H, W, 3)) for rising, distinct frame indices, in one pass.

        A frame that cannot be decoded is replaced by the one shown before it, with the time of that one.
        """
        convert = _Converter(self._reader.path, size, self._reader.stream.sample_aspect_ratio)
        decode = self._frames_by_stamp if self._index.trusted else self._frames_by_count
        found = 0
        for index, seconds, frame in decode(wanted):
            picture = convert(frame)
            self.info["rotation"] = convert.rotation
            found += 1
            yield index, seconds, picture
        if found < len(wanted):
            self.truncated = True

    # --- times ----------------------------------------------------------------------------------------------------

    def _seconds(self, stamps: Sequence[int]) -> np.ndarray:
        """Seconds since the first frame."""
        ticks = np.array(stamps, dtype=np.int64)
        return (ticks - ticks[:1]) * self._time_base

    def _count_frames(self) -> np.ndarray:
        """Times (N,) of the frames of a stream whose packets do not tell them: decode it once, keeping none."""
        stamps: list[int] = []
        count = 0
        for frame in self._decode(self._reader.from_start()):
            count += 1
            if frame.pts is not None and (not stamps or frame.pts > stamps[-1]):
                stamps.append(frame.pts)
        if len(stamps) == count:
            return self._seconds(stamps)
        return np.arange(count) * (self._index.last_duration * self._time_base or float(1 / self._rate))

    def _end(self, times: np.ndarray) -> float:
        """When the last frame ends: no stamp says that, so the step between frames or the header must."""
        last = float(times[-1])
        steps = np.diff(times) if len(times) > 1 else np.array([float(1 / self._rate)])
        if len(times) > 2 and Timeline(times, last).constant_rate:
            return last + float(steps.mean())
        stream = self._reader.stream
        if self._index.trusted and stream.duration is not None and stream.start_time is not None:
            promised = (stream.start_time + stream.duration - self._index.stamps[0]) * self._time_base
            if last < promised <= last + 2 * steps.max():
                return promised
        return last + (self._index.last_duration * self._time_base or float(np.median(steps)))

    # --- reaching frames ------------------------------------------------------------------------------------------

    def _frames_by_count(self, wanted: Sequence[int]) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """Frames of a stream without usable time stamps: decode from the start and count."""
        remaining = iter(wanted)
        target = next(remaining, None)
        for position, frame in enumerate(self._decode(self._reader.from_start())):
            if position == target:
                yield position, float(self.timeline.times[position]), frame
                target = next(remaining, None)
            if target is None:
                return

    def _frames_by_stamp(self, wanted: Sequence[int]) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """Frames by time stamp: jump to the key frame before a wanted frame when that saves decoding."""
        stamps = self._index.stamps
        needed = {stamps[index] for index in wanted} if self.info["codec"] in _SKIPPING else None
        decoder: Iterator[Stamped] | None = None
        shown: Stamped | None = None
        pending: Stamped | None = None
        position = 0  # index of the frame decoded last
        cheap = self._index.kept is not None and self.info["codec"] not in _HOLDING_BACK
        gain = _JUMP_GAIN if cheap else _SEEK_GAIN
        for index in wanted:
            target = stamps[index]
            if decoder is None or (self._exact_seek and self._key_before(target) > position + gain):
                decoder, shown, pending = self._decode_near(target, needed), None, None
            while shown is None or shown[0] < target:
                following, pending = pending or next(decoder, None), None
                if following is None:
                    break
                if following[0] > target and shown is not None:
                    pending = following
                    break
                shown = following
            if shown is None:
                return
            position = index
            yield index, (shown[0] - stamps[0]) * self._time_base, shown[1]

    def _key_before(self, target: int) -> int:
        """Frame index of the last key frame shown at or before time stamp `target`; 0 if there is none."""
        at = bisect_right(self._index.keys, target) - 1
        return bisect_left(self._index.stamps, self._index.keys[at]) if at >= 0 else 0

    def _decode_near(self, target: int, needed: set[int] | None) -> Iterator[Stamped]:
        """Frames from a key frame at or before `target` on, as near as can be reached exactly, else from the start."""
        keys = self._index.keys
        first = at = bisect_right(keys, target) - 1
        step = 1
        while at >= 0:
            frames = self._decode_from_key(keys[at], target, needed)
            if frames is not None:
                return frames
            at, step = at - step, step * 2
        self._exact_seek = first <= 0  # some formats cannot seek to their very start, but can to later places
        return _stamped(self._decode(self._reader.from_start(), needed))

    def _decode_from_key(self, key: int, target: int, needed: set[int] | None) -> Iterator[Stamped] | None:
        """Frames from one key frame on, or None if it cannot be reached or is no true restart (intra refresh)."""
        reached = self._reader.from_key(key, target)
        if reached is None:
            return None
        entry, packets = reached
        frames = _stamped(self._decode(packets, None if needed is None else needed | {entry}))
        first = next((frame for frame in frames if frame[0] >= entry), None)
        if first is None or first[0] != entry or first[1].pict_type != PictureType.I:
            return None
        return itertools.chain([first], frames)

    def _decode(self, packets: Iterator[av.Packet], needed: set[int] | None = None) -> Iterator[av.VideoFrame]:
        """Decode packets to frames in display order, past damaged ones.

        With `needed` (time stamps), other frames that no frame depends on are not reconstructed.
        """
        context = self._reader.stream.codec_context
        skipping = None
        for packet in itertools.chain(packets, [None]):  # None: give out the frames still held
            if needed is not None and packet is not None and skipping is not (packet.pts not in needed):
                skipping = packet.pts not in needed
                context.skip_frame = "NONREF" if skipping else "DEFAULT"
            try:
                yield from context.decode(packet)
            except av.FFmpegError:
                self.truncated = True


def _stamped(frames: Iterator[av.VideoFrame]) -> Iterator[Stamped]:
    """Frames with their time stamps, rising; a damaged stream may give out others, which cannot be placed."""
    latest: int | None = None
    for frame in frames:
        if frame.pts is not None and (latest is None or frame.pts > latest):
            latest = frame.pts
            yield frame.pts, frame


def pixel_aspect(told: Fraction | None) -> Fraction:
    """Width / height of a pixel (DVD, DV and HDV have others than 1); 1 where the file says nothing, or nonsense."""
    return told if told and 1 / _WIDEST_PIXEL <= told <= _WIDEST_PIXEL else Fraction(1)


def square_pixels(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """(width, height) with square pixels: the shorter-looking side is drawn out, so that no detail is lost."""
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


class _Converter:
    """Turns decoded frames into upright RGB arrays of one size, with square pixels; `aspect`: as the file tells it."""

    def __init__(self, path: Path, size: Size, aspect: Fraction | None = None) -> None:
        self.rotation = 0
        self._aspect = pixel_aspect(aspect)
        self._path = path
        self._size = size
        self._target: tuple[int, int] | None = None
        self._scaler, self._colours = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 (H, W, 3); a frame of another size than the first is resized to it.

        Bilinear with a filter as wide as the reduction (antialias).
        """
        check_size(frame.width, frame.height, self._path)
        self.rotation = frame.rotation % 360
        turns = round(frame.rotation / 90) % 4  # counter-clockwise
        if self._target is None:
            shown = square_pixels(frame.width, frame.height, self._aspect)
            check_size(*shown, self._path)
            self._target = fit_size(*(shown if turns % 2 else shown[::-1]), self._size)
        height, width = self._target[::-1] if turns % 2 else self._target
        rgb = self._scale(frame, width, height)
        return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb

    def _scale(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        try:
            between = _SCALED_AS.get(frame.format.name)
            if between and (frame.width, frame.height) != (width, height):
                frame = self._scaler.reformat(
                    frame, width=width, height=height, format=between, interpolation=Interpolation.BILINEAR, threads=1
                )
            return self._colours.reformat(
                frame, width=width, height=height, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1
            ).to_ndarray()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise ClipFailure(f"{self._path}: cannot convert its colours to RGB ({first_line(error)})") from error
