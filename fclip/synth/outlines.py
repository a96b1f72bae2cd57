"""All drawn curves of a face in motion, as 3D points derived from its landmarks."""

from __future__ import annotations

import numpy as np

from fclip.files import resource_json
from fclip.synth.actions import INDEX
from fclip.synth.creases import crease_curves
from fclip.synth.geometry import Curves, ellipse, moved_landmarks, smooth
from fclip.synth.identity import Identity


def face_curves(identity: Identity, values: np.ndarray) -> tuple[np.ndarray, Curves]:
    """Landmarks (T, 68, 3) and all curves that turn with the head, for the channels `values` (T, C).

    Names end in _left or _right by the person's own side (the person's left lies on the image's right).
    """
    p, upper, lower = moved_landmarks(identity, values)
    curves: Curves = {}
    curves.update(_head(identity, p))
    curves.update(_brows(identity, p))
    curves.update(_eyes(p, upper, lower, values))
    curves.update(_nose(p))
    curves.update(_mouth(p, values))
    curves.update(crease_curves(p, upper, lower))
    curves.update(_facial_hair(identity, p))
    if identity.glasses != "none":
        curves.update(_glasses(identity, p))
    return p, curves


def repeat(points: np.ndarray, frames: int) -> np.ndarray:
    """(n, 3) -> (T, n, 3)."""
    return np.broadcast_to(points, (frames, *points.shape))


def both_sides(half: np.ndarray) -> np.ndarray:
    """An arc given from its image-right end to the midline, continued to the image-left end: (2n - 1, 3)."""
    return np.concatenate([half, half[-2::-1] * [-1, 1, 1]])


def _head(identity: Identity, p: np.ndarray) -> Curves:
    s, frames = identity.shape, len(p)
    width = 1 + 0.03 * s["face_width"]
    half = np.array(resource_json("face_points.json")["forehead"]) * [width, 1 + 0.03 * s["forehead"], 1]
    forehead = repeat(both_sides(half), frames)
    curves = {
        "face": smooth(np.concatenate([p[:, :17], forehead], axis=1), 2, closed=True),
        "skull": repeat(ellipse((0, -0.5, -0.35), 1.0 * width, 1.15, 24), frames),
    }
    for name, sign in (("left", 1), ("right", -1)):
        curves[f"ear_{name}"] = repeat(ellipse((sign * 1.03 * width, 0.06, -0.2), 0.11, 0.27, 12), frames)
        curves[f"ear_hole_{name}"] = repeat(ellipse((sign * 1.04 * width, 0.06, -0.15), 0.05, 0.16, 10), frames)
    return curves


def _brows(identity: Identity, p: np.ndarray) -> Curves:
    curves = {}
    for name, points, inner_first in (("right", p[:, 17:22], False), ("left", p[:, 22:27], True)):
        line = smooth(points, 3)  # (T, 13, 3)
        taper = np.interp(np.linspace(0, 1, line.shape[1]), (0, 0.15, 0.55, 1), (0.75, 1.0, 0.8, 0.15))
        taper = (taper if inner_first else taper[::-1]) * identity.brow_thickness
        down = np.zeros((line.shape[1], 3))
        down[:, 1] = taper
        curves[f"brow_{name}"] = np.concatenate([line - down, (line + down)[:, ::-1]], axis=1)
    return curves


def _eyes(p: np.ndarray, upper: np.ndarray, lower: np.ndarray, values: np.ndarray) -> Curves:
    curves = {}
    gaze_x = np.clip(values[:, INDEX["gaze_x"]] - values[:, INDEX["yaw"]] / 60, -1.3, 1.3)
    gaze_y = np.clip(values[:, INDEX["gaze_y"]] - values[:, INDEX["pitch"]] / 60, -1.3, 1.3)
    for eye, name in enumerate(("right", "left")):
        top, bottom = smooth(upper[:, eye], 2), smooth(lower[:, eye], 2)
        curves[f"eye_{name}"] = np.concatenate([top, bottom[:, ::-1]], axis=1)
        curves[f"lash_{name}"], curves[f"lid_{name}"] = top, bottom[:, 3:-3]
        centre = (p[:, 36 + 6 * eye] + p[:, 39 + 6 * eye]) / 2  # (T, 3)
        centre = centre + np.stack([0.085 * gaze_x, -0.022 + 0.05 * gaze_y, np.full(len(p), 0.05)], axis=1)
        for part, radius in (("rim_of_iris", 0.1), ("iris", 0.083), ("pupil", 0.042)):
            disc = centre[:, None] + ellipse((0, 0, 0), radius, radius, 18)
            curves[f"{part}_{name}"] = _between_lids(disc, top, bottom)
        glint = centre[:, None] + ellipse((-0.03, -0.035, 0.02), 0.018, 0.018, 6)
        curves[f"glint_{name}"] = _between_lids(glint, top, bottom)
        shadow = np.minimum(top + [0, 0.02, 0], bottom)
        curves[f"lid_shadow_{name}"] = shadow[:, 2:-2]
        lift = np.zeros((upper.shape[2], 3))
        lift[:, 1] = 0.05 + 0.02 * np.sin(np.linspace(0, np.pi, upper.shape[2]))
        curves[f"crease_{name}"] = (np.minimum(upper[:, eye], lower[:, eye] - [0, 0.1, 0]) - lift)[:, 1:-1]
    return curves


def _between_lids(disc: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Cut a disc (T, n, 3) to the opening between two lids (T, m, 3) that run from small to large x."""
    cut = disc.copy()
    for t in range(len(disc)):
        cut[t, :, 0] = np.clip(disc[t, :, 0], top[t, 0, 0], top[t, -1, 0])
        cut[t, :, 1] = np.clip(
            disc[t, :, 1],
            np.interp(cut[t, :, 0], top[t, :, 0], top[t, :, 1]),
            np.interp(cut[t, :, 0], bottom[t, :, 0], bottom[t, :, 1]),
        )
    return cut


def _nose(p: np.ndarray) -> Curves:
    def at(index: int, dx: float, dy: float, dz: float = 0.0) -> np.ndarray:
        return p[:, index] + [dx, dy, dz]

    right = [
        at(27, -0.06, -0.02, -0.05),
        at(28, -0.08, 0, -0.1),
        at(29, -0.11, 0.02, -0.18),
        at(31, -0.03, -0.13, 0),
        at(31, -0.06, -0.05, -0.05),
        at(31, -0.02, 0.03, 0),
    ]
    left = [
        at(27, 0.06, -0.02, -0.05),
        at(28, 0.08, 0, -0.1),
        at(29, 0.11, 0.02, -0.18),
        at(35, 0.03, -0.13, 0),
        at(35, 0.06, -0.05, -0.05),
        at(35, 0.02, 0.03, 0),
    ]
    base = [at(32, 0, 0.03), at(33, 0, 0.03), at(34, 0, 0.03)]
    outline = np.stack(right + base + left[::-1], axis=1)
    return {
        "nose": smooth(outline, 2, closed=True),
        "nose_ridge": np.stack([at(27, 0, 0), at(28, 0, 0), at(29, 0, 0), at(30, 0, 0)], axis=1),
        "nose_tip": p[:, 30, None] + ellipse((0, 0.01, 0), 0.09, 0.07, 10),
        "nose_under": np.stack([at(31, 0, 0), at(30, 0, 0.08), at(35, 0, 0), at(34, 0, 0.1), at(32, 0, 0.1)], axis=1),
        "nose_side_right": np.stack([at(27, -0.02, 0), at(29, -0.03, 0), at(30, -0.09, -0.02), *right[4:1:-1]], axis=1),
        "nose_side_left": np.stack([at(27, 0.02, 0), at(29, 0.03, 0), at(30, 0.09, -0.02), *left[4:1:-1]], axis=1),
        "wing_right": smooth(np.stack([*right[3:6], at(32, -0.03, 0.0)], axis=1), 2),
        "wing_left": smooth(np.stack([*left[3:6], at(34, 0.03, 0.0)], axis=1), 2),
        "nostril_right": p[:, 32, None] + ellipse((-0.01, -0.025, 0), 0.055, 0.024, 10),
        "nostril_left": p[:, 34, None] + ellipse((0.01, -0.025, 0), 0.055, 0.024, 10),
    }


def _mouth(p: np.ndarray, values: np.ndarray) -> Curves:
    top_out, bottom_out = smooth(p[:, 48:55], 3), smooth(p[:, [48, 59, 58, 57, 56, 55, 54]], 3)
    top_in, bottom_in = smooth(p[:, 60:65], 4), smooth(p[:, [60, 67, 66, 65, 64]], 4)
    gap = np.clip(bottom_in[..., 1] - top_in[..., 1], 0, None)  # (T, m)
    back = [0, 0, -0.06]
    teeth_end, low_teeth, tongue = (top_in + back), (bottom_in + back), (bottom_in + back)
    teeth_end[..., 1] = top_in[..., 1] + np.minimum(0.75 * gap, 0.13)
    low_teeth[..., 1] = bottom_in[..., 1] - np.clip(gap - 0.22, 0, 0.07)
    tongue[..., 1] = bottom_in[..., 1] - np.clip(gap - 0.15, 0, 0.13)
    return {
        "upper_lip": np.concatenate([top_out, top_in[:, ::-1]], axis=1),
        "lower_lip": np.concatenate([bottom_out, bottom_in[:, ::-1]], axis=1),
        "inner_mouth": np.concatenate([top_in, bottom_in[:, ::-1]], axis=1),
        "teeth": np.concatenate([top_in, teeth_end[:, ::-1]], axis=1),
        "low_teeth": np.concatenate([bottom_in, low_teeth[:, ::-1]], axis=1),
        "tongue": np.concatenate([bottom_in, tongue[:, ::-1]], axis=1),
        "lip_line": (top_in + bottom_in) / 2,
        "lip_shine": (p[:, [58, 57, 56]] + p[:, [67, 66, 65]]) / 2,
        "under_lip": p[:, [59, 58, 57, 56, 55]] + [0, 0.07, 0],
    }


def _facial_hair(identity: Identity, p: np.ndarray) -> Curves:
    curves: Curves = {}
    if identity.beard in ("full", "stubble"):
        outer = p[:, 1:16] * [0.99, 1.0, 1.0]
        inner = [
            p[:, 15] * [0.86, 1, 1],
            p[:, 13] * [0.8, 0.9, 1],
            p[:, 54] + [0.13, -0.02, 0],
            p[:, 53] + [0.06, -0.07, 0],
            p[:, 51] + [0, -0.07, 0],
            p[:, 49] + [-0.06, -0.07, 0],
            p[:, 48] + [-0.13, -0.02, 0],
            p[:, 3] * [0.8, 0.9, 1],
            p[:, 1] * [0.86, 1, 1],
        ]
        curves["beard"] = smooth(np.concatenate([outer, np.stack(inner, axis=1)], axis=1), 2, closed=True)
    if identity.beard == "goatee":
        ring = [
            p[:, 6] * [0.9, 0.98, 1],
            p[:, 8],
            p[:, 10] * [0.9, 0.98, 1],
            p[:, 55] + [0.08, 0.02, 0],
            p[:, 57] + [0, 0.09, 0],
            p[:, 59] + [-0.08, 0.02, 0],
        ]
        curves["beard"] = smooth(np.stack(ring, axis=1), 2, closed=True)
    if identity.beard in ("full", "moustache", "goatee"):
        top = np.stack(
            [
                p[:, 48] + [-0.05, 0.0, 0],
                p[:, 50] + [-0.06, -0.12, 0],
                p[:, 51] + [0, -0.12, 0],
                p[:, 52] + [0.06, -0.12, 0],
                p[:, 54] + [0.05, 0.0, 0],
            ],
            axis=1,
        )
        curves["moustache"] = np.concatenate([smooth(top, 2), smooth(p[:, 54:47:-1] - [0, 0.01, 0], 2)], axis=1)
    return curves


def _glasses(identity: Identity, p: np.ndarray) -> Curves:
    frames = len(p)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    power = {"round": 1.0, "square": 0.45, "thin": 0.7}[identity.glasses]
    rx, ry = {"round": (0.27, 0.25), "square": (0.29, 0.2), "thin": (0.27, 0.17)}[identity.glasses]
    rim = np.stack(
        [
            rx * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power,
            ry * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power,
            np.zeros(20),
        ],
        axis=1,
    )
    middle = [(p[0, 36] + p[0, 39]) / 2, (p[0, 42] + p[0, 45]) / 2]
    curves = {}
    for name, centre, sign in (("right", middle[0], -1), ("left", middle[1], 1)):
        hinge = np.array([centre[0] + sign * rx, centre[1] - 0.05, 0.64])
        bent = rim + [centre[0], centre[1] + 0.04, 1.0]
        bent[:, 2] -= 0.28 * np.clip(sign * rim[:, 0] / rx + 0.3, 0, 1.3)  # the frame follows the face
        curves[f"rim_{name}"] = repeat(bent, frames)
        curves[f"temple_{name}"] = repeat(np.stack([hinge, np.array([sign * 1.05, centre[1], -0.2])]), frames)
    bridge = np.array(
        [[middle[0][0] + rx, middle[0][1], 1.0], [0, middle[0][1] - 0.05, 1.08], [middle[1][0] - rx, middle[1][1], 1.0]]
    )
    curves["bridge"] = repeat(bridge, frames)
    return curves
