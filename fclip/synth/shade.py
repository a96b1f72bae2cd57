"""Light on a face: a small picture of soft factors (relief, shadows, blush, beard) that the frame is multiplied by."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fclip.synth.draw import Frame, Points
from fclip.synth.identity import Identity
from fclip.synth.look import Look

WIDTH = 80  # pixels of the small picture
ONE = 110  # grey level that means factor 1


class _Soft:
    """Draws factors into the small picture; points come in pixels of the canvas."""

    def __init__(self, frame: Frame, canvas_width: int) -> None:
        self.image = Image.new("RGB", (WIDTH, WIDTH), (ONE, ONE, ONE))
        self._draw = ImageDraw.Draw(self.image)
        self._frame, self._ratio = frame, WIDTH / canvas_width

    def _scaled(self, name: str) -> Points:
        return [v * self._ratio for v in self._frame.curves[name]]

    def fill(self, name: str, *factors: float) -> None:
        """Fill a curve with one factor, or with one each for red, green and blue."""
        self._draw.polygon(self._scaled(name), fill=_levels(factors))

    def line(self, name: str, width: float, *factors: float) -> None:
        """Draw a curve as a line of `width` face units."""
        pixels = max(1, round(width * self._frame.unit * self._ratio))
        self._draw.line(self._scaled(name), fill=_levels(factors), width=pixels)


def _levels(factors: tuple[float, ...]) -> tuple[int, int, int]:
    red, green, blue = factors if len(factors) == 3 else factors * 3
    return min(255, round(ONE * red)), min(255, round(ONE * green)), min(255, round(ONE * blue))


def relief(
    frame: Frame, who: Identity, look: Look, canvas_width: int, centre: np.ndarray, scale: float, roll: float
) -> Image.Image:
    """Factors as an RGB picture of WIDTH x WIDTH (ONE = 1): soft features times directed light.

    centre (2,) and scale as in render.Scene; roll in degrees.
    """
    soft = _Soft(frame, canvas_width)
    _features(soft, frame, look)
    _facial_hair(soft, frame, who)
    features = np.asarray(soft.image.filter(ImageFilter.GaussianBlur(1.3)), dtype=np.float32)
    factors = features * _directed(look, centre, scale, roll)[..., None]
    return Image.fromarray(np.minimum(factors, 255).astype(np.uint8))


def _facial_hair(soft: _Soft, frame: Frame, who: Identity) -> None:
    """A beard as soft darkening of the skin towards the colour of the hair."""
    if who.beard == "none":
        return
    density = 0.35 if who.beard == "stubble" else 0.9
    colour = [1 - density + density * hair / skin for hair, skin in zip(who.hair, who.skin, strict=True)]
    for name in ("beard", "moustache"):
        if name in frame.curves:
            soft.fill(name, *colour)
    for name in ("upper_lip", "lower_lip", "inner_mouth"):
        soft.fill(name, 1.0)


def _features(soft: _Soft, frame: Frame, look: Look) -> None:
    strong, act = frame.creases, frame.activity
    soft.fill("neck_shadow", 0.66)
    soft.fill("forehead_shine", 1.07)
    if "sheen" in frame.curves:
        soft.line("sheen", 0.16, 1.3)
    for side, sign in (("left", 1), ("right", -1)):
        soft.fill(f"socket_{side}", 0.84, 0.82, 0.83)
        glow = 0.05 + 0.1 * act["AU6"] + 0.06 * act[f"AU12_{side}"]
        soft.fill(f"cheek_{side}", 1.05 + glow, 0.99 + glow, 0.99 + glow)
        soft.fill(f"nose_side_{side}", 0.86 + 0.12 * sign * look.light[0])
        fold = 0.3 * strong[f"nasolabial_{side}"]
        if fold > 0.03:
            soft.line(f"nasolabial_{side}", 0.12, 1 - fold)
    soft.fill("nose_under", 0.76)
    soft.line("nose_ridge", 0.07, 1.15)
    soft.fill("nose_tip", 1.17, 1.13, 1.12)
    soft.fill("chin", 1.06)
    soft.line("under_lip", 0.07, 0.8)
    if strong["frown"] > 0.15:
        soft.fill("brow_gap", 1 - 0.25 * strong["frown"])


def _directed(look: Look, centre: np.ndarray, scale: float, roll: float) -> np.ndarray:
    """Lambert's light on an egg around the head: factors (WIDTH, WIDTH) float32, about 1 on average."""
    grid = (np.arange(WIDTH, dtype=np.float32) + 0.5) / WIDTH
    x, y = (grid - np.float32(centre[0])) / np.float32(scale), (grid - np.float32(centre[1])) / np.float32(scale)
    cos, sin = np.float32(np.cos(np.deg2rad(roll))), np.float32(np.sin(np.deg2rad(roll)))
    u = (cos * x[None, :] + sin * y[:, None]) / 1.3
    v = (cos * y[:, None] - sin * x[None, :] + 0.25) / 1.95
    shrink = 0.97 / np.maximum(np.sqrt(u * u + v * v), 0.97)  # beyond the egg the light stays as at its rim
    u, v = u * shrink, v * shrink
    depth = np.sqrt(1 - u * u - v * v)
    lit = np.clip(u * look.light[0] + v * look.light[1] + depth * look.light[2], 0, 1)
    return (1 + 1.1 * look.contrast * (lit - 0.72)).astype(np.float32)
