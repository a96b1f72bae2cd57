"""fclip from Python, and the scripts of examples/ that show it."""

from __future__ import annotations

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fclip
from fclip.errors import FclipError

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def script(name, *arguments, monkeypatch, capsys):
    """What a script of examples/ prints."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    monkeypatch.delenv("FCLIP_MODELS", raising=False)
    monkeypatch.setenv("FCLIP_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_names_are_listed_and_light():
    assert set(fclip.__all__) <= set(dir(fclip)) and (Path(fclip.__file__).parent / "py.typed").is_file()
    code = "import fclip, sys; dir(fclip); sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError):
        fclip.no_such_name  # noqa: B018


def test_a_video_and_its_frames_give_an_answer(samples, no_weights, monkeypatch, capsys):
    path = samples / "clips" / "single_face.mp4"
    found = fclip.predict(path, window=2, stride=2)
    assert found.label == max(found.probabilities, key=found.probabilities.get)
    assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-3)
    rows = found.rows()
    assert len(rows) == len(found.windows) and {"start", "label", *found.probabilities} <= rows[0].keys()
    assert repr(found).startswith(f"Prediction({found.label}") and "held-out" in found.to_dict()["basis"]
    assert found.made_by["classes"] == list(found.probabilities) and found.made_by["fclip"] == fclip.__version__
    from fclip.data.media.video import iter_frames

    frames = np.stack([frame for _, frame in zip(range(8), (f for _, f in iter_frames(path)), strict=False)])
    again = fclip.predict(torch.from_numpy(frames), window=2)
    assert again.probabilities.keys() == found.probabilities.keys() and again.video == "8 frames"
    assert found.label in script("predict.py", path, monkeypatch=monkeypatch, capsys=capsys)


def test_wrong_input_is_one_line():
    for video, message in (("nowhere.mp4", "no such file"), (np.zeros((2, 4, 4)), "frames must be uint8")):
        with pytest.raises(FclipError, match=message):
            fclip.predict(video)
    with pytest.raises(FclipError, match="no packed folder"):
        fclip.open_packed("nowhere")


def test_an_own_back_end(samples, no_weights, monkeypatch, capsys):
    from fclip.registry import FACE_BACKENDS

    try:
        shown = script("own_back_end.py", samples / "clips" / "single_face.mp4", monkeypatch=monkeypatch, capsys=capsys)
    finally:
        FACE_BACKENDS.added.pop("wide", None)
    assert shown.startswith("Prediction(")


def test_packed_clips_are_a_torch_dataset(workspace, monkeypatch, capsys):
    folder = workspace / "demo7" / "packed"
    clips = fclip.open_packed(folder)
    tested, trained = fclip.open_packed(folder, fold="1"), fclip.open_packed(folder, fold="1", train=True)
    assert len(clips) == 35 and set(tested.keys) | set(trained.keys) == set(clips.keys)
    assert not set(tested.keys) & set(trained.keys)
    clip = clips[-1]
    assert clip["key"] == clips.keys[-1] and clip["label"] in clips.classes
    assert clip["frames"].shape == (4, 224, 224, 3) and clip["frames"].dtype == torch.uint8
    assert repr(clips).startswith("PackedDataset(35 clips of 7 classes")
    with pytest.raises(IndexError):
        clips[35]
    with pytest.raises(FclipError, match="has the folds 1"):
        fclip.open_packed(folder, fold="9")
    shown = script("read_packed.py", folder, monkeypatch=monkeypatch, capsys=capsys)
    assert "untrained base on tiny: 7 classes" in shown and "UAR" in shown


def test_a_plain_tensor_of_frames_is_a_batch():
    model = fclip.create_model("base", clip="tiny", classes=["a", "b"], frames=2).eval()
    frames = torch.rand(1, 2, 3, 80, 80)
    assert torch.equal(model(frames).logits, model({"frames": frames}).logits)
    assert repr(model).count("\n") == 0


def test_figures_of_rows_and_of_a_file_are_the_same(tmp_path):
    rows = [{"key": str(i), "true": "ab"[i % 2], "predicted": "aab"[i % 3]} for i in range(12)]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["key", "true", "predicted"])
        writer.writeheader()
        writer.writerows(rows)
    of_rows, of_file = fclip.evaluate(rows), fclip.evaluate(tmp_path / "t.csv")
    assert (of_rows.uar, of_rows.confusion) == (of_file.uar, of_file.confusion)
    assert of_rows.confusion == ((4, 2), (4, 2)) and of_rows.war == 0.5
    with pytest.raises(FclipError, match="true"):
        fclip.evaluate([{"key": "1"}])
