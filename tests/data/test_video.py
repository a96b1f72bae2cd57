"""Reading and writing video: every format, exact seeking, variable rates, rotation, damage."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import decode_all, numbered_frame, read_number, read_numbers, turn_mp4, write_frames, write_numbered
from PIL import Image

from fclip.data.media import decoder as container
from fclip.data.media import images, video
from fclip.data.media import index as packets
from fclip.data.media.sampling import SamplingPlan, segment_centres
from fclip.data.media.video import iter_frames, open_source, read_clip, write_video
from fclip.errors import ClipFailure, FclipError

PLAN = SamplingPlan(16)

# name -> arguments of write_numbered
FORMATS: dict[str, dict[str, object]] = {
    "h264.mp4": {},
    "h264.mov": {},
    "h264.mkv": {},
    "h264.avi": {"codec": "libx264"},  # B frames: AVI has no display times
    "h264.flv": {},
    "h264.ts": {},
    "raw.264": {"container": "h264"},
    "hevc10.mkv": {"codec": "libx265", "pixels": "yuv420p10le", "x265-params": "log-level=none"},
    "full444.mp4": {"pixels": "yuv444p", "size": (47, 79)},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9", "cpu-used": "8"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.avi": {"codec": "mpeg4", "bf": "2"},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg2.mpg": {"codec": "mpeg2video", "bf": "2"},
    "wmv2.wmv": {"codec": "wmv2"},
    "flv1.flv": {"codec": "flv"},
    "rgb.gif": {"codec": "gif", "pixels": "rgb8"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path: Path, name: str) -> None:
    """The right frames, at the right times, from every format; all of them in order when streamed."""
    path = write_numbered(tmp_path / name, **FORMATS[name])  # type: ignore[arg-type]
    clip = read_clip(path, PLAN)
    expected = segment_centres(40, 16)
    assert clip.total == 40 and not clip.truncated
    assert read_numbers(clip.frames) == expected.tolist()
    np.testing.assert_allclose(clip.times, expected / 25, atol=0.011)  # GIF counts in 1/100 s
    assert clip.fps == pytest.approx(25, rel=0.01)
    assert clip.frames.dtype == np.uint8 and clip.frames.shape[1:] == (*FORMATS[name].get("size", (48, 80)), 3)
    assert read_numbers([frame for _, frame in iter_frames(path)]) == list(range(40))


@pytest.mark.parametrize("kept", [packets._KEPT_BYTES, 0], ids=["packets kept", "seeking"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("long_gop.mp4", {}),
        ("short_gop.mp4", {"g": "12"}),
        ("open_gop.mp4", {"x264-params": "keyint=25:open-gop=1:bframes=3"}),
        ("intra_refresh.mp4", {"x264-params": "keyint=25:intra-refresh=1:bframes=0"}),
        ("no_b_frames.mkv", {"g": "20", "bf": "0"}),
        ("hevc.mp4", {"codec": "libx265", "x265-params": "keyint=25:open-gop=1:log-level=none"}),
        ("short_gop.ts", {"g": "20"}),
        ("mpeg2.mpg", {"codec": "mpeg2video", "bf": "2", "g": "12"}),
        ("mpeg1.mpg", {"codec": "mpeg1video", "bf": "0", "g": "6"}),
        ("mpeg4.mp4", {"codec": "mpeg4", "bf": "2", "g": "7"}),
        ("intra.mkv", {"codec": "mjpeg", "pixels": "yuvj420p"}),
        ("short_gop.flv", {"codec": "flv", "g": "5"}),
        ("vp9.webm", {"codec": "libvpx-vp9", "cpu-used": "8", "g": "30"}),
    ],
)
def test_seeking_gives_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, str], kept: int
) -> None:
    """Bit for bit what decoding the whole file gives, whether packets are kept in memory or the container seeks."""
    monkeypatch.setattr(packets, "_KEPT_BYTES", kept)
    path = write_numbered(tmp_path / name, count=150, **arguments)
    everything = decode_all(path)
    assert len(everything) == 150
    for frames in (4, 16):
        clip = read_clip(path, SamplingPlan(frames))
        np.testing.assert_array_equal(clip.frames, [everything[index] for index in segment_centres(150, frames)])
    part = read_clip(path, SamplingPlan(3), start=4.0, end=5.2)
    np.testing.assert_array_equal(part.frames, [everything[index] for index in (105, 115, 125)])
    with np.testing.assert_raises(AssertionError):
        np.testing.assert_array_equal(part.frames, [everything[index] for index in (104, 114, 124)])


@pytest.mark.parametrize(
    ("name", "arguments", "kept", "frames", "most"),
    [
        ("long.mp4", {"g": "20"}, 0, 3, 3 * 21),  # seeking: at most three stretches from key frame to key frame
        ("intra.mkv", {"codec": "mjpeg", "pixels": "yuvj420p"}, packets._KEPT_BYTES, 80, 80),
        ("short.mkv", {"codec": "mpeg1video", "g": "10", "bf": "0"}, packets._KEPT_BYTES, 40, 40 * 8),
    ],
)
def test_sparse_reading_decodes_little(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arguments: dict[str, str],
    kept: int,
    frames: int,
    most: int,
) -> None:
    """What lies between the last wanted frame and the next key frame is left out, of 400 frames in all."""
    path = write_numbered(tmp_path / name, count=400, **arguments)
    monkeypatch.setattr(packets, "_KEPT_BYTES", kept)
    decoded = []
    original = container.VideoFile._decode

    def counting(self: container.VideoFile, *args: object) -> object:
        for frame in original(self, *args):  # type: ignore[arg-type]
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(container.VideoFile, "_decode", counting)
    clip = read_clip(path, SamplingPlan(frames))
    assert read_numbers(clip.frames) == segment_centres(400, frames).tolist()
    assert len(decoded) <= most


@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
def test_variable_rate_is_read_by_time(tmp_path: Path, name: str) -> None:
    """Half of the frames lie in the first fifth of the time: samples follow the clock."""
    ticks = [20 * index for index in range(20)] + [400 + 80 * index for index in range(20)]
    path = write_numbered(tmp_path / name, ticks=ticks)
    clip = read_clip(path, SamplingPlan(8))
    assert clip.total == 40
    end = open_source(path).timeline.end
    assert 1.92 < end <= 2.0  # what the encoder took for the last frame's duration
    centres = (np.arange(8) + 0.5) * end / 8
    expected = np.searchsorted(np.array(ticks) / 1000, centres, side="right") - 1
    assert read_numbers(clip.frames) == expected.tolist()
    assert (expected < 20).sum() == 2
    np.testing.assert_allclose(clip.times, np.array(ticks)[expected] / 1000, atol=1e-3)


def test_rotation_is_applied(tmp_path: Path) -> None:
    """A frame turned by the metadata comes out as a player shows it, at any size."""
    path = write_numbered(tmp_path / "phone.mp4", count=10)
    plain = read_clip(path, SamplingPlan(2)).frames
    turn_mp4(path)
    clip = read_clip(path, SamplingPlan(2))
    np.testing.assert_array_equal(clip.frames, np.rot90(plain, -1, (1, 2)))  # clockwise
    assert clip.info["rotation"] == 270
    small = read_clip(path, SamplingPlan(2), size=(40, 24)).frames
    assert small.shape == (2, 40, 24, 3)
    assert np.abs(small[0].mean((0, 1)) - clip.frames[0].mean((0, 1))).max() < 3


def test_colours_are_right(tmp_path: Path) -> None:
    """Limited and full range, BT.601 and BT.709 matrices: red stays red and white white."""
    from av.video.reformatter import ColorRange, Colorspace

    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :16], picture[:, 16:32], picture[:, 32:48] = 255, (255, 0, 0), (0, 255, 0)
    for space in (Colorspace.ITU601, Colorspace.ITU709):
        for spread in (ColorRange.MPEG, ColorRange.JPEG):
            path = tmp_path / f"{space}_{spread}.mp4"
            with av.open(str(path), "w") as output:
                stream = output.add_stream("libx264", rate=25, options={"qp": "1"})
                stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv444p"
                stream.codec_context.color_range = spread
                stream.codec_context.colorspace = 1 if space == Colorspace.ITU709 else 6
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                output.mux(
                    stream.encode(frame.reformat(format="yuv444p", dst_colorspace=space, dst_color_range=spread))
                )
                output.mux(stream.encode())
            middle = read_clip(path, SamplingPlan(1)).frames[0, 24, [8, 24, 40, 56]]
            np.testing.assert_allclose(middle, picture[24, [8, 24, 40, 56]], atol=3)


def test_resizing_while_reading(tmp_path: Path) -> None:
    """Exact size, or a longest side that never enlarges; numbers stay readable."""
    path = write_numbered(tmp_path / "a.mp4", size=(96, 160))
    assert read_clip(path, PLAN, size=(50, 50)).frames.shape == (16, 50, 50, 3)
    clip = read_clip(path, PLAN, size=100)
    assert clip.frames.shape == (16, 60, 100, 3)
    assert read_numbers(clip.frames) == segment_centres(40, 16).tolist()
    assert read_clip(path, PLAN, size=4000).frames.shape == (16, 96, 160, 3)


def test_one_frame_and_padding(tmp_path: Path) -> None:
    """A clip of one frame fills T frames; `all` leaves it alone."""
    path = write_numbered(tmp_path / "one.mp4", count=1)
    clip = read_clip(path, PLAN)
    assert clip.frames.shape[0] == 16 and (clip.frames == clip.frames[0]).all() and (clip.times == 0).all()
    assert read_clip(path, SamplingPlan(None)).frames.shape[0] == 1


def test_frame_folder(tmp_path: Path) -> None:
    """Natural order, other files ignored, sizes unified, one picture as a clip."""
    folder = write_frames(tmp_path / "clip", 12, "frame{}.png")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / ".hidden.png").write_bytes(b"x")
    Image.fromarray(numbered_frame(12, 96, 160)).save(folder / "frame12.png")
    clip = read_clip(folder, SamplingPlan(None))
    assert clip.total == 13 and clip.frames.shape == (13, 48, 80, 3)
    assert read_numbers(clip.frames) == list(range(13))
    assert read_number(read_clip(folder / "frame7.png", SamplingPlan(1)).frames[0]) == 7
    assert [read_number(frame) for _, frame in iter_frames(folder)] == list(range(13))
    assert read_clip(folder, PLAN, size=(20, 30)).frames.shape == (16, 20, 30, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "CMYK"])
def test_pictures_of_any_mode(tmp_path: Path, mode: str) -> None:
    """Grey, palette, alpha, 16 bit and CMYK pictures become RGB of the same brightness."""
    grey = Image.fromarray(numbered_frame(5)).convert("L")
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256)
    else:
        picture = (grey.convert("RGB") if mode == "CMYK" else grey).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture.save(path)
    frame = images.read_image(path)
    assert frame.shape == (48, 80, 3) and read_number(frame) == 5


def _truncatable(tmp_path: Path, name: str) -> Path:
    options = {"movflags": "faststart"} if name.endswith(".mp4") else {}
    plain = write_numbered(tmp_path / f"plain_{name}", count=100, **FORMATS.get(name, {}))  # type: ignore[arg-type]
    path = tmp_path / name
    with av.open(str(plain)) as source, av.open(str(path), "w", options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return path


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.flv", "vp9.webm"])
def test_truncated_files_yield_what_they_have(tmp_path: Path, name: str) -> None:
    """Cut at 60 %: marked, the frames there are in order, and never a frame that is not there."""
    path = _truncatable(tmp_path, name)
    assert not read_clip(path, PLAN).truncated
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    clip = read_clip(path, PLAN)
    assert clip.truncated and 20 < clip.total < 100
    numbers = read_numbers([frame for _, frame in iter_frames(path)])
    assert numbers == list(range(clip.total))
    assert clip.frames.shape[0] == 16 and read_numbers(clip.frames) == segment_centres(clip.total, 16).tolist()


BROKEN = {
    "missing.mp4": None,
    "empty.mp4": b"",
    "text.mp4": b"this is no video\n" * 50,
    "half.mp4": b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41",
    "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
    "script.mp4": b"ffconcat version 1.0\nfile other.mp4\n",
    "text.png": b"no picture",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_fail_in_one_line(tmp_path: Path, name: str) -> None:
    """Every broken input names the file and the reason; playlists do not open other files."""
    write_numbered(tmp_path / "other.mp4", count=30)
    content = BROKEN[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ClipFailure, match=name) as caught:
        read_clip(tmp_path / name, PLAN)
    assert "\n" not in str(caught.value)


def test_other_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without frames, sound only, a part outside the video, frames beyond the bounds."""
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ClipFailure, match="no frames"):
        read_clip(tmp_path / "nothing", PLAN)
    with av.open(str(tmp_path / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 16000
        output.mux(stream.encode(sound))
        output.mux(stream.encode())
    with pytest.raises(ClipFailure, match="no video stream"):
        read_clip(tmp_path / "sound.mp4", PLAN)
    path = write_numbered(tmp_path / "a.mp4")
    with pytest.raises(ClipFailure, match="1.60 s long"):
        read_clip(path, PLAN, start=9.0)
    monkeypatch.setattr(video, "_MAX_BYTES", 100_000)
    with pytest.raises(ClipFailure, match="take fewer"):
        read_clip(path, PLAN)
    monkeypatch.setattr(images, "MAX_SIDE", 64)
    with pytest.raises(ClipFailure, match="80 x 48"):
        read_clip(path, PLAN)


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (9_000, 100), (100, 9_000)])
def test_huge_pictures_are_refused_unread(tmp_path: Path, width: int, height: int) -> None:
    """A PNG whose header claims a huge size is refused before any pixel is decoded."""
    path = tmp_path / "bomb.png"
    Image.fromarray(numbered_frame(0)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(ClipFailure, match=f"{width} x {height}|{width * height} pixels"):
        read_clip(path, PLAN)


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A few small files to damage."""
    folder = tmp_path_factory.mktemp("small")
    paths = [write_numbered(folder / name, count=20, g="8") for name in ("a.mp4", "a.mkv", "a.ts")]
    return [path.read_bytes() for path in paths]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_never_crash(small_files: list[bytes], tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes changed or cut: either 16 frames at rising times or a one-line failure."""
    content = bytearray(data.draw(st.sampled_from(small_files)))
    changes = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)
    for place, value in data.draw(changes):
        content[place] = value
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        clip = read_clip(path, PLAN)
    except ClipFailure as failure:
        assert "\n" not in str(failure)
    else:
        assert clip.frames.shape[0] == len(clip.times) == 16
        assert (np.diff(clip.times) >= 0).all()


def test_written_video_reads_back(tmp_path: Path) -> None:
    """Frames, rate and odd sizes survive; the bytes are the same each time."""
    path = tmp_path / "new" / "out.mp4"
    frames = [numbered_frame(index, 47, 79) for index in range(30)]
    assert write_video(path, iter(frames), 29.97) == 30
    clip = read_clip(path, SamplingPlan(None))
    assert clip.total == 30 and clip.fps == pytest.approx(29.97, abs=0.01)
    assert clip.frames.shape == (30, 48, 80, 3)
    assert np.abs(clip.frames[:, :47, :79].astype(int) - np.stack(frames)).mean() < 4
    first = path.read_bytes()
    write_video(path, iter(frames), 29.97)
    assert path.read_bytes() == first


def test_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    """An error in the frames, or none at all, leaves the old file and no temporary one."""
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")

    def failing() -> object:
        yield numbered_frame(0)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_video(path, failing(), 25)  # type: ignore[arg-type]
    with pytest.raises(FclipError, match="no frames"):
        write_video(path, [], 25)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"] and path.read_bytes() == b"old"


@pytest.mark.parametrize(("aspect", "shape"), [("2", (60, 160)), ("8/9", (68, 80)), ("1", (60, 80)), ("0", (60, 80))])
@pytest.mark.parametrize("rotated", [False, True])
def test_pixels_that_are_not_square_are_drawn_out(
    tmp_path: Path, aspect: str, shape: tuple[int, int], rotated: bool
) -> None:
    """A circle stays one, whether the file is DVD, HDV or a turned phone's."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 60, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((60, 80, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    if rotated:
        turn_mp4(path)
        shape = shape[::-1]
    clip = read_clip(path, SamplingPlan(2))
    assert clip.frames.shape[1:3] == shape
    assert read_clip(path, SamplingPlan(2), size=(32, 32)).frames.shape[1:3] == (32, 32)


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_animated_pictures_are_clips(tmp_path: Path, suffix: str) -> None:
    pictures = [Image.new("RGB", (40, 30), (20 * i, 0, 0)) for i in range(10)]
    path = tmp_path / f"a.{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[40] * 5 + [80] * 5, lossless=True)
    clip = read_clip(path, SamplingPlan(10))
    assert clip.frames[:, 0, 0, 0].tolist() == [20 * i for i in range(10)]
    np.testing.assert_allclose(np.diff(clip.times), [0.04] * 5 + [0.08] * 4)
    assert clip.end == pytest.approx(0.6)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        assert len(read_clip(path, SamplingPlan(4)).frames) == 4, "what is whole is shown"
    except ClipFailure as failure:
        assert "\n" not in str(failure)


def test_very_large_frames_are_scaled_down() -> None:
    """Up to 4K as they are; beyond it no more pixels than that, the shape kept."""
    assert images.fit_size(2160, 3840, None) == (2160, 3840)
    height, width = images.fit_size(4096, 8192, None)
    assert height * width <= 1.001 * images.MAX_PIXELS and abs(width / height - 2) < 0.001
