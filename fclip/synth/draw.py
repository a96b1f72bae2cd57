"""Painting one frame of a face: a colour picture and a map of face parts, from curves in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from fclip.records import PARSING_CLASSES
from fclip.synth.identity import Colour, Identity
from fclip.synth.look import Occluder

Points = list[float]  # x0, y0, x1, y1, ... in pixels of the canvas
PART = {name: number for number, name in enumerate(PARSING_CLASSES)}
BODY, THING = len(PART), len(PART) + 1  # neck, ears, clothes; a thing in front: background in the parsing


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of colour b in colour a."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def tint(colour: Colour, factor: float) -> Colour:
    """A darker (factor < 1) or lighter colour."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


@lru_cache(maxsize=8192)
def ink(colour: Colour) -> tuple[int, int, int]:
    """The colour as whole numbers 0..255."""
    red, green, blue = (min(255, max(0, round(value))) for value in colour)
    return red, green, blue


class Canvas:
    """A colour picture and a parts map of the same size, painted together."""

    def __init__(self, background: Image.Image) -> None:
        self.picture = background.copy()
        self.parts = Image.new("L", background.size, 0)
        self._draw, self._draw_parts = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.parts)

    def fill(self, points: Points, colour: Colour, part: int | None = None) -> None:
        """Fill a polygon; with `part` also in the parts map."""
        self._draw.polygon(points, fill=ink(colour))
        if part is not None:
            self._draw_parts.polygon(points, fill=part)

    def line(self, points: Points, colour: Colour, width: float, part: int | None = None) -> None:
        """Draw a line of `width` pixels."""
        across = max(1, round(width))
        self._draw.line(points, fill=ink(colour), width=across)
        if part is not None:
            self._draw_parts.line(points, fill=part, width=across)

    def disc(self, centre: Points, radius: float, colour: Colour, part: int) -> None:
        """Draw a disc around `centre` (x, y)."""
        x, y = centre
        box = [x - radius, y - radius, x + radius, y + radius]
        self._draw.ellipse(box, fill=ink(colour))
        self._draw_parts.ellipse(box, fill=part)


@dataclass(frozen=True)
class Frame:
    """One frame to paint.

    `curves` in pixels; `creases`: how dark each family of skin folds is, 0..1, and `crease_lines`: the curves of each
    (curve -> family); `unit`: pixels per face unit; `activity`: some action units, and mouth_gap, the opening between
    the lips in face units.
    """

    curves: dict[str, Points]
    creases: dict[str, float]
    crease_lines: dict[str, str]
    unit: float
    activity: dict[str, float]


def paint_face(canvas: Canvas, frame: Frame, who: Identity) -> None:
    """Paint body, head, features, hair and glasses in depth order."""
    _body(canvas, frame, who)
    _head(canvas, frame, who)
    _creases(canvas, frame, who)
    _nose(canvas, frame, who)
    for side in ("left", "right"):
        _eye(canvas, frame, who, side)
    _mouth(canvas, frame, who)
    _hair(canvas, frame, who)
    if who.glasses != "none":
        _glasses(canvas, frame, who)


def _body(canvas: Canvas, frame: Frame, who: Identity) -> None:
    curves = frame.curves
    for name in ("bun", "hair_back"):
        if name in curves:
            canvas.fill(curves[name], tint(who.hair, 0.72), PART["hair"])
    canvas.fill(curves["shoulders"], who.clothes, BODY)
    canvas.fill(curves["neck"], tint(who.skin, 0.82), BODY)
    canvas.line(curves["collar"], tint(who.clothes, 0.7), 0.06 * frame.unit)


def _head(canvas: Canvas, frame: Frame, who: Identity) -> None:
    curves = frame.curves
    canvas.fill(curves["skull"], tint(who.skin, 0.98 if who.hair_style == "bald" else 0.9), PART["skin"])
    if "hair_cap" in curves:
        canvas.fill(curves["hair_cap"], tint(who.hair, 0.85), PART["hair"])
    if "hair_back" not in curves:
        for side in ("left", "right"):
            canvas.fill(curves[f"ear_{side}"], tint(who.skin, 0.92), BODY)
            canvas.fill(curves[f"ear_hole_{side}"], tint(who.skin, 0.75))
    canvas.fill(curves["face"], who.skin, PART["skin"])
    for number in range(len(who.moles)):
        canvas.fill(curves[f"mole_{number}"], tint(who.skin, 0.55))


def _creases(canvas: Canvas, frame: Frame, who: Identity) -> None:
    dark = tint(mix(who.skin, (120.0, 50.0, 40.0), 0.25), 0.52)
    for name, family in frame.crease_lines.items():
        strength = frame.creases[family]
        if strength > 0.06:
            width = (0.015 + 0.025 * strength) * frame.unit
            canvas.line(frame.curves[name], mix(who.skin, dark, min(1.0, strength)), width)


def _nose(canvas: Canvas, frame: Frame, who: Identity) -> None:
    curves, unit = frame.curves, frame.unit
    canvas.fill(curves["nose"], mix(who.skin, (200.0, 90.0, 80.0), 0.05), PART["nose"])
    for side in ("left", "right"):
        canvas.line(curves[f"wing_{side}"], tint(who.skin, 0.72), 0.025 * unit)
        canvas.fill(curves[f"nostril_{side}"], tint(who.skin, 0.36))


def _eye(canvas: Canvas, frame: Frame, who: Identity, side: str) -> None:
    curves, unit, skin = frame.curves, frame.unit, who.skin
    white = mix((232.0, 226.0, 220.0), skin, 0.15)
    canvas.fill(curves[f"eye_{side}"], white, PART[f"{side}_eye"])
    canvas.fill(curves[f"rim_of_iris_{side}"], tint(who.iris, 0.45))
    canvas.fill(curves[f"iris_{side}"], who.iris)
    canvas.fill(curves[f"pupil_{side}"], (14.0, 12.0, 12.0))
    canvas.line(curves[f"lid_shadow_{side}"], tint(white, 0.62), 0.02 * unit)
    canvas.fill(curves[f"glint_{side}"], (245.0, 245.0, 245.0))
    lash = mix(skin, (18.0, 13.0, 12.0), 0.8 + 0.2 * who.make_up)
    canvas.line(curves[f"crease_{side}"], tint(skin, 0.68), 0.022 * unit)
    canvas.line(curves[f"lid_{side}"], tint(skin, 0.62), 0.018 * unit)
    canvas.line(curves[f"lash_{side}"], lash, (0.03 + 0.02 * who.make_up) * unit)
    canvas.fill(curves[f"brow_{side}"], who.brows, PART[f"{side}_brow"])


def _mouth(canvas: Canvas, frame: Frame, who: Identity) -> None:
    curves, unit = frame.curves, frame.unit
    canvas.fill(curves["upper_lip"], tint(who.lips, 0.87), PART["upper_lip"])
    canvas.fill(curves["lower_lip"], who.lips, PART["lower_lip"])
    canvas.line(curves["lip_shine"], mix(who.lips, (255.0, 235.0, 230.0), 0.22), 0.03 * unit)
    if frame.activity["mouth_gap"] > 0.012:
        canvas.fill(curves["inner_mouth"], (52.0, 16.0, 18.0), PART["inner_mouth"])
        canvas.fill(curves["tongue"], (150.0, 70.0, 72.0))
        canvas.fill(curves["teeth"], (226.0, 219.0, 205.0))
        canvas.fill(curves["low_teeth"], (205.0, 198.0, 184.0))
    else:
        canvas.line(curves["lip_line"], tint(who.lips, 0.48), 0.022 * unit)


def _hair(canvas: Canvas, frame: Frame, who: Identity) -> None:
    curves, unit = frame.curves, frame.unit
    for name in ("lock_left", "lock_right", "hair_front"):
        if name in curves:
            canvas.fill(curves[name], tint(who.hair, 0.88 if name.startswith("lock") else 1.0), PART["hair"])
    for name, points in curves.items():
        if name.startswith("strand_"):
            canvas.line(points, tint(who.hair, (0.78, 1.16, 0.9, 1.3)[int(name[7:]) % 4]), 0.018 * unit)


def _glasses(canvas: Canvas, frame: Frame, who: Identity) -> None:
    width = {"round": 0.035, "square": 0.05, "thin": 0.02}[who.glasses] * frame.unit
    for side in ("left", "right"):
        rim = frame.curves[f"rim_{side}"]
        canvas.line(frame.curves[f"temple_{side}"], who.frame_colour, width)
        canvas.line(rim + rim[:4], who.frame_colour, width)
    canvas.line(frame.curves["bridge"], who.frame_colour, width)


def paint_occluder(canvas: Canvas, thing: Occluder, middle: np.ndarray, unit: float) -> None:
    """Paint a thing in front of the face around `middle` (2,); `unit` as in Frame."""
    angle, size = np.deg2rad(thing.angle), thing.size * unit
    along, across = np.array([np.sin(angle), -np.cos(angle)]), np.array([np.cos(angle), np.sin(angle)])

    def at(*places: tuple[float, float]) -> Points:
        return [float(v) for a, b in places for v in middle + size * (a * across + b * along)]

    if thing.kind == "block":
        canvas.fill(at((-0.6, -0.8), (0.6, -0.8), (0.6, 0.8), (-0.6, 0.8)), thing.colour, THING)
        canvas.line(at((-0.5, 0.6), (0.5, 0.6)), tint(thing.colour, 0.7), 0.05 * unit)
    elif thing.kind == "microphone":
        canvas.line(at((0, 0), (0, -9)), tint(thing.colour, 1.4), 0.16 * unit, THING)
        canvas.disc(at((0, 0)), size, thing.colour, THING)
        canvas.disc(at((-0.2, 0.2)), size * 0.5, tint(thing.colour, 1.5), THING)
    else:
        canvas.fill(at((-0.3, -0.2), (0.32, -0.2), (0.34, -2.5), (-0.3, -2.5)), tint(thing.colour, 0.86), THING)
        canvas.disc(at((0, 0)), 0.42 * size, tint(thing.colour, 0.9), THING)
        for b, length in ((-0.32, 0.72), (-0.12, 0.85), (0.1, 0.82), (0.3, 0.66)):
            for tone, thick in ((0.68, 0.21), (0.97, 0.17)):
                canvas.line(at((b, 0.1), (b * 1.25, length)), tint(thing.colour, tone), thick * size, THING)
                canvas.disc(at((b * 1.25, length)), thick * size / 2, tint(thing.colour, tone), THING)
