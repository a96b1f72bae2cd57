"""Parsing and landmark images against a plain numpy reference; mirroring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.errors import UsageError
from fclip.faces.landmarks import landmark_parts
from fclip.faces.maps import STYLES, flip_landmarks, flip_parsing, landmark_images, parsing_images
from fclip.files import resource_json
from fclip.records import PARSING_CLASSES

STEP = 1 / 255


def _reference(points: np.ndarray, size: tuple[int, int], style: str, radius: float) -> np.ndarray:
    """Landmarks (68, 2) as (3, H, W): the distance of every pixel to every point or line, nothing clever."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    image = np.zeros((3, height, width))
    for part in landmark_parts():
        own = points[part.start : part.stop] * (width, height)
        if style == "contours":
            ends = list(zip(own, [*own[1:], *([own[0]] if part.closed else [])], strict=False))
            distances = [_to_segment(x, y, a, b) for a, b in ends]
        else:
            distances = [np.hypot(x - px, y - py) for px, py in own]
        for distance in distances:
            if style == "gaussians":
                alpha = (np.exp(-(distance**2) / (2 * radius**2)) - np.exp(-4.5)) / (1 - np.exp(-4.5))
            else:
                alpha = (radius / 2 if style == "contours" else radius) + 0.5 - distance
            colour = np.array(part.colour)[:, None, None] / 255
            image = np.maximum(image, np.clip(alpha, 0, 1) * colour)
    return image


def _to_segment(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    share = ((x - a[0]) * (b[0] - a[0]) + (y - a[1]) * (b[1] - a[1])) / max(((b - a) ** 2).sum(), 1e-12)
    share = share.clip(0, 1)
    return np.hypot(x - a[0] - share * (b[0] - a[0]), y - a[1] - share * (b[1] - a[1]))


def _face(rng: np.random.Generator, count: int = 1) -> np.ndarray:
    """Points about where a face's are: the parts on small circles."""
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = 0.5 + np.stack([np.cos(3 * turn), np.sin(5 * turn)], -1) * 0.3
    return (points + rng.normal(0, 0.03, (count, 68, 2))).astype(np.float32)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("style", ["discs", "gaussians"])
@pytest.mark.parametrize("size", [(80, 80), (50, 120)])
def test_landmark_images_equal_the_reference(style: str, size: tuple[int, int], device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    points = _face(np.random.default_rng(1), 2)
    points[1, :20] *= 1.5  # some outside
    images = landmark_images(torch.from_numpy(points)[None].to(device), size, style, radius=2.3)
    assert images.shape == (1, 2, 3, *size) and images.dtype == torch.float32
    for image, own in zip(images[0].cpu().numpy(), points, strict=True):
        assert np.abs(image - _reference(own, size, style, 2.3)).max() < STEP


@pytest.mark.parametrize("size", [(96, 96), (224, 180)])
def test_contours_equal_the_reference(size: tuple[int, int]) -> None:
    """Each part on its own circle, the jaw's half as large as the picture."""
    points = np.zeros((68, 2), np.float32)
    for number, part in enumerate(landmark_parts()):
        turn = np.linspace(0, 2 * np.pi, part.stop - part.start, endpoint=False)
        circle = np.stack([np.cos(turn), np.sin(turn)], -1) * (0.3 if part.name == "jaw" else 0.12)
        points[part.start : part.stop] = (0.3 + 0.05 * number, 0.7 - 0.05 * number) + circle
    image = landmark_images(torch.from_numpy(points), size, "contours", radius=3).numpy()
    assert np.abs(image - _reference(points, size, "contours", 3)).max() < STEP


def test_default_radius_grows_with_the_image() -> None:
    points = torch.full((68, 2), 0.5)
    lit = [(landmark_images(points, size) > 0.5).any(0).sum().item() for size in (80, 224, 448)]
    assert lit[0] <= 5 and 18 <= lit[1] <= 30 and 80 <= lit[2] <= 110


@pytest.mark.parametrize("style", STYLES)
def test_frames_without_a_face_are_black(style: str) -> None:
    points = torch.from_numpy(_face(np.random.default_rng(0), 3))
    points[0], points[1, 5, 0] = 0, torch.nan
    lit = landmark_images(points, 40, style).flatten(1).amax(1)
    assert lit[:2].tolist() == [0, 0] and lit[2] > 0.9


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=32), min_size=4, max_size=4), st.sampled_from(STYLES), st.integers(1, 40))
def test_wild_landmarks_stay_in_range(values: list[float], style: str, size: int) -> None:
    points = torch.tensor(values).repeat(34).view(68, 2)
    image = landmark_images(points, size, style)
    assert image.shape == (3, size, size) and image.isfinite().all() and image.min() >= 0 and image.max() <= 1


def test_unknown_style() -> None:
    with pytest.raises(UsageError, match="discs, contours, gaussians"):
        landmark_images(torch.zeros(68, 2), 8, "dots")


def test_parsing_images_are_the_palette() -> None:
    rng = np.random.default_rng(0)
    parsing = rng.integers(0, len(PARSING_CLASSES), (2, 3, 9, 7)).astype(np.uint8)
    palette = np.array([resource_json("parsing_palette.json")[name] for name in PARSING_CLASSES])
    expected = np.moveaxis(palette[parsing], -1, 2) / 255
    images = parsing_images(torch.from_numpy(parsing))
    assert images.shape == (2, 3, 3, 9, 7)
    assert np.abs(images.numpy() - expected).max() < 1e-6
    assert len({tuple(colour) for colour in palette.tolist()}) == len(PARSING_CLASSES)
    assert not parsing_images(torch.full((2, 2), 200, dtype=torch.uint8)).any()


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_mirroring(convert) -> None:
    rng = np.random.default_rng(0)
    parsing = rng.integers(0, len(PARSING_CLASSES), (2, 5, 6)).astype(np.uint8)
    flipped = np.asarray(flip_parsing(convert(parsing)))
    left, right = PARSING_CLASSES.index("left_eye"), PARSING_CLASSES.index("right_eye")
    assert np.array_equal(flipped == left, parsing[..., ::-1] == right)
    assert np.array_equal(flipped == PARSING_CLASSES.index("nose"), parsing[..., ::-1] == PARSING_CLASSES.index("nose"))
    assert np.array_equal(np.asarray(flip_parsing(convert(flipped))), parsing) and flipped.dtype == np.uint8

    points = _face(rng, 3)
    points[1] = 0
    mirrored = np.asarray(flip_landmarks(convert(points)))
    assert np.allclose(mirrored[0, 36], (1 - points[0, 45, 0], points[0, 45, 1]))  # outer eye corners
    assert np.allclose(mirrored[0, 48], (1 - points[0, 54, 0], points[0, 54, 1]))  # mouth corners
    assert not mirrored[1].any()  # no face stays no face
    assert np.allclose(np.asarray(flip_landmarks(convert(mirrored))), points, atol=1e-6)


def test_mirrored_landmarks_draw_the_mirrored_image() -> None:
    """Up to colours: left and right brow and eye change theirs."""
    points = torch.from_numpy(_face(np.random.default_rng(3)))
    image, mirrored = (landmark_images(p, 64).amax(1) > 0 for p in (points, flip_landmarks(points)))
    assert torch.equal(image.flip(-1), mirrored)
