"""The annotated video: faces, labels and colours in its frames; the source's sound and times; where the time goes."""

from __future__ import annotations

import io
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tqdm import tqdm

from fclip.data.media.video import iter_frames, write_video
from fclip.report.video.annotate import face_box
from fclip.report.video.overlay import FaceMarks, FaceSeries, Overlay, class_colours
from fclip.runner.progress import tell_inside
from fclip.runner.spent import Spent

SEVEN = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


def overlay(classes=SEVEN, faces: int = 1, size=(240, 320)) -> Overlay:
    shares = np.full((2, len(classes)), 0.1 / (len(classes) - 1))
    shares[:, 3] = 0.9
    series = FaceSeries(np.array([0.0, 1.0]), np.array([1.0, 2.0]), shares)
    return Overlay(classes, dict.fromkeys(range(1, faces + 1), series), 2.0, size)


def close_to(picture: np.ndarray, colour) -> np.ndarray:
    return (np.abs(picture.astype(int) - np.array(colour)) < 12).all(axis=-1)


def test_colours_do_not_contradict_meaning_and_differ():
    hue = dict(zip(SEVEN, map(np.array, class_colours(SEVEN)), strict=True))
    assert hue["anger"][0] > 2 * hue["anger"][1:].max(), "red"
    assert hue["disgust"].argmax() == 1 and hue["sadness"].argmax() == 2, "green and blue"
    assert np.ptp(hue["neutral"]) < 20, "grey"
    assert class_colours(("Anger", "bored"))[0] == tuple(hue["anger"])
    for classes in (SEVEN, ("bored", "confused", "delighted", "anger"), tuple("abcdefgh")):
        assert len(set(class_colours(classes))) == len(classes)


def test_a_face_has_its_box_and_label_and_the_timeline_a_legend():
    drawing = overlay()
    frame = np.full((240, 320, 3), 255, np.uint8)
    mark = FaceMarks(np.array([100.0, 80.0, 200.0, 200.0]), np.full((68, 2), 150.0))
    with_face, without = drawing.draw(frame, 1.0, {1: mark}), drawing.draw(frame, 1.0, {})
    assert with_face.shape == without.shape and (without[:240, :320] == 255).all()
    red = close_to(with_face[:240, :320], class_colours(SEVEN)[3])
    assert red[140, 100] and red[200, 150] and not red[140, 150], "the box's sides, not its inside"
    plate = red[55:80, 100:220]
    assert plate.mean() > 0.3, "a plate above the box"
    assert (with_face[55:80, 100:220].min(axis=-1) < 60).any() or (with_face[55:80, 102:180].min(axis=-1) > 220).any()
    legend = without[drawing.bottom :]
    for colour in class_colours(SEVEN):
        assert close_to(legend, colour).sum() > 40
    unknown = drawing.draw(frame, 5.0, {1: mark})
    assert not close_to(unknown[:240, :320], class_colours(SEVEN)[3]).any(), "no window: no class's colour"


@pytest.mark.parametrize("box", [(-20, -30, 60, 50), (300, 200, 400, 280), (0, 0, 320, 240)])
def test_a_label_stays_in_the_picture(box):
    drawing = overlay(faces=2, size=(240, 320))
    frame = np.zeros((240, 320, 3), np.uint8)
    picture = drawing.draw(frame, 1.0, {2: FaceMarks(np.array(box, float))})
    assert close_to(picture[:240, :320], class_colours(SEVEN)[3]).sum() > 300


def test_the_box_of_a_face_holds_its_landmarks_and_forehead():
    points = np.random.default_rng(0).uniform(20, 60, (68, 2))
    left, top, right, bottom = face_box(points)
    assert left < points[:, 0].min() and right > points[:, 0].max() and bottom > points[:, 1].max()
    assert top < points[:, 1].min() - 0.2 * np.ptp(points[:, 1])


def with_sound(path: Path, codec: str, rate: int, seconds: float = 1.0) -> Path:
    """A small video of 10 frames a second with a tone."""
    suffix = {".ts": "mpegts", ".mp4": "mp4", ".mov": "mov"}[path.suffix]
    with av.open(f"file:{path}", "w", format=suffix) as container:
        video, audio = container.add_stream("mpeg4", rate=10), container.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(int(10 * seconds)):
            picture = np.full((48, 64, 3), 20 * index % 255, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.int16)
        for start in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            for each in av.AudioResampler(audio.format, audio.layout, rate).resample(frame):
                container.mux(audio.encode(each))
        container.mux(video.encode())
        container.mux(audio.encode())
    return path


def tone_of(path: Path) -> tuple[str, float, float]:
    """(codec, seconds, loudest frequency) of a file's sound."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        rate, name = stream.codec_context.sample_rate, stream.codec_context.name
        mono = av.AudioResampler("fltp", "mono", rate)
        parts = [each.to_ndarray()[0] for frame in container.decode(stream) for each in mono.resample(frame)]
    samples = np.concatenate(parts)
    return name, len(samples) / rate, np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)


@pytest.mark.parametrize(
    ("codec", "name", "rate"),
    [("aac", "a.mp4", 44100), ("aac", "a.ts", 48000), ("pcm_s16le", "a.mov", 44100), ("pcm_s16le", "a.mov", 9000)],
)
def test_the_sound_is_kept(tmp_path, codec, name, rate):
    source = with_sound(tmp_path / name, codec, rate)
    frames = [frame for _, frame in iter_frames(source)]
    write_video(tmp_path / "out.mp4", frames, 10, sound=source)
    kept, seconds, loudest = tone_of(tmp_path / "out.mp4")
    assert kept == "aac" and seconds == pytest.approx(1, abs=0.08) and loudest == pytest.approx(440, abs=5)
    assert len(list(iter_frames(tmp_path / "out.mp4"))) == len(frames)
    write_video(tmp_path / "again.mp4", frames, 10, sound=source)
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()


def test_a_source_without_sound_or_a_damaged_one_gives_a_silent_video(tmp_path, caplog):
    frames = [np.full((48, 64, 3), 9, np.uint8)] * 3
    write_video(tmp_path / "plain.mp4", frames, 10)
    write_video(tmp_path / "a.mp4", frames, 10, sound=tmp_path / "plain.mp4")
    write_video(tmp_path / "b.mp4", frames, 10, sound=tmp_path)
    assert "sound cannot be read" not in caplog.text
    (tmp_path / "noise.mp4").write_bytes(b"no video at all")
    write_video(tmp_path / "c.mp4", frames, 10, sound=tmp_path / "noise.mp4")
    assert "sound cannot be read" in caplog.text
    for name in "abc":
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert [stream.type for stream in container.streams] == ["video"]


def test_frames_keep_their_own_times(tmp_path):
    times = [0.0, 0.1, 0.5, 0.5, 1.25]
    write_video(tmp_path / "v.mp4", [np.full((48, 64, 3), 40 * i, np.uint8) for i in range(5)], 4, times=times)
    found = [seconds for seconds, _ in iter_frames(tmp_path / "v.mp4")]
    assert found == pytest.approx(times, abs=1e-3)


def test_time_inside_another_part_is_counted_once():
    spent = Spent()
    with spent.on("outer"):
        time.sleep(0.02)
        for _ in spent.each(range(2), "items"):
            with spent.on("inner"):
                time.sleep(0.03)
    assert list(spent.seconds) == ["items", "inner", "outer"]
    assert spent.seconds["inner"] >= 0.06 and spent.seconds["items"] < 0.02 and spent.seconds["outer"] < 0.05
    assert spent.line().startswith("items 0.0 s, inner 0.")


def test_a_bar_moves_inside_one_video_and_says_which_pass():
    with tqdm(total=7, file=io.StringIO(), mininterval=0) as bar:
        seen = []
        for what, second in (("reading", 2.2), ("reading", 6.4), ("drawing", 0.0), ("drawing", 6.4)):
            tell_inside(bar, False, 6.4, what, second)
            seen.append((bar.n, bar.postfix))
        assert seen == [(3, "reading"), (7, "reading"), (0, "drawing"), (7, "drawing")]
    several = io.StringIO()
    with tqdm(total=2, file=several, mininterval=0) as bar:
        tell_inside(bar, True, 6.4, "drawing", 2.2)
        assert bar.n == 0 and "drawing 2 of 6 s" in several.getvalue()
