"""The packets of a video file, without decoding: when each frame is shown, and reading from any key frame on.

Headers lie (frame counts, durations, rates) or are missing; packets are what a file really holds.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av

from fclip.data.media.images import check_size, first_line, refuse_pointer
from fclip.errors import ClipFailure

# Real media containers only: playlists and scripts (hls, concat, ...) could make the library open other files.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,live_flv,mpeg,mpegts,mpegvideo,gif,apng,h264,hevc,m4v,obu,"
    "ivf,ogg,rm,mjpeg,dv,mxf,nut,wtv,h263,vc1,yuv4mpegpipe"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
_LOST_SECONDS = 0.5  # a header that promises this much more than the packets hold means a truncated file
_CLOCK_RESET_SECONDS = 2.0  # time stamps that fall back this far were reset in mid-file
_KEPT_BYTES = 16 << 20  # the packets of smaller files stay in memory: no second reading, no seeking


@dataclass
class PacketIndex:
    """Time stamps of a video stream, in its time base.

    `stamps` rising, one per frame shown; `keys` rising, those of the key frames, and `key_sizes`, the bytes of each;
    `latest` the last stamp; `last_duration` of the last frame, 0 if unknown. `trusted` is False where packets do not
    say when frames are shown (raw streams, AVI with B frames): frames must then be counted by decoding. `truncated`:
    the file ends before its header says, or is damaged; raw and MPEG streams, WMV and GIF do not tell. `kept`: all
    packets in file order, of a small file.
    """

    stamps: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("q"))
    key_sizes: array[int] = field(default_factory=lambda: array("q"))
    latest: int = -(1 << 62)
    last_duration: int = 0
    trusted: bool = True
    truncated: bool = False
    kept: list[av.Packet] | None = None


class PacketReader:
    """An open video file: `stream`, the `index` of its packets, and packets from the start or from a key frame.

    Raises ClipFailure with a one-line reason for what is no readable video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = _open(path)
        try:
            self.stream = _video_stream(self._container, path)
            self.format = self._container.format.name.split(",")[0]
            self.index = _index_packets(self._container, self.stream, path.stat().st_size <= _KEPT_BYTES)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def from_start(self) -> Iterator[av.Packet]:
        """All packets of the stream."""
        if self.index.kept is not None:
            self.stream.codec_context.flush_buffers()
            return iter(self.index.kept)
        self._container.close()  # some formats cannot seek back to their start
        self._container = _open(self.path)
        self.stream = _video_stream(self._container, self.path)
        return _demux(self._container, self.stream)

    def from_key(self, key: int, target: int) -> tuple[int, Iterator[av.Packet]] | None:
        """(time stamp, packets) from the key frame at `key`, or from where seeking ends; None if after `target`."""
        if self.index.kept is not None:
            self.stream.codec_context.flush_buffers()
            return key, itertools.dropwhile(lambda packet: packet.pts != key, self.index.kept)
        try:
            self._container.seek(key, stream=self.stream)
        except (av.FFmpegError, OSError):
            return None
        packets = _demux(self._container, self.stream)
        entry = next((packet for packet in packets if packet.is_keyframe), None)
        if entry is None or entry.pts is None or entry.pts > target or not self._is_known(entry.pts, entry.size):
            return None
        return entry.pts, itertools.chain([entry], packets)

    def _is_known(self, stamp: int, size: int) -> bool:
        """Whether a key frame reached by seeking has the time stamp it had when the file was read through.

        In MPEG program streams, seeking may end inside a frame, whose rest then takes the stamp of the next one.
        """
        keys = self.index.keys
        at = bisect_left(keys, stamp)
        return at < len(keys) and keys[at] == stamp and self.index.key_sizes[at] == size


def _open(path: Path) -> av.container.InputContainer:
    if not path.is_file():
        raise ClipFailure(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ClipFailure(f"{path}: empty file")
    try:
        return av.open(f"file:{path}", options=_OPTIONS, metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as error:
        refuse_pointer(path)
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ClipFailure(f"{path}: not a readable video ({reason})") from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first video stream that is not a cover picture, ready to decode on one thread."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise ClipFailure(f"{path}: no video stream in the file")
    context = streams[0].codec_context
    if context is None:
        raise ClipFailure(f"{path}: no decoder for its video codec")
    check_size(context.width, context.height, path)
    context.thread_count = 1  # work is spread over clips, and results do not depend on the machine
    return streams[0]


def _demux(container: av.container.InputContainer, *streams: av.stream.Stream) -> Iterator[av.Packet]:
    """Packets with data up to the end of the file or to where it cannot be read on."""
    try:
        for packet in container.demux(*streams):
            if packet.size:
                yield packet
    except (av.FFmpegError, OSError, IndexError):  # IndexError: PyAV, where streams appear in mid-file
        return


def _index_packets(container: av.container.InputContainer, stream: av.VideoStream, keep: bool) -> PacketIndex:
    """Read all packets once and list when the frames of `stream` are shown."""
    index = PacketIndex(kept=[] if keep else None)
    count = 0
    ended = 0.0  # seconds
    streams = [stream, *container.streams.audio]  # a file may rightly be longer than its pictures
    ticks = {other.index: float(other.time_base or 0) for other in streams}
    for packet in _demux(container, *streams):
        if packet.pts is not None:
            ended = max(ended, (packet.pts + (packet.duration or 0)) * ticks[packet.stream_index])
        if packet.stream_index == stream.index:
            count += 1
            _add(index, packet, ticks[stream.index])
    index.stamps = array("q", sorted(index.stamps))
    order = sorted(range(len(index.keys)), key=index.keys.__getitem__)
    index.keys, index.key_sizes = (array("q", [values[at] for at in order]) for values in (index.keys, index.key_sizes))
    if any(a == b for a, b in itertools.pairwise(index.stamps)) or _reordered_avi(container, stream):
        index.trusted = False
    promised = ((container.duration or 0) + (container.start_time or 0)) / av.time_base
    index.truncated |= count < stream.frames or 0 < ended < promised - _LOST_SECONDS
    return index


def _add(index: PacketIndex, packet: av.Packet, tick: float) -> None:
    """Take a packet of the video stream into the index; `tick` is its time base in seconds."""
    if index.kept is not None:
        index.kept.append(packet)
    index.truncated |= packet.is_corrupt
    if packet.pts is None or packet.pts < index.latest - _CLOCK_RESET_SECONDS / tick:
        index.trusted = False
    if packet.pts is None or packet.pts > index.latest:
        index.last_duration = packet.duration or 0
    if packet.pts is None or packet.is_discard or packet.is_corrupt:
        return
    index.latest = max(index.latest, packet.pts)
    index.stamps.append(packet.pts)
    if packet.is_keyframe:
        index.keys.append(packet.pts)
        index.key_sizes.append(packet.size)


def _reordered_avi(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """AVI stores frames in coding order without display times, which is wrong as soon as there are B frames."""
    return container.format.name == "avi" and stream.codec_context.has_b_frames
