"""The reference programs' preprocessing: every picture and every program of the golden file, through the way that clips go."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_clip import add_config

from fclip.data.storage.packed import PackedSample
from fclip.data.training.access import View, show
from fclip.data.training.augment import AUGMENTATIONS
from fclip.engine.batches.prepare import InputPreparer
from fclip.faces.facexformer.backend import _picture, _Work, normalise
from fclip.models import create_model
from fclip.records import FaceTrack
from tests.goldens import Golden, difference

ROUNDED = 1 / 255  # libraries round a resampled pixel to 8 bit differently


def through_a_model(variant: str, size: int, **options: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A picture (H, W, 3) as the model is shown it in testing: (3, size, size)."""
    clip = add_config(f"fclip-{size}-pixels", vision={"image_size": size})
    model = create_model(variant, clip, ["a", "b"], 1, "random", **options)
    view, prepare = View(size, resize=model.preprocess.resize), InputPreparer(model, torch.device("cpu"))

    def shown(picture: np.ndarray) -> np.ndarray:
        frames = show(PackedSample("a", picture[None], {"label": "a"}), view)["frames"]  # (1, S, S, 3)
        return prepare.normalise(frames.permute(0, 3, 1, 2)[None].float() / 255)[0, 0].numpy()

    return shown


def facexformer(picture: np.ndarray) -> np.ndarray:
    work = _Work(picture[None], None, FaceTrack(np.zeros(0), np.zeros(0), np.zeros(0)))
    return normalise(torch.from_numpy(_picture(work, 0).copy()))[0].numpy()


def test_golden_preprocessing(parity: Path) -> None:
    """CLIP's and FaceXFormer's exactly, DFER-CLIP's but for the rounding of resampled pixels to 8 bit."""
    golden = Golden(parity, "preprocess")
    step, size = (int(re.search(pattern, golden.spec["subset"])[1]) for pattern in (r"::(\d+)", r"(\d+)\]$"))
    programs = {
        "clip": (through_a_model("zeroshot-clip", size, resize="crop", text_mode="class-name"), 0.0),
        "dfer_clip_test": (through_a_model("dfer-clip", size, normalize="none", text_mode="class-name"), ROUNDED),
        "facexformer": (facexformer, 0.0),
    }
    told = []
    for shape, given in golden.spec["inputs"].items():
        described = {key: given[key] for key in ("name", "shape", "seed", "low", "high", "coarse")}
        values = golden.fill.make_input(**described)
        picture = np.floor(values).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)  # (H, W, 3)
        assert picture.sum() == given["sum"]
        for program, (shown, rounding) in programs.items():
            name = f"{program}.{shape}"
            tolerance = {"atol": golden.spec["tolerance"]["atol"] + rounding}
            told.append(difference(name, shown(picture)[:, ::step, ::step], golden.outputs[name], tolerance))
    assert not any(told), "; ".join(filter(None, told))
    golden.assert_all_read()


@pytest.mark.parametrize("augment", ["none", None])
def test_a_crop_takes_maps_and_points_along(augment: str | None) -> None:
    """A spot in frame, parsing and landmarks stays one spot; training without augmentation sees what testing sees."""
    y, x, height, width = 40, 110, 90, 160
    frame = np.full((height, width, 3), 20, np.uint8)
    parsing = np.zeros((1, height, width), np.uint8)
    frame[y - 4 : y + 5, x - 4 : x + 5], parsing[0, y - 4 : y + 5, x - 4 : x + 5] = 255, 6
    points = np.full((1, 68, 2), ((x + 0.5) / width, (y + 0.5) / height), np.float32)
    view = View(64, resize="crop", augmentation=AUGMENTATIONS[augment] if augment else None)
    seen = show(PackedSample("a", frame[None], {"label": "a"}, parsing, points), view)
    bright = np.argwhere(seen["frames"][0, :, :, 0].numpy() > 128).mean(axis=0)[::-1] + 0.5
    nose = np.argwhere(seen["parsing"][0].numpy() == 6).mean(axis=0)[::-1] + 0.5
    point = seen["landmarks"][0, 0].numpy() * 64
    assert np.abs(bright - point).max() < 0.5 and np.abs(nose - point).max() < 0.75
    expected = ((x + 0.5) * 113 / width - 24, (y + 0.5) * 64 / height)  # 160 x 90 becomes 113 x 64, cut from 24 on
    assert np.abs(point - expected).max() < 1e-3
