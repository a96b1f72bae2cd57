"""Training and prediction see a clip alike: through the stages and through predict, the same model input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fclip.data.media.video import iter_frames, write_video
from fclip.data.training.access import PackedClips, View, show
from fclip.data.training.loader import join_clips
from fclip.engine.batches.prepare import InputPreparer
from fclip.engine.predict import opening
from fclip.models import create_model
from fclip.seeing import windows as windows_module
from fclip.seeing.preparation import Cropping, Preparation, read_preparation
from fclip.seeing.windows import SampleMaker
from fclip.stages import caption, face_analyze, pack, preprocess, refine

REAL = ("clips/single_face.mp4", "clips/WolfgangLanger_Pexels.mp4", "odd/cuts_3speakers.mp4", "odd/one_frame.mp4")


def through_stages(root: Path, **options) -> Path:
    """The packed folder of the clips in <root>/source/<class>/."""
    common = {"root": root, "dataset": "mine", "workers": 1}
    preprocess.run(preprocess.Config(**common | {"dataset": "folder"}, source=root / "source", name="mine", **options))
    backend = options["crop"]
    face_analyze.run(face_analyze.Config(**common, backend=backend, smooth=1.0))
    caption.run(caption.Config(**common))
    refine.run(refine.Config(**common))
    pack.run(pack.Config(**common, allow_missing=True))
    return root / "mine" / "packed"


def inputs_of(model, clip: dict) -> dict[str, torch.Tensor]:
    """What a model is given for a loaded clip."""
    prepare = InputPreparer(model, torch.device("cpu"))
    return next(prepare.groups(join_clips([clip]) | {"labels": None}))[1]


def compare(packed: Path, source: Path, frames: int) -> list[str]:
    """Assert that every packed clip gives the same input both ways; the captions."""
    preparation = read_preparation(packed)
    assert preparation is not None
    model = create_model("star-dagger", "tiny", ["a", "b"], frames=frames, clip_weights="random")
    meta = {"preparation": json.loads(json.dumps(preparation.as_dict())), "classes": ["a", "b"]}
    predictor = opening.open_predictor(opening.OpenedModel(model, meta), opening.PredictOptions(device="cpu"))
    view = View(model.preprocess.image_size, model.frames, model.preprocess.resize)
    clips = PackedClips(sorted(packed.glob("*.tar")), view, allow_missing=True)
    texts = []
    for index, key in enumerate(clips.keys):
        clip = clips.load(index, 0)
        (path,) = (p for p in source.rglob("*") if p.stem == key.split("_", 1)[1])
        (window,) = predictor.samples.windows(path, 1e6, 1e6)
        assert window.sample is not None, window.error
        seen = show(window.sample, view)
        assert seen["caption"] == clip["caption"]
        texts.append(clip["caption"])
        expected, got = inputs_of(model, clip), inputs_of(model, seen)
        assert expected.keys() == got.keys() >= {"frames", "parsing", "landmarks"}
        for name in expected:
            assert torch.equal(expected[name], got[name]), f"{key}: {name}"
    return texts


@pytest.mark.parametrize("frames", ["6", "all"])
def test_a_rendered_clip_is_seen_alike(workspace, tmp_path, frames):
    """Also where more frames are stored than the model takes, and where a clip is shorter."""
    folder = tmp_path / "source" / "anger"
    folder.mkdir(parents=True)
    for index, path in enumerate(sorted((workspace / "demo7" / "source").rglob("*.mp4"))[:2]):
        pictures = [frame for _, frame in iter_frames(path)]
        write_video(folder / f"{index}.mp4", pictures if index else pictures[:4], 25)
    packed = through_stages(tmp_path, crop="lite", frames=frames, size=96)
    texts = compare(packed, folder, 4)
    assert all(texts)


@pytest.mark.parametrize("crop", ["lite", "mediapipe"])
def test_real_clips_are_seen_alike(samples, models_dir, monkeypatch, tmp_path, crop):
    """Faces, cuts, one frame only; frames twice the size that the model takes are decoded at a half."""
    if crop == "mediapipe":
        pytest.importorskip("mediapipe")
        monkeypatch.setenv("FCLIP_MODELS", str(models_dir))
    folder = tmp_path / "source" / "anger"
    folder.mkdir(parents=True)
    for name in REAL:
        (folder / Path(name).name).write_bytes((samples / name).read_bytes())
    packed = through_stages(tmp_path, crop=crop, frames="8", size=160, max_failed=1.0)
    compare(packed, folder, 8)


def test_the_record_says_all_of_it(workspace):
    preparation = read_preparation(workspace / "demo7" / "packed")
    assert preparation == Preparation.from_dict(json.loads(json.dumps(preparation.as_dict())), "here")
    assert preparation.cropping.crop == preparation.analysis.backend == "lite"
    assert preparation.cropping.frames == "4"
    assert preparation.description.captioner == "template"
    assert preparation.description.refined
    assert len(preparation.description.labels) == 7


def test_overlapping_windows_look_at_each_frame_once(workspace):
    """Detector and face analysis get every frame once, and windows agree on the frames that they share."""
    path = max((workspace / "demo7" / "source").rglob("*.mp4"), key=lambda p: p.stat().st_size)
    preparation = read_preparation(workspace / "demo7" / "packed")
    detector = opening.create_detector("lite")
    seen = dict.fromkeys(("see", "detect", "analyze_seen", "analyze"), 0)

    def counting(name):
        inner = getattr(detector, name)

        def counted(frames, *rest):
            seen[name] += len(frames)
            return inner(frames, *rest)

        setattr(detector, name, counted)

    for name in seen:
        counting(name)
    maker = SampleMaker(preparation.cropping, detector, detector, preparation.analysis)
    windows = list(maker.windows(path, 0.4, 0.2))
    shown = {round(float(t), 4) for w in windows for t in w.times}
    assert len(windows) >= 5
    assert len(shown) < sum(len(w.times) for w in windows) * 0.7, "they overlap"
    assert seen == {"see": len(shown), "detect": 0, "analyze_seen": len(shown), "analyze": 0}
    for a, b in zip(windows, windows[1:], strict=False):
        for i, time in enumerate(a.times):
            for j in np.flatnonzero(b.times == time):
                assert np.array_equal(a.sample.frames[i], b.sample.frames[j])


def test_frames_are_held_for_the_open_window_only(workspace, tmp_path, monkeypatch):
    """While windows stream by, no more frames are alive than a window and a half need."""
    frames = [frame for _, frame in iter_frames(next((workspace / "demo7" / "source").rglob("*.mp4")))][:20]
    write_video(tmp_path / "long.mp4", (frame for _ in range(8) for frame in frames), 25)
    most = []
    original = windows_module._Frames._read

    def watching(self, last):
        original(self, last)
        most.append(len(self.held))

    monkeypatch.setattr(windows_module._Frames, "_read", watching)
    detector = opening.create_detector("lite")
    count = sum(1 for _ in SampleMaker(Cropping("4", 80), detector).windows(tmp_path / "long.mp4", 0.8, 0.4))
    assert count == len(most) == 15
    assert max(most) <= 6
