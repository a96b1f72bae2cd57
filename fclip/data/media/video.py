"""Video in and out: sampled clips, frame streams, H.264 files.

One interface for every source: a video file of any usual format, a folder of frame images, one picture. Memory holds
the frames asked for, never the video.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from fclip.data.media.decoder import VideoFile
from fclip.data.media.files import is_picture
from fclip.data.media.images import AnimatedImage, FrameFolder, Size, is_animated
from fclip.data.media.sampling import SamplingPlan, Timeline
from fclip.errors import ClipFailure, FclipError
from fclip.files import atomic_write

log = logging.getLogger(__name__)
CLOCK = 90_000  # ticks a second of the times that are written
AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
KEPT = ("aac", "mp3", "mp3float")  # sound that an .mp4 file takes as it is
_MAX_BYTES = 4 << 30  # of the frames of one clip


class FrameSource(Protocol):
    """What VideoFile and FrameFolder have in common."""

    timeline: Timeline
    info: dict[str, Any]

    @property
    def truncated(self) -> bool:
        """Whether it is damaged, or ends before its header says."""

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of its frames before they are scaled or turned."""

    def frames(self, wanted: Sequence[int], size: Size = None) -> Iterator[tuple[int, float, np.ndarray]]:
        """Yield (index, seconds, uint8 RGB (H, W, 3)) for rising, distinct frame indices."""

    def close(self) -> None:
        """Release the file."""


@dataclass
class DecodedClip:
    """Frames taken from one source.

    `frames` uint8 (T, H, W, 3) RGB, upright; `times` (T,) seconds since the source's first frame; `end`: when what
    was asked for ends; `fps` mean frame rate; `total` frames in the source; `truncated`: the file is damaged or
    shorter than its header says; `info`: format, codec, rotation (degrees, already applied).
    """

    frames: np.ndarray
    times: np.ndarray
    end: float
    fps: float
    total: int
    truncated: bool
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Segment:
    """A stretch [start, end) of a source, in seconds; None: from its first frame, or to its last."""

    path: Path
    start: float | None = None
    end: float | None = None

    def __str__(self) -> str:
        stop = "its end" if self.end is None else f"{self.end:g} s"
        return f"{self.path} from {self.start or 0:g} s to {stop}"


class _Part:
    """A segment as a source of its own: its first frame is frame 0, shown at 0 seconds."""

    def __init__(self, whole: FrameSource, segment: Segment) -> None:
        self._whole, timeline = whole, whole.timeline
        if (segment.start or 0) >= timeline.end:
            raise ClipFailure(f"{segment}: no frames there; the video is {timeline.end:.2f} s long")
        self._first, last = timeline.between(segment.start, segment.end)
        self._start = float(timeline.times[self._first])
        self.timeline = timeline.cut(self._first, last)
        self.info = whole.info

    @property
    def truncated(self) -> bool:
        """As of the whole."""
        return self._whole.truncated

    @property
    def extent(self) -> tuple[int, int]:
        """As of the whole."""
        return self._whole.extent

    def frames(self, wanted: Sequence[int], size: Size = None) -> Iterator[tuple[int, float, np.ndarray]]:
        """As of the whole, counted from the segment's first frame."""
        for index, seconds, picture in self._whole.frames([self._first + place for place in wanted], size):
            yield index - self._first, seconds - self._start, picture

    def close(self) -> None:
        """Close the whole."""
        self._whole.close()


def open_source(source: Path | str | Segment) -> FrameSource:
    """Open a video file, a folder of frame images, a picture or an animated one, or a segment. Raises ClipFailure."""
    if isinstance(source, Segment):
        whole = open_source(source.path)
        try:
            return _Part(whole, source)
        except BaseException:
            whole.close()
            raise
    path = Path(source)
    if path.is_dir() or is_picture(path.name) and path.is_file():
        return AnimatedImage(path) if path.is_file() and is_animated(path) else FrameFolder(path)
    return VideoFile(path)


def read_clip(
    source: Path | str, plan: SamplingPlan, start: float | None = None, end: float | None = None, size: Size = None
) -> DecodedClip:
    """Decode the frames that `plan` takes from a source, or from its part [start, end) in seconds.

    `size` (height, width), or the longest side allowed, resizes with antialias while decoding.
    Raises ClipFailure: no such file, not a video, no frames, nothing between start and end, too large.
    """
    video = open_source(source)
    try:
        return read_part(video, source, plan, start, end, size)
    finally:
        video.close()


def read_part(
    video: FrameSource,
    source: Path | str | Segment,
    plan: SamplingPlan,
    start: float | None = None,
    end: float | None = None,
    size: Size = None,
) -> DecodedClip:
    """`read_clip` of an open source, whose name is `source`; nothing else may read from it at the same time."""
    timeline = video.timeline
    if start is not None and (start >= timeline.end or (end is not None and end <= start)):
        raise ClipFailure(f"{source}: no frames from {start:g} s on; the video is {timeline.end:.2f} s long")
    first, last = timeline.between(start, end)
    part = timeline.cut(first, last)
    frames, times = collect(video, first + plan.indices(part), source, size)
    end = float(timeline.times[first]) + part.end
    return DecodedClip(frames, times, end, timeline.fps, len(timeline), video.truncated, dict(video.info))


def collect(
    video: FrameSource, indices: np.ndarray, source: Path | str | Segment, size: Size
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3) and times (T,) for rising indices (repeats allowed); a damaged end repeats the last one."""
    wanted, first = np.unique(indices, return_index=True)
    starts = [*first.tolist(), len(indices)]
    times = np.zeros(len(indices))
    frames: np.ndarray | None = None
    done = 0
    for place, (_, seconds, picture) in enumerate(video.frames(wanted.tolist(), size)):
        if frames is None:
            if picture.nbytes * len(indices) > _MAX_BYTES:
                height, width = picture.shape[:2]
                raise ClipFailure(f"{source}: {len(indices)} frames of {width} x {height} need over 4 GiB; take fewer")
            frames = np.empty((len(indices), *picture.shape), np.uint8)  # (T, H, W, 3)
        done = starts[place + 1]
        frames[starts[place] : done] = picture
        times[starts[place] : done] = seconds
    if frames is None:
        raise ClipFailure(f"{source}: no frame could be decoded")
    frames[done:], times[done:] = frames[done - 1], times[done - 1]
    return frames, times


def iter_frames(source: Path | str, size: Size = None) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds, uint8 RGB (H, W, 3)) for every frame in display order, with flat memory."""
    video = open_source(source)
    try:
        for _, seconds, picture in video.frames(range(len(video.timeline)), size):
            yield seconds, picture
    finally:
        video.close()


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    quality: int = 20,
    times: Sequence[float] | None = None,
    sound: Path | None = None,
) -> int:
    """Write uint8 RGB frames (H, W, 3) as an H.264 .mp4 file and return their number.

    The file appears whole or not at all; the same frames give the same bytes. `quality` is x264's constant rate factor
    (lower is better). Odd sides lose nothing: the last row or column is doubled, as 4:2:0 video needs even ones.
    times: the seconds of each frame, where they do not follow from `fps`; a list that may grow while frames are made.
    sound: a file whose first sound track is taken over, from its first frame on.
    """
    count, last = 0, -1
    with (
        atomic_write(path) as partial,
        av.open(f"file:{partial}", "w", format="mp4") as container,
        closing(_Sound(container, sound)) as track,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, CLOCK)
        # x264's macroblock tree gives other bytes from one run to the next, even with one thread
        stream.options = {"crf": str(quality), "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        for picture in frames:
            even = np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), "edge")
            if count == 0:
                stream.height, stream.width = even.shape[:2]
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            if times is not None:
                last = max(last + 1, round(times[count] * CLOCK))  # two frames never share a time
                frame.pts, frame.time_base = last, Fraction(1, CLOCK)
            container.mux(stream.encode(frame))
            count += 1
            track.copy_to(times[count - 1] if times is not None else count / fps)
        if count == 0:
            raise FclipError(f"{path}: no frames to write")
        container.mux(stream.encode())
        track.copy_to(None)
    return count


class _Sound:
    """The first sound track of a file, or none, copied into a container as its video grows; AAC and MP3 as they are,
    else as AAC. What is damaged ends the sound, and is told."""

    def __init__(self, container: Any, source: Path | None) -> None:
        self._container, self._source = container, source
        self._file: Any = None
        self._rest: Iterator[tuple[float, Any]] | None = None
        if source is None or source.is_dir() or is_picture(source.name):
            return
        try:
            self._file = av.open(f"file:{source}")
            if self._file.streams.audio:
                self._rest = self._packets(*self._open(self._file.streams.audio[0]))
        except av.error.FFmpegError as error:
            self._tell(error)

    def _open(self, audio: Any) -> tuple[Any, Any, bool]:
        """The track, its like in the new file, and whether its packets are taken as they are."""
        kept = audio.codec_context.name in KEPT
        if kept:
            return audio, self._container.add_stream_from_template(audio), kept
        rate = audio.codec_context.sample_rate
        return audio, self._container.add_stream("aac", rate=rate if rate in AAC_RATES else 48_000), kept

    def copy_to(self, seconds: float | None) -> None:
        """Copy what sounds up to a time, or the rest."""
        try:
            while self._rest is not None and (packet := next(self._rest, None)) is not None:
                self._container.mux(packet[1])
                if seconds is not None and packet[0] > seconds:
                    return
        except av.error.FFmpegError as error:
            self._tell(error)
        self._rest = None

    def close(self) -> None:
        """Release the file."""
        if self._file is not None:
            self._file.close()

    def _packets(self, audio: Any, new: Any, kept: bool) -> Iterator[tuple[float, Any]]:
        """(seconds since the first frame, packet of the new file) in order; what sounds before the first frame is
        left out."""
        videos = self._file.streams.video
        begin = (
            float(videos[0].start_time * videos[0].time_base) if videos and videos[0].start_time is not None else 0.0
        )
        rate = audio.codec_context.sample_rate
        for packet in self._file.demux(audio):
            if kept and packet.pts is not None:
                seconds = float(packet.pts * packet.time_base) - begin
                if seconds >= 0:
                    shift = round(begin / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, new
                    yield seconds, packet
            for frame in () if kept else packet.decode():
                seconds = float(frame.pts * frame.time_base) - begin if frame.pts is not None else 0.0
                if seconds >= 0:
                    frame.pts = round(seconds * rate)
                    frame.time_base = Fraction(1, rate)
                    yield from ((seconds, each) for each in new.encode(frame))
        if not kept:
            yield from ((float("inf"), each) for each in new.encode())

    def _tell(self, error: Exception) -> None:
        log.warning("%s: its sound cannot be read on (%s); the rest of the new file is silent", self._source, error)
        self._rest = None
