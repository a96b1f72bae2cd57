"""What the camera sees besides the face: light, background, a thing in front of the face, blur, noise, compression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fclip.synth.identity import Colour, sample_identity


@dataclass(frozen=True)
class Occluder:
    """A thing in front of the face. `x`, `y` in face units from the head's pivot, moving by `dx`, `dy` per second."""

    kind: str  # "hand", "block", "microphone"
    x: float
    y: float
    dx: float
    dy: float
    size: float
    angle: float  # degrees
    colour: Colour


@dataclass(frozen=True)
class Look:
    """Camera and light of a clip."""

    centre_x: float  # where the head's pivot lies in the frame, 0..1
    centre_y: float
    scale: float  # frame sizes per face unit
    light: tuple[float, float, float]  # towards the light: x right, y down, z to the camera; length 1
    contrast: float  # share of directed light
    gain: float
    cast: Colour  # factors of red, green, blue
    gradient: tuple[float, float]  # change of brightness over the frame, to the right and down
    background: int  # seed of the background picture
    blur: float  # standard deviation in 1/160 of the frame
    noise: float  # standard deviation in grey levels
    jpeg: int | None  # quality of a JPEG compression, or None
    occluder: Occluder | None


def sample_look(identity: int, rng: np.random.Generator) -> Look:
    """Draw camera, light and disturbances of one clip."""
    direction = np.array([rng.normal(0, 0.6), rng.normal(-0.35, 0.35), rng.uniform(0.5, 1.2)])
    direction /= np.linalg.norm(direction)
    height = rng.uniform(0.42, 0.70)  # of the frame, from hairline to chin
    room = max(0.0, 0.46 - height / 2)
    return Look(
        centre_x=float(0.5 + rng.uniform(-1, 1) * min(room + 0.04, 0.16)),
        centre_y=float(0.535 + rng.uniform(-1, 0.9) * room * 0.7),
        scale=float(height / 2.65),
        light=(float(direction[0]), float(direction[1]), float(direction[2])),
        contrast=float(rng.uniform(0.2, 0.75)),
        gain=float(np.clip(rng.normal(0.98, 0.15), 0.6, 1.3)),
        cast=(float(rng.normal(1.01, 0.04)), float(rng.normal(1, 0.015)), float(rng.normal(0.99, 0.05))),
        gradient=(float(rng.normal(0, 0.18)), float(rng.normal(0, 0.12))),
        background=int(rng.integers(2**31)),
        blur=float(rng.uniform(0.4, 1.1)) if rng.random() < 0.25 else 0.0,
        noise=float(rng.uniform(0.5, 6.0)),
        jpeg=int(rng.integers(30, 85)) if rng.random() < 0.25 else None,
        occluder=_sample_occluder(identity, rng) if rng.random() < 0.16 else None,
    )


def _sample_occluder(identity: int, rng: np.random.Generator) -> Occluder:
    kind = str(rng.choice(("hand", "block", "microphone"), p=(0.5, 0.25, 0.25)))
    side = rng.choice((-1.0, 1.0))
    skin = sample_identity(identity).skin
    x, y, size = {
        "hand": (side * rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.1), rng.uniform(0.8, 1.05)),
        "block": (side * rng.uniform(1.0, 1.5), rng.uniform(-0.6, 1.2), rng.uniform(0.5, 1.0)),
        "microphone": (side * rng.uniform(0.15, 0.5), rng.uniform(0.95, 1.25), rng.uniform(0.18, 0.28)),
    }[kind]
    tone = tuple(float(v) for v in rng.uniform(20, 220, 3)) if kind == "block" else (28.0, 28.0, 32.0)
    colour = skin if kind == "hand" else (tone[0], tone[1], tone[2])
    return Occluder(
        kind,
        float(x),
        float(y),
        float(rng.normal(0, 0.12)),
        float(rng.normal(0, 0.08)),
        float(size),
        float(rng.uniform(-35, 35)),
        colour,
    )


def _muted(rng: np.random.Generator) -> np.ndarray:
    """A colour of a wall or a thing: mostly greyish, seldom strong."""
    grey = rng.uniform(15, 225)
    return np.clip(grey + rng.normal(0, rng.choice((10.0, 22.0, 55.0), p=(0.45, 0.4, 0.15)), 3), 5, 245)


def paint_background(seed: int, size: int) -> Image.Image:
    """An out-of-focus room: a gradient with soft shapes; RGB, size x size."""
    rng = np.random.default_rng([15485863, seed])
    small = 96
    tone = _muted(rng)
    corners = np.stack([_muted(rng) for _ in range(4)]).reshape(2, 2, 3) * 0.5 + tone * 0.5
    image = Image.fromarray(corners.clip(0, 255).astype(np.uint8))
    image = image.resize((small, small), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 9))):
        x, y = rng.uniform(-20, small, 2)
        w, h = rng.uniform(5, 60, 2)
        colour = tuple(int(v) for v in _muted(rng))
        shape = draw.ellipse if rng.random() < 0.4 else draw.rectangle
        shape((x, y, x + w, y + h), fill=colour)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 5))))
    return image.resize((size, size), Image.Resampling.BILINEAR)
