"""`fclip preprocess` as a command: all frames or some, every face, all real clips, what stops it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fclip.data.media.sampling import SamplingPlan, segment_centres
from fclip.data.media.video import read_clip, write_video
from fclip.data.storage.shards import parse_frame_sample, read_shard
from fclip.data.training.access import PackedClips, View
from fclip.data.training.augment import Augmentation
from fclip.errors import FclipError, UsageError
from fclip.stages import preprocess
from fclip.synth.clips import render_clip, sample_clip

CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")
FOLDERS = ("clips", "noface", "odd", "frames_bbaf2n", "images")


def run(source: Path, root: Path, **options):
    chosen = {"dataset": "folder", "name": "mine", "workers": 1, "size": 64, **options}
    return preprocess.run(preprocess.Config(root=root, source=source, **chosen))


def shard_samples(root: Path) -> dict[str, tuple[np.ndarray, dict]]:
    """Frames and json of every sample, by key."""
    samples = {}
    for path in sorted((root / "mine" / "frames").glob("*.tar")):
        for key, fields in read_shard(path):
            sample = parse_frame_sample(key, fields)
            samples[key] = sample.frames, sample.info
    return samples


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder with one rendered face, with two side by side, and with a cut between two."""
    folder = tmp_path_factory.mktemp("source") / "neutral"
    folder.mkdir()
    one, two = (
        render_clip(sample_clip(label, person, 7, CLASSES), 128, frames=12).frames
        for label, person in (("neutral", 3), ("surprise", 11))
    )
    write_video(folder / "alone.mp4", one, 12)
    write_video(folder / "pair.mp4", np.concatenate([one, two], axis=2), 12)
    write_video(folder / "cut.mp4", np.concatenate([one, two[:6]]), 12)
    return folder.parent


def test_every_face_becomes_a_clip(faces: Path, tmp_path: Path) -> None:
    """Two faces: two clips, with track and boxes; the lone face stays as it is without the option."""
    run(faces, tmp_path / "all", crop="lite", frames="6", all_faces=True)
    run(faces, tmp_path / "main", crop="lite", frames="6")
    every, main = shard_samples(tmp_path / "all"), shard_samples(tmp_path / "main")
    assert set(main) == {"neutral_alone", "neutral_pair", "neutral_cut"}
    names = {"neutral_alone"} | {f"neutral_{name}_face{n}" for name in ("pair", "cut") for n in (1, 2)}
    assert set(every) == names
    np.testing.assert_array_equal(every["neutral_alone"][0], main["neutral_alone"][0])
    assert every["neutral_alone"][1] == main["neutral_alone"][1] and "track" not in every["neutral_alone"][1]
    centres = []
    for number in (1, 2):
        frames, info = every[f"neutral_pair_face{number}"]
        assert frames.shape == (6, 64, 64, 3) and info["key"] == f"neutral_pair_face{number}"
        assert info["track"]["clip"] == "neutral_pair" and info["track"]["number"] == number
        assert info["track"]["of"] == 2 and info["label"] == "neutral"
        boxes = np.array(info["crop_boxes"])
        assert boxes.shape == (6, 4)
        centres.append(boxes[:, ::2].mean())
    assert sorted(centre > 128 for centre in centres) == [False, True]
    np.testing.assert_array_equal(every["neutral_pair_face1"][0], main["neutral_pair"][0])


def test_a_cut_ends_a_face(faces: Path, tmp_path: Path) -> None:
    """12 frames of one person, 6 of another: each clip is read anew from its own shot, to the full number of frames."""
    run(faces, tmp_path / "all", crop="lite", frames="6", all_faces=True)
    samples = shard_samples(tmp_path / "all")
    (_, first), (_, second) = (samples[f"neutral_cut_face{number}"] for number in (1, 2))
    assert first["times"][0] < first["times"][-1] < 1 <= second["times"][0] < second["times"][-1]
    assert len(set(first["times"])) == 6 and first["frames"] == second["frames"] == 6
    run(faces, tmp_path / "main", crop="lite", frames="6")
    frames, info = shard_samples(tmp_path / "main")["neutral_cut"]
    assert info["times"] == first["times"] and info["crop_boxes"] == first["crop_boxes"]
    np.testing.assert_array_equal(frames, samples["neutral_cut_face1"][0])


@pytest.mark.parametrize("crop", ["lite", "mediapipe"])
def test_four_real_faces(
    samples: Path, tmp_path: Path, crop: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four faces at once; three shots, one face each; 0, 1, 2, 4, 1 faces in five stretches; what has none fails."""
    if crop == "mediapipe":
        pytest.importorskip("mediapipe")
        monkeypatch.setenv("FCLIP_MODELS", str(request.getfixturevalue("models_dir")))
    (tmp_path / "source" / "neutral").mkdir(parents=True)
    for name in (
        "odd/multi4_grid_720x576.mp4",
        "odd/faces_0_1_2_4_1.mp4",
        "odd/cuts_3speakers.mp4",
        "noface/blank_noface.mp4",
    ):
        shutil.copy(samples / name, tmp_path / "source" / "neutral")
    report = run(tmp_path / "source", tmp_path, crop=crop, frames="15", all_faces=True, max_failed=0.3)
    assert "failed: neutral_blank_noface: no face found in any of 15 frames" in report.lines
    found = shard_samples(tmp_path)
    four = [info for key, (_, info) in found.items() if key.startswith("neutral_multi4")]
    centres = [np.array(info["crop_boxes"]).reshape(-1, 2, 2).mean((0, 1)) for info in four]
    assert sorted((bool(x > 360), bool(y > 288)) for x, y in centres) == [
        (a, b) for a in (False, True) for b in (False, True)
    ]
    for number, (_, info) in enumerate(
        sorted((info["times"][0], info) for key, (_, info) in found.items() if "cuts_3" in key)
    ):
        assert number <= info["times"][0] < info["times"][-1] < number + 1  # one second each
    seen = [info["track"] for key, (_, info) in found.items() if "faces_0_1_2_4_1" in key]
    numbers = [sum(track["from"] <= second <= track["to"] for track in seen) for second in (0.3, 0.9, 1.5, 2.1, 2.7)]
    assert numbers == [0, 1, 2, 4, 1]


def test_all_frames_and_what_training_and_evaluation_take_of_them(tmp_path: Path) -> None:
    """40 frames are kept; test time takes the published centres, training a frame of each segment, new each epoch."""
    folder = tmp_path / "source" / "neutral"
    folder.mkdir(parents=True)
    write_video(folder / "clip.mp4", [np.full((64, 64, 3), 5 * t + 20, np.uint8) for t in range(40)], 25)
    run(tmp_path / "source", tmp_path, frames="all")
    frames, info = shard_samples(tmp_path)["neutral_clip"]
    assert info["frames"] == 40 and info["times"] == pytest.approx(np.arange(40) / 25) and info["end"] == 1.6
    shard = next((tmp_path / "mine" / "frames").glob("*.tar"))
    values = frames.mean((1, 2, 3))
    assert (np.diff(values) > 3).all()

    def shown(train: bool, epoch: int) -> list[int]:
        still = Augmentation(crop_area=(1, 1), crop_ratio=(1, 1), flip=0) if train else None
        clip = PackedClips([shard], View(64, 16, augmentation=still, random_frames=train)).load(0, epoch)
        return [int(np.abs(values - value).argmin()) for value in clip["frames"].float().mean((1, 2, 3)).tolist()]

    assert shown(False, 0) == shown(False, 1) == segment_centres(40, 16).tolist()
    epochs = [shown(True, epoch) for epoch in range(20)]
    edges = np.arange(17) * 40 // 16
    assert all(((edges[:-1] <= drawn) & (drawn < edges[1:])).all() for drawn in np.array(epochs))
    assert len({tuple(drawn) for drawn in epochs}) > 10
    assert shown(True, 3) == epochs[3]


@pytest.mark.parametrize(("size", "cap"), [(64, 512), (80, 512), (224, 292), (1024, 63)])
def test_many_frames_are_bounded_by_the_strip(tmp_path: Path, size: int, cap: int) -> None:
    """A longer clip gives the segments' centres; a number above the bound is refused."""
    plan = preprocess.cropping(preprocess.Config(frames="all", size=size)).plan
    assert (plan.frames, plan.cap) == (None, cap)
    with pytest.raises(UsageError, match=f"--frames {cap + 1}: give a number from 1 to {cap}, or all"):
        run(tmp_path, tmp_path, frames=str(cap + 1), size=size)


def test_wrong_use(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--all-faces needs a way to find them"):
        run(faces, tmp_path, all_faces=True)
    with pytest.raises(UsageError, match="--frames none"):
        run(faces, tmp_path, frames="none")
    folder = tmp_path / "source" / "neutral"
    folder.mkdir(parents=True)
    for name in ("clip.mp4", "clip_face1.mp4"):
        shutil.copy(faces / "neutral" / "alone.mp4", folder / name)
    with pytest.raises(FclipError, match="neutral_clip_face1 is named like a face of another clip"):
        run(folder.parent, tmp_path, all_faces=True, crop="lite")


def test_all_real_files_go_through(samples: Path, tmp_path: Path) -> None:
    """Every clip and picture of the samples as one data set: three broken ones are listed, the others whole shards."""
    for path in [path for path in samples.rglob("*") if path.is_file() and path.parent.name in FOLDERS]:
        target = tmp_path / "source" / path.relative_to(samples)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    report = run(tmp_path / "source", tmp_path, frames="4", max_failed=0.2)
    assert report.exit_code == 0 and report.counts["ok"] == 40
    failed = [
        json.loads(line)
        for path in (tmp_path / "mine" / "frames").glob("*.failed.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert {row["key"] for row in failed} == {"odd_truncated", "odd_empty", "odd_text"}
    found = shard_samples(tmp_path)
    assert {frames.shape for frames, _ in found.values()} == {(4, 64, 64, 3)}
    turned, upright = (found[key][0].astype(int) for key in ("odd_rot90_meta", "clips_bbaf2n"))
    assert np.abs(turned - upright).mean() < 8
    vfr = found["odd_vp9_vfr"][1]
    assert vfr["end"] == pytest.approx(3, abs=0.02) and vfr["fps"] == pytest.approx(15, abs=0.1)


def test_hours_of_video(tmp_path: Path) -> None:
    """Three hours at a low rate, as a recording of a meeting has it: the right moments, read from the key frames."""
    path = tmp_path / "long.mp4"
    write_video(path, (np.full((48, 64, 3), 20 + t // 12, np.uint8) for t in range(2160)), 0.2)
    clip = read_clip(path, SamplingPlan(16))
    assert clip.total == 2160 and clip.end == pytest.approx(10_800)
    np.testing.assert_allclose(clip.times, segment_centres(2160, 16) * 5.0)
    np.testing.assert_allclose(clip.frames.mean((1, 2, 3)), 20 + segment_centres(2160, 16) // 12, atol=3)


@pytest.mark.parametrize("cut", [0, 900, None])
def test_a_video_that_vanishes_meanwhile_is_no_failed_clip(faces, tmp_path, monkeypatch, cut) -> None:
    """As when a disk goes away: the run stops, and the same command goes on once the video is back."""
    source = tmp_path / "source"
    shutil.copytree(faces, source)
    path, data = source / "neutral" / "cut.mp4", (faces / "neutral" / "cut.mp4").read_bytes()
    read = preprocess.FramesStage.read

    def spoiling(self, clip, where):
        if where.name == path.name:
            path.unlink() if cut is None else path.write_bytes(data[:cut])
        return read(self, clip, where)

    with monkeypatch.context() as patch:
        patch.setattr(preprocess.FramesStage, "read", spoiling)
        with pytest.raises(FclipError, match=r"cut\.mp4: changed or vanished while it was read"):
            run(source, tmp_path, crop="none", shard_size=1)
    path.write_bytes(data)
    assert run(source, tmp_path, crop="none", shard_size=1).counts["ok"] == 3
