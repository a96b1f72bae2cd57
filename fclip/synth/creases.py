"""Folds and soft areas of the skin: where they run and how strongly movement and age show them."""

from __future__ import annotations

import numpy as np

from fclip.synth.actions import INDEX
from fclip.synth.geometry import Curves, ellipse, smooth
from fclip.synth.identity import Identity


def crease_curves(p: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> Curves:
    """Folds and soft areas of the skin, from landmarks (T, 68, 3) and lids (T, 2, n, 3) as geometry returns them."""
    curves: Curves = {}
    for name, sign, eye in (("right", -1, 0), ("left", 1, 1)):
        curves.update(_mouth_creases(name, sign, p))
        curves.update(_eye_creases(name, sign, p, upper[:, eye], lower[:, eye]))
    lift = p[:, [17, 19, 21, 22, 24, 26]] * [0.8, 1, 1]
    for number, height in enumerate((0.16, 0.29, 0.42)):
        line = lift - [0, height, -0.02]
        line[..., 1] = 0.5 * line[..., 1] + 0.5 * line[..., 1].mean(axis=1, keepdims=True)
        curves[f"forehead_{number}"] = smooth(line, 2)
    jaw = p[:, 3:14]
    drop = np.zeros((11, 3))
    drop[:, 1] = 0.22 * np.sin(np.linspace(0, np.pi, 11))
    curves["neck_shadow"] = np.concatenate([jaw, (jaw + drop)[:, ::-1]], axis=1)
    curves["chin_crease"] = p[:, [59, 57, 55]] * 0.55 + p[:, [6, 8, 10]] * 0.45
    curves["chin"] = (p[:, 8] * 0.7 + p[:, 57] * 0.3)[:, None] + ellipse((0, 0, 0.03), 0.22, 0.13, 12)
    curves["brow_gap"] = ((p[:, 21] + p[:, 22]) / 2)[:, None] + ellipse((0, 0.02, 0), 0.1, 0.12, 10)
    curves["forehead_shine"] = ((p[:, 21] + p[:, 22]) / 2)[:, None] + ellipse((0, -0.4, -0.1), 0.45, 0.2, 12)
    return curves


def _mouth_creases(name: str, sign: int, p: np.ndarray) -> Curves:
    """Beside one mouth corner; `name` is the person's side, `sign` the direction to it in the image."""
    wing, corner = (p[:, 35], p[:, 54]) if sign > 0 else (p[:, 31], p[:, 48])
    fold = [
        wing + [sign * 0.09, -0.06, 0],
        (wing + corner) / 2 + [sign * 0.12, -0.03, 0],
        corner + [sign * 0.1, 0.02, 0],
    ]
    dimple = [corner + [sign * 0.06, -0.07, 0], corner + [sign * 0.085, 0, 0], corner + [sign * 0.06, 0.07, 0]]
    drop = [corner + [sign * 0.02, 0.02, 0], corner + [sign * 0.06, 0.13, 0]]
    cheek = (wing + [sign * 0.42, -0.12, -0.12]) * 0.7 + corner * 0.3
    return {
        f"nasolabial_{name}": smooth(np.stack(fold, axis=1), 4),
        f"dimple_{name}": np.stack(dimple, axis=1),
        f"mouth_drop_{name}": np.stack(drop, axis=1),
        f"cheek_{name}": cheek[:, None] + ellipse((0, 0, 0), 0.24, 0.17, 12),
    }


def _eye_creases(name: str, sign: int, p: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> Curves:
    """Around one eye and beside the nose bridge."""
    outer, brow = (p[:, 45], p[:, 22]) if sign > 0 else (p[:, 36], p[:, 21])
    frown = [brow + [-sign * 0.07, -0.1, 0], brow + [-sign * 0.085, 0, 0], brow + [-sign * 0.06, 0.09, 0]]
    high = [p[:, 27] + [sign * 0.02, 0.06, 0], p[:, 27] + [sign * 0.12, 0.02, -0.08]]
    low = [p[:, 28] + [sign * 0.02, 0.02, 0], p[:, 28] + [sign * 0.13, -0.04, -0.1]]
    curves = {
        f"frown_{name}": np.stack(frown, axis=1),
        f"nose_wrinkle_high_{name}": np.stack(high, axis=1),
        f"nose_wrinkle_low_{name}": np.stack(low, axis=1),
        f"bag_{name}": (lower + [0, 0.07, 0])[:, 2:-2],
        f"socket_{name}": np.concatenate([upper - [0, 0.11, 0], (lower + [0, 0.05, 0])[:, ::-1]], axis=1),
    }
    for number, (rise, reach) in enumerate(((-0.09, 0.15), (0.0, 0.17), (0.09, 0.13))):
        ends = [outer + [sign * 0.05, rise * 0.4, 0], outer + [sign * (0.05 + reach), rise, -0.08]]
        curves[f"crow_{number}_{name}"] = np.stack(ends, axis=1)
    return curves


def crease_lines(curves: Curves) -> dict[str, str]:
    """The curves that are creases, with the family of `crease_strength` each belongs to."""
    families = ("forehead", "frown", "crow", "nose_wrinkle", "bag", "chin_crease")
    sided = ("nasolabial", "dimple", "mouth_drop")
    lines = {}
    for name in curves:
        for family in families:
            if name.startswith(family) and name not in ("forehead_shine",):
                lines[name] = family
        if name.rpartition("_")[0] in sided:
            lines[name] = name
    return lines


def crease_strength(identity: Identity, values: np.ndarray) -> dict[str, np.ndarray]:
    """Darkness 0..1 of each family of creases over time, (T,) each: age at rest plus the units that fold the skin."""

    def unit(name: str) -> np.ndarray:
        return values[:, INDEX[name]]

    rest, gain = 0.25 * identity.wrinkles, 0.45 + 0.5 * identity.wrinkles
    outer_brows = unit("AU2_left") + unit("AU2_right")
    strengths = {
        "forehead": rest * 0.8 + gain * (0.45 * unit("AU1") + 0.3 * outer_brows - 0.2 * unit("AU4")),
        "frown": rest * 0.6 + gain * (0.9 * unit("AU4") + 0.3 * unit("AU9")),
        "crow": rest * 0.6 + gain * (0.8 * unit("AU6") + 0.2 * unit("AU7")),
        "nose_wrinkle": gain * 1.0 * unit("AU9"),
        "bag": rest + gain * (0.5 * unit("AU6") + 0.35 * unit("AU7")),
        "chin_crease": rest * 0.4 + gain * 0.9 * unit("AU17"),
    }
    for side in ("left", "right"):
        smile = unit(f"AU12_{side}")
        strengths[f"nasolabial_{side}"] = rest + gain * (
            0.75 * smile + 0.5 * unit("AU10") + 0.45 * unit("AU9") + 0.25 * unit("AU20") + 0.2 * unit("AU15")
        )
        strengths[f"dimple_{side}"] = gain * (0.9 * unit(f"AU14_{side}") + 0.35 * smile)
        strengths[f"mouth_drop_{side}"] = rest * 0.5 + gain * 0.9 * unit("AU15")
    return {name: np.clip(strength, 0, 1) for name, strength in strengths.items()}
