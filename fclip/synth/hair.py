"""Hair as 3D curves: a part behind the head, a part in front of it, strands that give it texture."""

from __future__ import annotations

import numpy as np

from fclip.synth.geometry import ellipse, smooth
from fclip.synth.identity import Identity
from fclip.synth.outlines import both_sides

VOLUME = {"short": 0.05, "side": 0.1, "fringe": 0.1, "long": 0.12, "bun": 0.06, "curly": 0.26}


def hair_curves(identity: Identity) -> dict[str, np.ndarray]:
    """Curves (n, 3) of the person's hair: hair_front, hair_cap, sheen, strand_*; by style hair_back, lock_*, bun."""
    style = identity.hair_style
    if style == "bald":
        return {}
    rng = np.random.default_rng([104729, identity.number])
    volume = VOLUME[style] + rng.uniform(0, 0.05)
    width = 1 + 0.03 * identity.shape["face_width"]
    low = {"short": -0.15, "fringe": 0.1, "bun": -0.1}.get(style, 0.15)
    outer_half = np.array(
        [
            [1.02, low, 0.2],
            [1.07 + volume * 0.5, -0.45, 0.12],
            [1.0 + volume, -0.95, -0.05],
            [0.72 + volume * 0.6, -1.42 - volume * 0.5, -0.2],
            [0.36, -1.68 - volume, -0.2],
            [0.0, -1.74 - volume, -0.2],
        ]
    ) * [width, 1, 1]
    outer = smooth(both_sides(outer_half), 3)
    if style == "curly":
        bumps = 0.05 * np.sin(np.linspace(0, 22 * np.pi, len(outer)))
        outer = outer * (1 + bumps[:, None] * [1, 1, 0])
    line = smooth(_hairline(identity, rng) * [width, 1, 1], 2)
    curves = {
        "hair_front": np.concatenate([outer, line[::-1]]),
        "hair_cap": ellipse((0, -0.62, -0.35), (1.04 + 0.5 * volume) * width, 1.15 + volume, 24),
    }
    steps = np.linspace(0.05, 0.95, 22)
    starts = outer[(steps * (len(outer) - 1)).astype(int)] * [0.97, 0.97, 1]
    ends = line[(steps * (len(line) - 1)).astype(int)]
    for number, (a, b) in enumerate(zip(starts, ends, strict=True)):
        bend = (a + b) / 2 + [rng.normal(0, 0.05), -0.04, 0.1]
        curves[f"strand_{number}"] = smooth(np.stack([a, bend, b]), 3)
    curves["sheen"] = (outer * 0.62 + line[np.linspace(0, len(line) - 1, len(outer)).astype(int)] * 0.38)[4:-4]
    if style in ("long", "curly"):
        curves.update(_long_parts(style, width, volume, float(rng.uniform(1.2, 2.3))))
    if style == "bun":
        curves["bun"] = ellipse((rng.uniform(-0.2, 0.2), -1.95, -0.3), 0.36, 0.32, 16)
    return curves


def _hairline(identity: Identity, rng: np.random.Generator) -> np.ndarray:
    """The hair's lower edge over the forehead, from the image's right ear to the left one."""
    top = -1.08 - identity.hairline
    half = np.array(
        [[0.97, -0.1, 0.22], [0.93, -0.45, 0.24], [0.86, -0.78, 0.32], [0.6, top * 0.94, 0.45], [0, top, 0.55]]
    )
    line = both_sides(half)
    if identity.hair_style == "fringe":
        depth = rng.uniform(0.18, 0.42)
        inside = np.abs(line[:, 0]) < 0.9
        line[inside, 1] = np.minimum(line[inside, 1] + depth, -0.66) + rng.normal(0, 0.03, inside.sum())
    if identity.hair_style in ("side", "long"):
        sign = rng.choice((-1.0, 1.0))
        sweep = np.clip(line[:, 0] * sign + 0.3, 0, 1.2)
        line[:, 1] += rng.uniform(0.1, 0.3) * sweep * (np.abs(line[:, 0]) < 0.9)
    return line


def _long_parts(style: str, width: float, volume: float, length: float) -> dict[str, np.ndarray]:
    reach = length if style == "long" else 0.75
    back = np.array(
        [
            [0.95 + volume, -0.9, -0.4],
            [1.16 + volume, 0.0, -0.4],
            [1.15 + volume, reach * 0.6, -0.4],
            [0.98 + volume, reach, -0.4],
        ]
    ) * [width, 1, 1]
    parts = {"hair_back": smooth(np.concatenate([back, back[::-1] * [-1, 1, 1]]), 3)}
    if style == "long":
        for name, sign in (("left", 1), ("right", -1)):
            lock = np.array(
                [
                    [0.78, -0.95, 0.3],
                    [0.92, -0.3, 0.12],
                    [0.93, 0.4, 0.05],
                    [0.9, reach * 0.8, 0.0],
                    [1.22, reach * 0.75, -0.2],
                    [1.2, 0.1, -0.2],
                    [1.08, -0.7, -0.1],
                ]
            ) * [sign * width, 1, 1]
            parts[f"lock_{name}"] = smooth(lock, 2, closed=True)
    return parts
