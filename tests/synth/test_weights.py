"""Training of the bundled weights: a few steps write loadable files, repeatably; and the bundled `tiny` itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from fclip.faces.base import WeightsOptions
from fclip.faces.landmarks import flip_landmarks
from fclip.faces.lite.backend import LiteBackend
from fclip.models.backbone.clip import load_clip
from fclip.models.backbone.tiny import load_tiny_state
from fclip.synth.actions import UNITS
from fclip.synth.augment import Square, degrade, occlude, pictures_without_face, relight
from fclip.synth.pool import HELD_OUT, TRAINING, Pool, class_names, make_pool
from fclip.synth.train_lite import finder_batch, reader_batch, train_lite
from fclip.synth.train_tiny import PROMPT, Hints, _part, crops, info_nce, mirrored, tiny_figures, train_tiny
from fclip.synth.weights import RESOURCES, make_lite, make_tiny


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("pool"), 12, 4, TRAINING, class_names())


def test_make_lite_writes_a_loadable_file(tmp_path: Path) -> None:
    figures = make_lite(tmp_path, clips=3, reader_steps=2, finder_steps=2, pictures=20)
    assert set(figures) == {"frames_160", "crops_80"}
    assert figures["frames_160"]["frames"] == 12
    backend = LiteBackend(WeightsOptions(tmp_path / "lite.safetensors"))
    assert backend.fingerprint["weights"] != LiteBackend().fingerprint["weights"]


def test_make_tiny_writes_a_loadable_file(tmp_path: Path) -> None:
    figures = make_tiny(tmp_path, clips=28, image_steps=2, steps=2)
    assert figures["clips"] == 28
    state = load_tiny_state(tmp_path / "tiny.safetensors")
    assert state["token_embedding.weight"].shape == (49408, 128)
    touched = state["token_embedding.weight"].abs().sum(1) > 0
    tokens = load_clip("tiny", "random").tokenizer([PROMPT.format(f"no {name}") for name in class_names()])
    assert touched[tokens[tokens > 0]].all()
    assert 100 < touched.sum() < 3000
    assert (tmp_path / "tiny.safetensors").stat().st_size < 4e6


def test_training_is_repeatable_and_depends_on_the_seed(pool: Pool) -> None:
    first, again, other = (
        train_lite(pool, seed, reader_steps=1, finder_steps=1, pictures=10).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["reader.points.weight"], other["reader.points.weight"])
    (one, ids), (two, _) = (train_tiny(pool, 0, image_steps=1, steps=1) for _ in range(2))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert bool((ids.diff() > 0).all())
    assert math.isclose(float(one["logit_scale"].exp()), 100, rel_tol=1e-5)


def test_pool_people_are_in_no_data_set(pool: Pool) -> None:
    people = [script.identity for script in pool.scripts]
    assert len(set(people)) == len(people)
    assert min(people) >= 1_000_000
    assert max(people) + 10_000 < HELD_OUT


def test_pool_around_the_face_keeps_truth_in_place(tmp_path: Path) -> None:
    whole = make_pool(tmp_path / "whole", 3, 2, TRAINING, class_names())
    near = make_pool(tmp_path / "near", 3, 2, TRAINING, class_names(), size=96, share=0.6)
    extent = np.ptp(near.landmarks, axis=1).max(-1)
    assert np.allclose(extent, 0.6, atol=1e-3)
    for pool, size in ((whole, 160), (near, 96)):
        points = (pool.landmarks[:, 30] * size).astype(int)  # the nose's tip
        hits = [int(labels[y, x]) for labels, (x, y) in zip(pool.parsing, points, strict=True)]
        assert hits.count(6) >= 4  # unless something is held in front of it


def test_square_cuts_pixels_and_points_alike() -> None:
    images = torch.zeros(4, 1, 100, 100)
    points = torch.tensor([[40.0, 61.0], [55.0, 40.0], [33.0, 47.0], [62.0, 58.0]])
    for image, (x, y) in zip(images, points.int().tolist(), strict=True):
        image[0, y - 2 : y + 2, x - 2 : x + 2] = 1
    flip = torch.tensor([False, True, False, True])
    side, angle = torch.tensor([80.0, 90, 100, 60]), torch.tensor([0, 0.3, -0.4, 0.5])
    square = Square(torch.full((4, 2), 50.0), side, angle, flip)
    cut, steps = square.cut(images, 64)[:, 0], (torch.arange(64) + 0.5) / 64
    total = cut.sum((1, 2))
    found = torch.stack([(cut.sum(1) * steps).sum(1) / total, (cut.sum(2) * steps).sum(1) / total], 1)
    assert torch.allclose(found, square.points(points[:, None])[:, 0], atol=0.004)
    labels = square.cut_labels((images[:, 0] * 7).to(torch.uint8), 64)
    assert set(labels[2].unique().tolist()) == {-1, 0, 7}  # turned by 0.4, its corners lie outside


def test_batches_hold_what_they_say(pool: Pool) -> None:
    random = torch.Generator().manual_seed(3)
    plain = pictures_without_face(20, 96, random)
    assert plain.shape == (20, 3, 96, 96)
    images, points, labels, presence = reader_batch(pool, plain, random)
    assert images.shape == (32, 3, 96, 96)
    assert float(images.abs().max()) <= 1
    assert (labels[presence == 0] == -1).all()
    face = presence == 1
    assert 0.2 < float(points[face].mean()) < 0.8
    x, y = (points[face, 30] * 96).long().clamp(0, 95).unbind(1)
    assert (labels[face][torch.arange(len(x)), y, x] == 6).float().mean() > 0.8
    assert bool((points[face, 36, 0] < points[face, 45, 0]).all())  # mirrored faces have their points renumbered
    frames, where, size = finder_batch(pool, plain, random)
    assert frames.shape == (64, 3, 64, 64)
    assert where.shape == (64, 4, 2)
    assert bool(((where[size > 0] > -0.05) & (where[size > 0] < 1.05)).all())
    assert 0.6 < float((size[8:, 0] > 0).float().mean()) < 1


def test_pictures_stay_pictures() -> None:
    random = torch.Generator().manual_seed(1)
    images = torch.rand(6, 3, 32, 32, generator=random)
    for changed in (relight(images, random), degrade(images, random), occlude(images, images, random, 1.0)):
        assert changed.shape == images.shape
        assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
        assert not torch.equal(changed, images)


def test_info_nce_leaves_out_the_same_text() -> None:
    logits = torch.tensor([[4.0, 4.0, 1.0], [2.0, 3.0, 0.0], [0.0, 1.0, 2.0]])
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    first = functional.cross_entropy(torch.tensor([[4.0, 1.0]]), torch.tensor([0]))
    second = functional.cross_entropy(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    third = functional.cross_entropy(logits[2:], torch.tensor([2]))
    down = [
        functional.cross_entropy(torch.tensor([column]), torch.tensor([0]))
        for column in ([4.0, 0.0], [3.0, 1.0], [2.0, 1.0, 0.0])
    ]
    expected = (first + second + third) / 6 + sum(down) / 6
    assert torch.allclose(info_nce(logits, same), expected)
    assert info_nce(logits, torch.eye(3, dtype=torch.bool)) > info_nce(logits, same)


def test_mirrored_text_exchanges_sides() -> None:
    assert mirrored("the left brow rises, then the right") == "the right brow rises, then the left"
    assert mirrored("leftovers, upright") == "leftovers, upright"


def test_parts_of_a_text_are_runs_of_its_sentences() -> None:
    random = torch.Generator().manual_seed(0)
    parts = {_part("The brows rise. Then the jaw drops. It fades.", random) for _ in range(200)}
    assert parts == {
        "The brows rise.",
        "Then the jaw drops.",
        "It fades.",
        "The brows rise. Then the jaw drops.",
        "Then the jaw drops. It fades.",
        "The brows rise. Then the jaw drops. It fades.",
    }
    assert _part("an expression of fear", random) == "an expression of fear"


def test_crops_show_the_face_at_the_pipelines_margin(pool: Pool) -> None:
    straight = crops(pool, torch.arange(8), torch.zeros(8) > 0, None)
    assert straight.images.shape == (8, 3, 80, 80)
    extent = (straight.points.amax(1) - straight.points.amin(1)).amax(1)
    assert torch.allclose(extent, torch.full((8,), 1 / 1.5), atol=1e-4)
    turned = crops(pool, torch.arange(8), torch.ones(8) > 0, None)
    assert torch.allclose(turned.images.flip(3), straight.images, atol=1e-4)
    assert torch.allclose(torch.from_numpy(flip_landmarks(turned.points.numpy())), straight.points, atol=1e-5)
    brow = (straight.labels == 2) | (straight.labels == 3)
    units = [UNITS.index("AU12_left"), UNITS.index("AU12_right")]
    assert torch.equal(turned.units[:, units].flip(1), straight.units[:, units])
    assert torch.equal(turned.units[:, 0], straight.units[:, 0])
    swapped = straight.labels.where(~brow, 5 - straight.labels).flip(2)
    assert bool((turned.labels[:, 6:12] == swapped[:, 6:12]).float().mean() > 0.8)


def test_hints_see_the_features_of_the_image_tower(pool: Pool) -> None:
    visual = load_clip("tiny", "random").model.visual
    batch = crops(pool, torch.arange(4), torch.zeros(4) > 0, None)
    features, loss = Hints(128)(visual, batch)
    assert torch.allclose(features, visual(batch.images), atol=1e-5)
    assert loss.isfinite()
    exact = torch.full((4, 11, 20, 20), -20.0).scatter(1, batch.labels[:, None], 20.0)
    blocks = exact.unflatten(3, (5, 4)).unflatten(2, (5, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(2)
    hints = Hints(128)
    hints.classes = PutInPlace(blocks)
    hints.points = PutInPlace((batch.points - 0.5).flatten(1))
    hints.units = PutInPlace(batch.units)
    assert float(hints(visual, batch)[1]) < 1e-4


class PutInPlace(torch.nn.Linear):
    """A layer whose output is given."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__(1, 1)
        self.output = output

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.output


def test_bundled_tiny_knows_expressions_but_not_too_well(tmp_path: Path) -> None:
    seven = list(class_names("demo7"))
    held = make_pool(tmp_path, 70, 4, HELD_OUT + 50_000, seven, size=112, share=0.53)
    figures = tiny_figures(load_clip("tiny"), held, seven)
    assert 25 < figures["zero_shot_accuracy"] < 75
    assert figures["caption_of_20"] > 15


def test_figures_of_the_bundled_weights_are_kept() -> None:
    figures = json.loads((RESOURCES / "weights.json").read_text())
    for name, overlap in (("frames_160", 0.8), ("crops_80", 0.77)):  # a brow of a small crop is two pixels thick
        row = figures["lite"][name]
        assert row["landmark_error"] <= 0.04
        assert row["parsing_iou"] >= overlap
        assert row["faces_found"] >= 0.99
        assert row["false_faces"] <= 0.02
    assert 100 / 7 + 10 < figures["tiny"]["zero_shot_accuracy"] < 75
