"""Training of the bundled weights: a few steps write loadable files, repeatably; and the bundled `tiny` itself."""

from __future__ import annotations

import csv
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from examples.weights.__main__ import RESOURCES, make_lite, make_tiny, training_data
from examples.weights.augment import Square, degrade, lower, occlude, pictures_without_face, relight
from examples.weights.faces import FaceSource, rarity
from examples.weights.finder import finder_batch
from examples.weights.hints import Hints
from examples.weights.lite import train_lite, usual_signals
from examples.weights.pool import HELD_OUT, TRAINING, Pool, class_names, make_pool
from examples.weights.reader import reader_batch
from examples.weights.real import (
    DEGREES,
    SIGNALS,
    SIZE,
    UNKNOWN,
    RealFaces,
    blendshape_names,
    is_test,
    load_real,
    mirrored_signals,
    read_pictures,
    read_rows,
)
from examples.weights.tiny import info_nce, no_pairs, tiny_figures, train_tiny
from examples.weights.tiny_crops import joined, real_crops, rendered_crops
from examples.weights.tiny_texts import PROMPT, face_texts, mirrored, part_of
from fclip.errors import FclipError
from fclip.faces.base import WeightsOptions
from fclip.faces.landmarks import flip_landmarks
from fclip.faces.lite.backend import LiteBackend
from fclip.models.backbone.clip import load_clip
from fclip.models.backbone.tiny import load_tiny_state
from fclip.synth.actions import UNITS


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("pool"), 12, 4, TRAINING, class_names())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("large"), 6, 2, TRAINING, class_names(), SIZE)


@pytest.fixture(scope="module")
def faces(large: Pool) -> RealFaces:
    """Pictures in the form of real ones: rendered, with signals of no meaning."""
    count = len(large.frames)
    parsing = np.where(np.isin(large.parsing, (0, 10)), UNKNOWN, large.parsing).astype(np.uint8)
    signals = np.random.default_rng(0).uniform(0, 1, (count, SIGNALS)).astype(np.float32)
    labels = np.array(["neutral", "neutral", "neutral", "anger"] * (count // 4))
    return RealFaces(large.frames, large.landmarks, parsing, signals, labels, np.array([f"p{i}" for i in range(count)]))


def test_make_lite_writes_a_loadable_file(tmp_path: Path, faces: RealFaces) -> None:
    figures = make_lite(tmp_path, faces, clips=3, reader_steps=2, finder_steps=2, pictures=20)
    assert set(figures) == {"frames_160", "crops_80"}
    assert figures["frames_160"]["frames"] == 12
    backend = LiteBackend(WeightsOptions(tmp_path / "lite.safetensors"))
    assert backend.fingerprint["weights"] != LiteBackend().fingerprint["weights"]


def test_make_tiny_writes_a_loadable_file(tmp_path: Path, faces: RealFaces) -> None:
    figures = make_tiny(tmp_path, faces, clips=28, image_steps=2, steps=2, real_steps=2)
    assert figures["clips"] == 28
    state = load_tiny_state(tmp_path / "tiny.safetensors")
    assert state["token_embedding.weight"].shape == (49408, 128)
    touched = state["token_embedding.weight"].abs().sum(1) > 0
    tokens = load_clip("tiny", "random").tokenizer([PROMPT.format(f"no {name}") for name in class_names()])
    assert touched[tokens[tokens > 0]].all()
    assert 100 < touched.sum() < 3000
    assert (tmp_path / "tiny.safetensors").stat().st_size < 4e6


def test_training_is_repeatable_and_depends_on_the_seed_and_the_real_faces(large: Pool, faces: RealFaces) -> None:
    source = FaceSource(large, faces)
    first, again, other, alone = (
        train_lite(each, seed, reader_steps=1, finder_steps=1, pictures=10)
        for each, seed in ((source, 0), (source, 0), (source, 1), (FaceSource(large), 0))
    )
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in first.state_dict().items())
    assert not torch.equal(first.reader.points.weight, other.reader.points.weight)
    assert not torch.equal(first.reader.points.weight, alone.reader.points.weight)


def test_training_of_tiny_is_repeatable(large: Pool, faces: RealFaces) -> None:
    (one, ids), (two, _) = (train_tiny(large, faces, 0, 1, 1, real_steps=1) for _ in range(2))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert bool((ids.diff() > 0).all())
    alone, _ = train_tiny(large, None, 0, 1, 1, real_steps=1)
    assert not torch.equal(alone["visual.proj"], one["visual.proj"]), "the real faces have no part in it"
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


def test_batches_hold_what_they_say(large: Pool, faces: RealFaces) -> None:
    random = torch.Generator().manual_seed(3)
    plain = pictures_without_face(20, 96, random)
    assert plain.shape == (20, 3, 96, 96)
    batch = reader_batch(FaceSource(large, faces), plain, random)
    points, labels, face = batch.points, batch.labels, batch.presence
    assert batch.crops.shape == (32, 3, 96, 96)
    assert float(batch.crops.abs().max()) <= 1
    assert (labels[~face] == -1).all()
    assert 4 < int(batch.known.sum()) < 28
    assert not (batch.known & ~face).any()
    assert 0.2 < float(points[face].mean()) < 0.8
    x, y = (points[face, 30] * 96).long().clamp(0, 95).unbind(1)
    assert (labels[face][torch.arange(len(x)), y, x] == 6).float().mean() > 0.8
    assert bool((points[face, 36, 0] < points[face, 45, 0]).all())  # mirrored faces have their points renumbered
    frames, where, size = finder_batch(FaceSource(large, faces), plain, random)
    assert frames.shape == (64, 3, 64, 64)
    assert where.shape == (64, 4, 2)
    assert bool(((where[size > 0] > -0.05) & (where[size > 0] < 1.05)).all())
    assert 0.6 < float((size[8:, 0] > 0).float().mean()) < 1


def test_pictures_stay_pictures() -> None:
    random = torch.Generator().manual_seed(1)
    images = torch.rand(6, 3, 32, 32, generator=random)
    for changed in (
        relight(images, random),
        degrade(images, random),
        lower(images.repeat(8, 1, 1, 1), random),
        occlude(images, images, random, 1.0),
    ):
        assert changed.shape[1:] == images.shape[1:]
        assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
        assert not torch.equal(changed, images.repeat(len(changed) // 6, 1, 1, 1))


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


def test_a_named_label_is_no_wrong_text_of_what_shows_it() -> None:
    """Rows: a happy clip; two happy faces, one of them named; an angry face."""
    texts, shown, told = ["a", "b", "happy", "c"], ["happy", "happy", "happy", "anger"], ["", "", "happy", ""]
    expected = torch.eye(4, dtype=torch.bool)
    expected[2, :3] = expected[:3, 2] = True
    assert torch.equal(no_pairs(texts, shown, told), expected)


def test_mirrored_text_exchanges_sides() -> None:
    assert mirrored("the left brow rises, then the right") == "the right brow rises, then the left"
    assert mirrored("leftovers, upright") == "leftovers, upright"


def test_parts_of_a_text_are_runs_of_its_sentences() -> None:
    random = torch.Generator().manual_seed(0)
    parts = {part_of("The brows rise. Then the jaw drops. It fades.", random) for _ in range(200)}
    assert parts == {
        "The brows rise.",
        "Then the jaw drops.",
        "It fades.",
        "The brows rise. Then the jaw drops.",
        "Then the jaw drops. It fades.",
        "The brows rise. Then the jaw drops. It fades.",
    }
    assert part_of("an expression of fear", random) == "an expression of fear"


def test_crops_show_the_face_at_the_pipelines_margin(pool: Pool) -> None:
    straight = rendered_crops(pool, torch.arange(8), torch.zeros(8) > 0, None)
    assert straight.images.shape == (8, 3, 80, 80)
    extent = (straight.points.amax(1) - straight.points.amin(1)).amax(1)
    assert torch.allclose(extent, torch.full((8,), 1 / 1.5), atol=1e-4)
    turned = rendered_crops(pool, torch.arange(8), torch.ones(8) > 0, None)
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
    batch = rendered_crops(pool, torch.arange(4), torch.zeros(4) > 0, None)
    usual = torch.zeros(SIGNALS), torch.ones(SIGNALS)
    features, loss = Hints(128, 128, usual, 0)(visual, batch)
    assert torch.allclose(features, visual(batch.images), atol=1e-5)
    assert loss.isfinite()
    exact = torch.full((4, 11, 20, 20), -20.0).scatter(1, batch.labels[:, None].clamp(min=0), 20.0)
    blocks = exact.unflatten(3, (5, 4)).unflatten(2, (5, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(2)
    hints = Hints(128, 128, usual, 0)
    hints.classes = PutInPlace(blocks)
    hints.points = PutInPlace((batch.points - 0.5).flatten(1))
    hints.units = PutInPlace(batch.units)
    hints.shape = PutInPlace(batch.shape)
    assert float(hints(visual, batch)[1].detach()) < 1e-4


def test_crops_of_real_faces_know_the_signals_and_mirror_them(pool: Pool, faces: RealFaces) -> None:
    index = torch.arange(6)
    straight, turned = (real_crops(faces, index, torch.full((6,), flip), None) for flip in (False, True))
    assert torch.equal(straight.signals, torch.from_numpy(faces.signals[:6]))
    names = blendshape_names()
    left, right = names.index("mouthSmileLeft"), names.index("mouthSmileRight")
    assert torch.equal(turned.signals[:, left], straight.signals[:, right])
    assert torch.equal(turned.signals[:, 53:], -straight.signals[:, 53:])  # yaw and roll
    assert straight.units.isnan().all()
    assert (straight.labels == -1).any()
    both = joined(straight, rendered_crops(pool, index, torch.zeros(6) > 0, None))
    assert both.signals[6:].isnan().all()
    hints = Hints(128, 128, usual_signals(faces), 2)
    assert hints(load_clip("tiny", "random").model.visual, both)[1].isfinite()


def test_mirrored_signals_are_an_involution() -> None:
    partner = mirrored_signals()
    assert [partner[other] for other in partner] == list(range(SIGNALS))
    assert sum(other != row for row, other in enumerate(partner)) == 40


def test_rare_labels_are_drawn_more_often() -> None:
    weights = rarity(np.array(["a"] * 8 + ["b"] * 2), power=1)
    assert math.isclose(weights[:8].sum(), weights[8:].sum())
    assert len(set(rarity(np.array(["a"] * 8 + ["b"] * 2), least=10).tolist())) == 1


def test_real_faces_are_read_from_files_or_tar_and_never_from_the_test_part(tmp_path: Path) -> None:
    from PIL import Image

    rows = [{"path": f"pictures/{i}.png", "label": "anger", "identity": f"p{i}"} for i in range(30)]
    (tmp_path / "pictures").mkdir()
    for i, row in enumerate(rows):
        Image.new("RGB", (8 + i, 9), (8 * i, 0, 0)).save(tmp_path / row["path"])
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    train, test = read_rows(tmp_path), read_rows(tmp_path, test=True)
    assert train and test and len(train) + len(test) == 30
    assert not {row["identity"] for row in train} & {row["identity"] for row in test}
    with tarfile.open(tmp_path / "pictures.tar", "w") as tar:
        tar.add(tmp_path / "pictures", "pictures")
    for row in rows:
        (tmp_path / row["path"]).unlink()
    shapes = [picture.shape for picture in read_pictures(tmp_path, [row["path"] for row in rows])]
    assert shapes == [(9, 8 + i, 3) for i in range(30)]
    assert is_test({"identity": "x", "part": "test"})
    assert not is_test({"identity": "x", "part": "train"})
    with pytest.raises(FclipError, match="REAL_FACES"):
        read_rows(tmp_path / "none")


def test_a_real_picture_and_what_mediapipe_says_of_it(
    tmp_path: Path, samples: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("FCLIP_MODELS", str(models_dir))
    (tmp_path / "happy.jpg").write_bytes((samples / "images" / "single_face.jpg").read_bytes())
    (tmp_path / "labels.csv").write_text("path,label,identity,part\nhappy.jpg,happiness,p1,train\n")
    real = load_real(tmp_path)
    assert real.frames.shape == (1, SIZE, SIZE, 3)
    x, y = (real.landmarks[0, 30] * SIZE).astype(int)  # the nose's tip
    assert real.parsing[0, y, x] == 6
    assert (real.parsing == UNKNOWN).mean() > 0.2
    assert real.signals[0, blendshape_names().index("mouthSmileLeft")] > 0.5
    assert abs(real.signals[0, 52:] * DEGREES).max() < 45
    texts = face_texts(real, 0)
    assert PROMPT.format("happiness") in texts["human"]
    assert "corners" in texts["movement"][0]
    (tmp_path / "about.json").write_text(json.dumps({"source": "somewhere", "licence": "CC0"}))
    about = {"source": "somewhere", "licence": "CC0", "pictures": 1, "identities": 1}
    assert training_data(7, tmp_path, real) == {"rendered_clips": 7, "real": about}
    assert training_data(7, None, None) == {"rendered_clips": 7, "real": None}


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
    for name, overlap in (("frames_160", 0.77), ("crops_80", 0.74)):  # a brow of a small crop is two pixels thick
        row = figures["lite"][name]
        assert row["landmark_error"] <= 0.04
        assert row["parsing_iou"] >= overlap
        assert row["faces_found"] >= 0.99
        assert row["false_faces"] <= 0.02
    assert 100 / 7 + 10 < figures["tiny"]["zero_shot_accuracy"] < 75
