"""Who is drawn: shape, colours, hair and things worn by one rendered person, the same in all their clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fclip.files import resource_json

Colour = tuple[float, float, float]

SHAPE_PARAMETERS = (
    "face_width",
    "face_length",
    "jaw_width",
    "chin_point",
    "forehead",
    "cheek",
    "eye_distance",
    "eye_size",
    "eye_slant",
    "eye_height",
    "eye_open",
    "brow_height",
    "brow_tilt",
    "brow_arch",
    "nose_length",
    "nose_width",
    "nose_depth",
    "mouth_width",
    "mouth_height",
    "mouth_curve",
    "upper_lip",
    "lower_lip",
)  # standard scores, clipped to [-2, 2]; geometry.py says what each one changes


@dataclass(frozen=True)
class Identity:
    """One person. `shape` maps SHAPE_PARAMETERS to standard scores; colours are RGB in 0..255; sizes in face units."""

    number: int
    gender: str  # "woman" or "man": used for looks and captions only
    age: str  # "young", "middle-aged" or "old"
    shape: dict[str, float]
    skin: Colour
    lips: Colour
    hair: Colour
    brows: Colour
    iris: Colour
    clothes: Colour
    brow_thickness: float
    hair_style: str  # "bald", "short", "side", "fringe", "long", "bun", "curly"
    hairline: float  # height of the hairline above the brows' normal place, in face units
    beard: str  # "none", "stubble", "moustache", "goatee", "full"
    glasses: str  # "none", "round", "square", "thin"
    frame_colour: Colour
    wrinkles: float  # 0..1: how strongly lines show
    expressiveness: float  # factor on every action unit
    asymmetry: float  # -1..1: which side of the face moves more
    make_up: float  # 0..1: darker lashes and redder lips
    moles: tuple[tuple[float, float], ...]


def _pick(rng: np.random.Generator, names: tuple[str, ...], weights: tuple[float, ...]) -> str:
    probabilities = np.asarray(weights) / np.sum(weights)
    return names[int(rng.choice(len(names), p=probabilities))]


def _mix(a: np.ndarray, b: np.ndarray, share: float) -> Colour:
    mixed = np.asarray(a) * (1 - share) + np.asarray(b) * share
    return float(mixed[0]), float(mixed[1]), float(mixed[2])


def _skin(rng: np.random.Generator) -> np.ndarray:
    """A skin tone between two neighbours of the palette, slightly shifted."""
    palette = np.array(resource_json("palette.json")["skin"], dtype=float)
    place = rng.uniform(0, len(palette) - 1.001)
    low = int(place)
    tone = palette[low] + (palette[low + 1] - palette[low]) * (place - low)
    return np.clip(tone + rng.normal(0, 4, 3), 20, 250)


def _colour_near(rng: np.random.Generator, name: str, spread: float) -> np.ndarray:
    palette = np.array(resource_json("palette.json")[name], dtype=float)
    return np.clip(palette[rng.integers(len(palette))] + rng.normal(0, spread, 3), 8, 245)


def _hair(rng: np.random.Generator, skin: np.ndarray, age: str) -> np.ndarray:
    """Grey for most old people; dark skin mostly comes with dark hair."""
    if age == "old" and rng.random() < 0.7:
        return _colour_near(rng, "hair_old", 8)
    dark = skin.mean() < 150 and rng.random() < 0.85
    return _colour_near(rng, "hair_dark" if dark else "hair", 7)


def sample_identity(identity: int) -> Identity:
    """Draw the person with this number; equal numbers give equal people."""
    rng = np.random.default_rng([7919, identity])
    gender = "woman" if rng.random() < 0.5 else "man"
    age = _pick(rng, ("young", "middle-aged", "old"), (0.5, 0.35, 0.15))
    skin = _skin(rng)
    hair = _hair(rng, skin, age)
    make_up = float(rng.uniform(0.2, 1.0)) if gender == "woman" and rng.random() < 0.6 else 0.0
    lip_red = np.array([150.0, 40.0, 60.0])
    woman = gender == "woman"
    return Identity(
        number=identity,
        gender=gender,
        age=age,
        shape={name: float(np.clip(rng.normal(), -2, 2)) for name in SHAPE_PARAMETERS},
        skin=_mix(skin, skin, 0.0),
        lips=_mix(skin * np.array([0.92, 0.68, 0.68]), lip_red, 0.15 + 0.45 * make_up),
        hair=_mix(hair, hair, 0.0),
        brows=_mix(hair, skin, float(rng.uniform(0.0, 0.3))) if rng.random() < 0.8 else _mix(skin * 0.35, hair, 0.2),
        iris=_mix(_colour_near(rng, "iris_dark" if skin.mean() < 150 else "iris", 7), np.zeros(3), 0.1),
        clothes=_mix(rng.uniform(15, 235, 3), np.full(3, 90.0), 0.4),
        brow_thickness=float(rng.uniform(0.035, 0.065) if woman else rng.uniform(0.05, 0.09)),
        hair_style=_pick(
            rng,
            ("bald", "short", "side", "fringe", "long", "bun", "curly"),
            (0, 1, 1, 2, 4, 2, 1) if woman else (1.5, 4, 3, 1, 0.6, 0.2, 1),
        ),
        hairline=float(rng.uniform(-0.12, 0.12) + (0.1 if age == "old" else 0.0)),
        beard="none" if woman else _pick(rng, ("none", "stubble", "moustache", "goatee", "full"), (5, 2, 1, 1, 1.5)),
        glasses=_pick(rng, ("none", "round", "square", "thin"), (7.2, 1, 1, 0.8)),
        frame_colour=_mix(_colour_near(rng, "glasses", 5), np.zeros(3), 0.0),
        wrinkles=float(rng.uniform(0.15, 0.5) + {"young": 0.0, "middle-aged": 0.2, "old": 0.45}[age]),
        expressiveness=float(rng.uniform(0.85, 1.12)),
        asymmetry=float(np.clip(rng.normal(0, 0.35), -1, 1)),
        make_up=make_up,
        moles=tuple((float(rng.uniform(-0.7, 0.7)), float(rng.uniform(-0.9, 1.0))) for _ in range(rng.integers(0, 3))),
    )
