"""Predicting on videos: windows, formats, rendering, videos without a face."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from fclip.data.video import iter_frames, write_video
from fclip.errors import FclipError, UsageError
from fclip.stages import predict, train


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
    assert np.allclose(np.sum(windows, axis=1), 1, atol=1e-4)
    assert np.allclose(np.mean(windows, axis=0), list(result["probabilities"].values()), atol=1e-5)
    assert result["label"] == max(result["probabilities"], key=result["probabilities"].get)
    assert result["windows"][0]["modalities"] == ["frames", "parsing", "landmarks"], "caption-free by default"
    assert result["windows"][-1]["end"] == pytest.approx(sum(1 for _ in iter_frames(clip)) / 25, abs=0.05)


def test_captions_are_used_when_asked_for(trained, clip):
    result = run(trained, clip, captions="template").values["predictions"][0]
    assert "caption" in result["windows"][0]["modalities"]


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
    assert [line for line in report.lines if line.startswith("video,start,end,label,happiness")]


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


def test_wrong_use_is_refused(trained, clip, tmp_path):
    with pytest.raises(UsageError, match="--render takes one video"):
        run(trained, clip, clip, render=tmp_path / "o.mp4")
    with pytest.raises(UsageError, match=r"\.json, \.jsonl or \.csv"):
        run(trained, clip, out=tmp_path / "o.txt")
    with pytest.raises(FclipError, match="no such file"):
        run(trained, tmp_path / "none.mp4")


def test_classes_of_ones_own(trained, clip):
    result = run(trained, clip, classes=("bored", "confused", "delighted")).values["predictions"][0]
    assert list(result["probabilities"]) == ["bored", "confused", "delighted"]
    plain = predict.run(predict.Config(videos=(str(clip),), classes=("bored", "confused"), clip="tiny"))
    assert len(plain.values["predictions"][0]["probabilities"]) == 2
