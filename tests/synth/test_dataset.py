"""The written data sets: layout, folds, repeatable bytes, real video, difficulty."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fclip.data.media.video import write_video
from fclip.errors import FclipError, UsageError
from fclip.synth import dataset
from fclip.synth.actions import CHANNELS, INDEX
from fclip.synth.clips import frame_indices, render_clip, sample_clip
from fclip.synth.dataset import CLASSES, PARTS, SIZE, plan_dataset, write_dataset
from fclip.synth.geometry import moved_landmarks, project, rotation


def hashes(folder: Path) -> dict[str, str]:
    """Name -> sha256 of all files below the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def demo11(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest demo11, written by two processes."""
    out = tmp_path_factory.mktemp("demo11")
    done: list[int] = []
    write_dataset("demo11", out, 55, seed=3, workers=2, progress=done.append)
    assert sum(done) == 55
    return out


def test_annotations_are_complete(demo11: Path) -> None:
    with (demo11 / "annotations.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "part", "caption", "identity"]
    assert len(rows) == 55 and len({row["path"] for row in rows}) == 55
    assert {row["path"] for row in rows} == {f"clips/{path.name}" for path in (demo11 / "clips").iterdir()}
    assert Counter(row["part"] for row in rows) == dict.fromkeys(PARTS, 11)
    for part in PARTS:
        assert {row["label"] for row in rows if row["part"] == part} == set(CLASSES["demo11"])
    assert all(row["caption"].strip() for row in rows)
    description = json.loads((demo11 / "dataset.json").read_text())
    assert description["classes"] == CLASSES["demo11"] and description["clips"] == 55 and description["seed"] == 3
    assert description["folds"]["2"] == {"train": ["part1", "part3", "part4", "part5"], "test": ["part2"]}


def test_same_arguments_same_bytes_whatever_the_workers(demo11: Path, tmp_path: Path) -> None:
    write_dataset("demo11", tmp_path, 55, seed=3, workers=1)
    assert hashes(tmp_path) == hashes(demo11)


def test_the_video_holds_the_rendered_frames(demo11: Path) -> None:
    plan = plan_dataset("demo11", 55, 3)
    for clip in (min(plan, key=lambda clip: clip.quality), max(plan, key=lambda clip: clip.quality)):
        rendered = render_clip(sample_clip(clip.label, clip.identity, clip.seed, CLASSES["demo11"]), SIZE)
        with av.open(str(demo11 / "clips" / f"{clip.key}.mp4")) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264" and stream.average_rate == 25
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        assert frames.shape == rendered.frames.shape
        grey = frames.mean(-1) - rendered.frames.mean(-1)  # chroma is stored at half the resolution
        psnr = 10 * np.log10(255**2 / np.mean(grey**2, axis=(1, 2)))
        assert psnr.min() > (35 if clip.quality < 22 else 28)


def test_stronger_compression_makes_smaller_files(tmp_path: Path) -> None:
    frames = render_clip(sample_clip("anger", 1, 1, CLASSES["demo7"]), 96, frames=6).frames

    def encode(quality: int) -> bytes:
        write_video(tmp_path / "clip.mp4", frames, 25, quality)
        return (tmp_path / "clip.mp4").read_bytes()

    assert len(encode(32)) < 0.7 * len(encode(17))
    assert encode(17) == encode(17)


def test_parts_share_no_person_and_hold_all_classes() -> None:
    for name, clips in (("demo7", 420), ("demo11", 333), ("demo7", 35)):
        plan = plan_dataset(name, clips, seed=0)
        assert len(plan) == clips and len({clip.key for clip in plan}) == clips
        people = {part: {clip.identity for clip in plan if clip.part == part} for part in PARTS}
        assert sum(map(len, people.values())) == len(set().union(*people.values()))
        sizes = Counter(clip.part for clip in plan)
        assert max(sizes.values()) - min(sizes.values()) <= 1
        for part in PARTS:
            labels = Counter(clip.label for clip in plan if clip.part == part)
            assert set(labels) == set(CLASSES[name])
        total = Counter(clip.label for clip in plan)
        assert 1 <= max(total.values()) / min(total.values()) < 2.2
    assert total is not None


def test_data_sets_share_no_person_and_none_with_the_training_of_the_weights() -> None:
    seven, eleven = (
        ({clip.identity for clip in plan_dataset(name, 600, seed)}) for name, seed in (("demo7", 0), ("demo11", 0))
    )
    assert not seven & eleven and max(seven | eleven) < 100_000
    assert plan_dataset("demo7", 70, 0) == plan_dataset("demo7", 70, 0) != plan_dataset("demo7", 70, 1)


def test_bad_arguments_are_told_in_one_line() -> None:
    with pytest.raises(UsageError, match="34 clips are too few for demo7: at least 35"):
        plan_dataset("demo7", 34, 0)
    with pytest.raises(UsageError, match="unknown rendered data set 'dfew'; choose one of demo7, demo11"):
        plan_dataset("dfew", 100, 0)


def test_official_class_lists() -> None:
    assert CLASSES["demo7"] == CLASSES["dfew"] == CLASSES["ferv39k"] == CLASSES["demo11"][:7]
    assert CLASSES["demo11"] == CLASSES["mafw"] and len(CLASSES["mafw"]) == 11


def _displacements(label: str, identity: int, seed: int) -> np.ndarray:
    """Range of the landmarks' movement over 8 frames and their mean place, upright and in eye distances."""
    script = sample_clip(label, identity, seed, CLASSES["demo7"])
    values = script.channels(script.times[frame_indices(script.frames, 8)])
    points, _, _ = moved_landmarks(script.person, values)
    plane = project(points, rotation(values), np.zeros((8, 2)), 1 + values[:, CHANNELS.index("zoom")])
    assert INDEX["zoom"] == CHANNELS.index("zoom")
    middle, across = (plane[:, 36] + plane[:, 45]) / 2, plane[:, 45] - plane[:, 36]
    turn = np.stack([across, across[:, ::-1] * [-1, 1]], axis=1) / (across**2).sum(1)[:, None, None]
    upright = np.einsum("tij,tnj->tni", turn, plane - middle[:, None])
    upright = upright + np.random.default_rng(seed).normal(0, 0.01, upright.shape)  # a good detector's error
    flat = upright.reshape(8, -1)
    return np.concatenate([flat.max(0) - flat[0], flat.min(0) - flat[0], flat.mean(0)])


def test_the_task_is_neither_trivial_nor_hopeless() -> None:
    """Logistic regression on the true landmarks' movement, people of the test part unseen: 70 to 95 %."""
    plan = plan_dataset("demo7", 420, 0)
    features = np.stack([_displacements(clip.label, clip.identity, clip.seed) for clip in plan])
    labels, parts = np.array([clip.label for clip in plan]), np.array([clip.part for clip in plan])
    right = 0
    for part in PARTS[:3]:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=1000))
        model.fit(features[parts != part], labels[parts != part])
        right += int((model.predict(features[parts == part]) == labels[parts == part]).sum())
    accuracy = right / np.isin(parts, PARTS[:3]).sum()
    assert 0.70 < accuracy < 0.95


def dying(job: object) -> None:
    """A worker that the system kills, as it does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_an_error_and_no_endless_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_write_clip", dying)
    with pytest.raises(FclipError, match="rendering: a worker process died"):
        dataset.write_dataset("demo7", tmp_path, 35, 0, 2)
