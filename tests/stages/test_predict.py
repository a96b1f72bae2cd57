"""Predicting on videos: windows, formats, rendering, videos without a face."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import fclip
from fclip.data.media.video import iter_frames, write_video
from fclip.engine.predict import basis, opening
from fclip.errors import FclipError, UsageError
from fclip.files import sha256_file
from fclip.models.checkpoint import find_checkpoint, load_checkpoint
from fclip.seeing.sources import find_sources, output_names
from fclip.stages import predict, train
from fclip.tensors import write_tensors


@pytest.fixture(scope="module")
def trained(workspace, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train.run(
        train.Config(
            root=workspace,
            dataset="demo7",
            out=out,
            variant="star-dagger",
            clip="tiny",
            clip_weights="random",
            epochs=1,
            batch_size=8,
        )
    )
    return out


@pytest.fixture(scope="module")
def clip(workspace):
    return sorted((workspace / "demo7" / "source" / "clips").glob("*.mp4"))[0]


def run(trained, *videos, **options):
    return predict.run(predict.Config(videos=tuple(map(str, videos)), checkpoint=trained, **options))


def test_probabilities_over_windows_and_their_mean(trained, clip):
    report = run(trained, clip, window=0.5, stride=0.25)
    result = report.values["predictions"][0]
    windows = [list(w["probabilities"].values()) for w in result["windows"]]
    assert len(windows) > 2
    assert np.allclose(np.sum(windows, axis=1), 1, atol=1e-3)
    assert np.allclose(np.mean(windows, axis=0), list(result["probabilities"].values()), atol=2e-4)
    assert result["label"] == max(result["probabilities"], key=result["probabilities"].get)
    assert result["windows"][0]["modalities"] == ["frames", "parsing", "landmarks", "caption"], "as in training"
    assert result["windows"][-1]["end"] == pytest.approx(sum(1 for _ in iter_frames(clip)) / 25, abs=0.05)


def test_captions_can_be_left_out(trained, clip):
    result = run(trained, clip, captions="none").values["predictions"][0]
    assert result["windows"][0]["modalities"] == ["frames", "parsing", "landmarks"]


def test_folder_csv_and_a_video_without_a_face(trained, clip, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    write_video(folder / "grey.mp4", [np.full((96, 96, 3), 128, np.uint8)] * 10, 25)
    report = run(trained, folder, format="csv", out=tmp_path / "p.csv")
    assert report.exit_code == 1
    assert report.counts == {"videos": 1, "failed": 1}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text())))
    assert {row["video"].rpartition("/")[2] for row in rows} == {"a.mp4", "grey.mp4"}
    assert "no face" in next(row["error"] for row in rows if "grey" in row["video"])
    assert {(row["checkpoint"], row["fclip"]) for row in rows} == {(str(trained), fclip.__version__)}
    assert next(row["caption"] for row in rows if row["video"].endswith("a.mp4")), "what the model read"
    assert [line for line in report.lines if line.startswith("video,face,start,end,label,happiness")]


def test_json_lines(trained, clip, tmp_path):
    run(trained, clip, out=tmp_path / "p.jsonl")
    assert json.loads((tmp_path / "p.jsonl").read_text())["video"] == str(clip)


def test_render_draws_every_frame(trained, clip, tmp_path):
    run(trained, clip, render=tmp_path / "out.mp4")
    before, after = list(iter_frames(clip)), list(iter_frames(tmp_path / "out.mp4"))
    assert len(before) == len(after)
    height, width = before[0][1].shape[:2]
    assert after[0][1].shape[1] > width
    changed = np.abs(after[0][1][:height, :width].astype(int) - before[0][1]) > 60
    assert 50 < changed.any(-1).sum() < height * width / 4, "box and landmarks are drawn, and little else"


def test_speed_and_where_the_time_goes_are_told(trained, clip, tmp_path, caplog):
    with caplog.at_level("INFO"):
        run(trained, clip, render=tmp_path / "out.mp4")
    (line,) = [record.getMessage() for record in caplog.records if "times as fast" in record.getMessage()]
    for part in ("reading and faces", "model", "landmarks to draw", "drawing", "encoding"):
        assert f" {part} " in line


def test_wrong_use_is_refused(trained, clip, tmp_path):
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    with pytest.raises(UsageError, match="name a folder, 2 videos were given"):
        run(trained, clip, other, render=tmp_path / "o.mp4")
    with pytest.raises(UsageError, match="needs a face detector"):
        run(trained, clip, all_faces=True, crop="none")
    with pytest.raises(UsageError, match=r"\.json, \.jsonl or \.csv"):
        run(trained, clip, out=tmp_path / "o.txt")
    with pytest.raises(FclipError, match="no such file"):
        run(trained, tmp_path / "none.mp4")


def test_classes_of_ones_own(trained, clip):
    result = run(trained, clip, classes=("bored", "confused", "delighted")).values["predictions"][0]
    assert list(result["probabilities"]) == ["bored", "confused", "delighted"]
    plain = predict.run(predict.Config(videos=(str(clip),), classes=("bored", "confused"), clip="tiny"))
    assert len(plain.values["predictions"][0]["probabilities"]) == 2


@pytest.fixture(scope="module")
def pair(workspace, tmp_path_factory):
    """A video with two people side by side, the clips of whom are 35 frames long or more."""
    first, second = sorted((workspace / "demo7" / "source").rglob("*.mp4"))[:2]
    path = tmp_path_factory.mktemp("pair") / "pair.mp4"
    frames = zip(iter_frames(first), iter_frames(second), strict=False)
    write_video(path, (np.concatenate([a, b], axis=1) for (_, a), (_, b) in frames), 25)
    return path


def test_all_faces_keep_their_number_and_place(trained, pair, tmp_path):
    found = run(
        trained, pair, all_faces=True, window=0.6, stride=0.3, out=tmp_path / "p.csv", render=tmp_path / "o.mp4"
    )
    result = found.values["predictions"][0]
    assert [face["face"] for face in result["faces"]] == [1, 2]
    middle = next(iter_frames(pair))[1].shape[1] / 2
    boxes = {n: np.array([w["box"] for w in result["windows"] if w["face"] == n]) for n in (1, 2)}
    assert len(boxes[1]) == len(boxes[2]) >= 3
    left = [bool(((b[:, 0] + b[:, 2]) / 2 < middle).all()) for b in boxes.values()]
    right = [bool(((b[:, 0] + b[:, 2]) / 2 > middle).all()) for b in boxes.values()]
    assert sorted(left) == sorted(right) == [False, True], "each number stays on its side"
    for face in result["faces"]:
        mine = [list(w["probabilities"].values()) for w in result["windows"] if w["face"] == face["face"]]
        assert np.allclose(np.mean(mine, axis=0), list(face["probabilities"].values()), atol=2e-4)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text())))
    assert {row["face"] for row in rows} == {"1", "2"}
    assert sum(1 for _ in iter_frames(tmp_path / "o.mp4")) == sum(1 for _ in iter_frames(pair))


def test_a_window_predicts_what_a_video_of_it_alone_does(trained, clip):
    windows = run(trained, clip, window=0.8, stride=0.8).values["predictions"][0]["windows"]
    alone = run(trained, clip, window=100).values["predictions"][0]
    assert len(alone["windows"]) == 1
    assert len(windows) > 1
    assert alone["probabilities"] == alone["windows"][0]["probabilities"]


def test_smoothing_looks_back_and_keeps_a_distribution(trained, clip):
    raw = run(trained, clip, window=0.5, stride=0.25).values["predictions"][0]["windows"]
    smooth = run(trained, clip, window=0.5, stride=0.25, smooth=0.5).values["predictions"][0]["windows"]
    values = [np.array([list(w["probabilities"].values()) for w in windows]) for windows in (raw, smooth)]
    expected, times = values[0][:1], [w["start"] for w in raw]
    for i in range(1, len(raw)):
        share = 1 - np.exp(-(times[i] - times[i - 1]) / 0.5)
        expected = np.vstack([expected, expected[-1] + share * (values[0][i] - expected[-1])])
    assert np.allclose(values[1], expected, atol=3e-4)
    assert np.ptp(values[1], axis=0).sum() < np.ptp(values[0], axis=0).sum()


def test_folders_and_patterns(tmp_path, clip):
    for name in ("a/x.mp4", "a/deep/y.MP4", "b/z.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "notes.txt").write_text("-")
    for hidden in ("a/._x.mp4", "a/.cache/z.mp4", "a/__MACOSX/x.mp4", "a/poster.jpg", "a/.1.jpg"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"")
    for frame in ("frames/1.jpg", "many/1/1.jpg", "many/2/1.jpg", "many/v.mp4"):
        (tmp_path / frame).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / frame).write_bytes(b"")
    (tmp_path / "many" / "loop").symlink_to(tmp_path / "many")

    def names(*asked):
        return [str(p.relative_to(tmp_path)) for p in find_sources([str(tmp_path / a) for a in asked])]

    assert names("a") == ["a/deep/y.MP4", "a/x.mp4"]
    assert names("*/[xz].mp4") == ["a/x.mp4", "b/z.mp4"]
    assert names("[ab]/*.mp4") == ["a/x.mp4", "b/z.mp4"]
    assert names("frames", "b/z.mp4") == ["frames", "b/z.mp4"]
    assert names("many") == ["many/1", "many/2", "many/v.mp4"], "folders of frames, beside videos too"
    with pytest.raises(FclipError, match="no such file"):
        names("*.avi")


def test_memory_does_not_grow_with_the_length(trained, clip, tmp_path):
    """Frames, the only large thing, are held for the open windows and one chunk of drawing."""
    import tracemalloc

    frames = [frame for _, frame in iter_frames(clip)][:20]
    peaks = []
    for times in (3, 9):
        video = tmp_path / f"{times}.mp4"
        write_video(video, (frame for _ in range(times) for frame in frames), 25)
        tracemalloc.start()
        run(trained, video, crop="none", window=1.0, stride=1.0, render=tmp_path / "o.mp4")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert 9 * 20 * frames[0].nbytes > 1.3 * peaks[0], "the long video itself would not fit"
    assert peaks[1] < 1.2 * peaks[0]


def test_several_videos_are_drawn_into_a_folder(trained, clip, tmp_path):
    """Equal names, as for a video and its copy in another format, give different files."""
    few = [frame for _, frame in iter_frames(clip)][:3]
    for name in ("in/a.mp4", "in/b.mp4", "in/x/a.mp4"):
        write_video(tmp_path / name, few, 25)
    run(trained, tmp_path / "in", render=tmp_path / "drawn", crop="none")
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["a_mp4.mp4", "b.mp4", "x_a_mp4.mp4"]


def test_names_of_outputs_are_all_different():
    names = ["a/clip.mp4", "b/clip.mp4", "clip.avi", "Clip.avi", "other.mov"]
    made = output_names([Path(name) for name in names], ".mp4")
    assert len({name.lower() for name in made}) == 5
    assert made[-1] == "other.mp4"


@pytest.mark.parametrize("how", ["same", "folder", "link", "hard link", "link to the folder", "out"])
def test_an_input_is_never_written_over(trained, clip, tmp_path, how):
    source = tmp_path / "videos" / "x.mp4"
    source.parent.mkdir()
    source.write_bytes(clip.read_bytes())
    other = tmp_path / "other.mp4"
    if how == "link":
        other.symlink_to(source)
    elif how == "hard link":
        other.hardlink_to(source)
    (tmp_path / "linked").symlink_to(source.parent)
    places = {"same": source, "folder": source.parent, "link to the folder": tmp_path / "linked"}
    options = {"out": tmp_path / "x.json"} if how == "out" else {"render": places.get(how, other)}
    if how == "out":
        (tmp_path / "x.json").symlink_to(source)
    with pytest.raises(UsageError, match="is an input of this command"):
        run(trained, source, **options)
    assert source.read_bytes() == clip.read_bytes()


def test_plain_clip_answers_with_positive_and_negative_texts(clip):
    """Without a checkpoint: softmax of (cos(positive) - cos(negative)) / tau, of untrained towers."""
    model = opening.open_model(None, ("bored", "confused"), "tiny").model
    assert model.variant == "base"
    texts = [text for group in model.prompts.values() for text in group]
    assert any("of bored" in text for text in texts)
    assert any("of no bored" in text for text in texts)


def test_weights_that_are_not_finite_are_refused_by_name(trained, clip, tmp_path):
    state, meta = load_checkpoint(find_checkpoint(trained))
    name = sorted(state)[0]
    state[name].view(-1)[0] = float("nan")
    write_tensors(tmp_path / "broken.safetensors", state, meta)
    with pytest.raises(FclipError, match=f"broken.safetensors: tensor {name} holds NaN"):
        run(tmp_path / "broken.safetensors", clip)


def test_a_line_says_what_an_answer_rests_on(trained, clip, tmp_path):
    report = run(trained, clip)
    assert report.values["basis"] == (
        "star-dagger on tiny, trained on demo7: RENDERED faces only, so real faces are outside of what it knows; "
        "held-out UAR not measured (fclip eval); expression shown, not emotion felt"
    )
    assert report.lines[-1] == f"note: {report.values['basis']}"
    assert all(line.startswith("{") for line in run(trained, clip, format="json").lines), "JSON lines and nothing else"
    plain = predict.run(predict.Config(videos=(str(clip),), classes=("bored", "confused"), clip="tiny"))
    assert plain.values["basis"].startswith("plain CLIP tiny, zero-shot, trained on no labelled face")


def test_a_measured_run_says_its_figure(trained, clip, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "eval").mkdir(exist_ok=True)
    values = {"uar": 0.613, "fold": "1", "checkpoint_sha256": sha256_file(find_checkpoint(folder))}
    (folder / "eval" / "results.json").write_text(json.dumps(values))
    assert "held-out UAR 61.3 % (fold 1)" in run(folder, clip).values["basis"]
    values["checkpoint_sha256"] = "another"
    (folder / "eval" / "results.json").write_text(json.dumps(values))
    assert "not measured" in run(folder, clip).values["basis"]


def test_it_is_told_that_lite_stands_in_for_mediapipe_without_its_model(clip, tmp_path, monkeypatch):
    pytest.importorskip("mediapipe")
    for name in ("FCLIP_MODELS", "FCLIP_WEIGHTS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    told = predict.run(predict.Config(videos=(str(clip),))).values["remarks"]
    assert [line for line in told if "fclip fetch mediapipe" in line]
    assert not predict.run(predict.Config(videos=(str(clip),), crop="lite")).values["remarks"], "it was asked for"


@pytest.mark.parametrize("there", [["lite"], ["lite", "mediapipe"], []])
def test_without_a_checkpoint_the_bundled_run_answers(trained, clip, tmp_path, monkeypatch, there):
    """The one that was made with the detector in use; its card stands in the line."""
    state, meta = load_checkpoint(find_checkpoint(trained))
    for name in there:
        card = {"data": f"pictures seen by {name}", "uar": 64.2, "uar_interval": [60, 68], "test": "50 other people"}
        write_tensors(tmp_path / "expressions" / f"{name}.safetensors", state, meta | {"card": card})
    monkeypatch.setattr(basis, "resource_path", lambda name: tmp_path / name)
    config = predict.Config(videos=(str(clip),), crop="lite")
    if not there:
        with pytest.raises(FclipError, match="holds no run of its own; name one with --checkpoint"):
            predict.run(config)
        return
    report = predict.run(config)
    assert report.values["basis"] == (
        "star-dagger on tiny, trained on pictures seen by lite; held-out UAR 64 % [60, 68] on 50 other people; "
        "expression shown, not emotion felt"
    )
    assert len(report.values["predictions"][0]["probabilities"]) == 7
