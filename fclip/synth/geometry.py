"""The face as 3D points: a person's neutral landmarks, their movement by action units, and the camera.

Face units: half the face width of the average face; x to the image's right, y down, z towards the camera; origin
between nose bridge and nose tip. All point arrays are (T, n, 3) before and (T, n, 2) after projection.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from fclip.files import resource_json
from fclip.synth.actions import INDEX, UNITS
from fclip.synth.identity import Identity

PIVOT = np.array([0.0, 0.25, -0.35])  # the head turns about this point
Curves = dict[str, np.ndarray]  # name -> points (T, n, 3)
LID_SAMPLES = 9  # points of an eyelid from corner to corner, both included


@cache
def mirror() -> np.ndarray:
    """(68,) index of each landmark's partner on the other side of the face."""
    return np.array(resource_json("mirror.json")["landmarks"])


@cache
def _average() -> np.ndarray:
    points = np.zeros((68, 3))
    for number, xyz in resource_json("face_points.json")["half"].items():
        points[int(number)] = xyz
        points[mirror()[int(number)]] = np.array(xyz) * [-1, 1, 1]
    return points


@cache
def _moves() -> np.ndarray:
    """Displacement of each landmark per unit of each action unit: (units, 68, 3)."""
    moves = np.zeros((len(UNITS), 68, 3))
    for unit, table_of_unit in resource_json("action_units.json")["moves"].items():
        for number, (outward, down) in table_of_unit.items():
            left, right = int(number), int(mirror()[int(number)])
            middle = left == right
            half = 0.5 if middle and f"{unit}_left" in UNITS else 1.0  # each side moves the midline by half
            for side, point, sign in (("left", left, 1.0), ("right", right, -1.0)):
                row = f"{unit}_{side}" if f"{unit}_left" in UNITS else unit
                moves[UNITS.index(row), point] = [0.0 if middle else sign * outward, half * down, 0.0]
    return moves


def neutral_landmarks(identity: Identity) -> np.ndarray:
    """The person's face at rest, frontal: (68, 3). Eyelid points (37, 38, 40, 41, 43, 44, 46, 47) are set later."""
    s = identity.shape
    p = _average().copy()
    side = np.sign(p[:, 0])
    eyes, brows, nose, mouth = slice(36, 48), slice(17, 27), slice(27, 36), slice(48, 68)
    p[brows, 1] += -0.035 * s["brow_height"] - 0.02 * s["eye_height"]
    p[brows, 1] += 0.03 * s["brow_tilt"] * (np.abs(p[brows, 0]) - 0.45) / 0.3
    p[[19, 24], 1] -= 0.02 * s["brow_arch"]
    p[eyes, 0] = p[eyes, 0] * (1 + 0.04 * s["eye_size"]) + side[eyes] * 0.02 * s["eye_distance"]
    p[brows, 0] += side[brows] * 0.015 * s["eye_distance"]
    p[[36, 45], 1] += 0.015 * s["eye_slant"]
    p[eyes, 1] -= 0.02 * s["eye_height"]
    p[nose, 0] *= 1 + 0.09 * s["nose_width"]
    p[31:36, 1] += 0.035 * s["nose_length"]
    p[28:31, 1] += np.array([0.01, 0.02, 0.03]) * s["nose_length"]
    p[28:31, 2] += np.array([0.02, 0.04, 0.06]) * s["nose_depth"]
    lips = np.array([54, 48, 64, 60])
    p[mouth, 1] += 0.03 * s["mouth_height"] + 0.02 * s["nose_length"]
    p[mouth, 0] *= 1 + 0.07 * s["mouth_width"]
    p[lips, 1] -= 0.014 * s["mouth_curve"]
    p[49:54, 1] -= 0.018 * s["upper_lip"]
    p[55:60, 1] += 0.02 * s["lower_lip"]
    jaw = np.arange(17)
    low = np.clip(p[jaw, 1] / 1.3, 0, 1)  # (17,) 0 at the ears, 1 at the chin
    p[jaw, 0] *= 1 + 0.06 * s["jaw_width"] * low * (1 - low) * 3 - 0.06 * s["chin_point"] * low**2
    p[jaw, 1] += 0.05 * s["face_length"] * low
    p[:, 0] *= 1 + 0.03 * s["face_width"]
    return p


def eyelids(p: np.ndarray, values: np.ndarray, identity: Identity) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower lids of both eyes from the eye corners in `p` (T, 68, 3) and the channels `values` (T, C).

    Returns two arrays (T, 2, LID_SAMPLES, 3): eye 0 lies on the image's left (the person's right eye).
    """

    def unit(name: str) -> np.ndarray:
        return values[:, INDEX[name]]

    opened = 1 + 0.09 * identity.shape["eye_open"]
    closed = np.clip(unit("AU45") + 0.45 * unit("AU43"), 0, 1)
    look_down = 0.25 * np.clip(values[:, INDEX["gaze_y"]], -0.6, 1.2)
    up = opened * (1 + 0.55 * unit("AU5") - 0.3 * unit("AU7") - 0.12 * unit("AU6") - 0.1 * unit("AU9") - look_down)
    down = 1 - 0.55 * unit("AU7") - 0.6 * unit("AU6") - 0.4 * unit("AU9") + 0.1 * unit("AU5")
    up = np.clip(up, 0.25, 1.8) * (1 - closed) - 0.45 * closed  # a closing upper lid ends below the corners
    down = np.clip(down, 0.1, 1.3)
    size = 1 + 0.06 * identity.shape["eye_size"]
    s = np.linspace(0, 1, LID_SAMPLES)
    upper, lower = np.empty((2, len(p), 2, LID_SAMPLES, 3))
    for eye, (start, end) in enumerate(((36, 39), (42, 45))):
        inner_first = s if eye == 1 else 1 - s  # the upper arc is steeper at the nose
        arc_up = np.sin(np.pi * inner_first**0.85) ** 0.8
        arc_down = np.sin(np.pi * inner_first**1.15)
        line = p[:, start, None] * (1 - s)[None, :, None] + p[:, end, None] * s[None, :, None]  # (T, n, 3)
        line[..., 2] += 0.05 * np.sin(np.pi * s)
        upper[:, eye], lower[:, eye] = line, line
        low = 0.06 * size * down[:, None] * arc_down
        high = -0.105 * size * up[:, None] * arc_up
        lower[:, eye, :, 1] += low
        upper[:, eye, :, 1] += np.minimum(high, low - 0.004 * np.sin(np.pi * s))
    return upper, lower


def moved_landmarks(identity: Identity, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks (T, 68, 3), upper lids and lower lids (T, 2, n, 3) of a face with the channels `values` (T, C)."""
    activity = values[:, : len(UNITS)]
    p = neutral_landmarks(identity)[None] + np.tensordot(activity, _moves(), axes=1)  # (T, 68, 3)
    _keep_lips_apart(p)
    upper, lower = eyelids(p, values, identity)
    third = np.array([LID_SAMPLES // 3, LID_SAMPLES - 1 - LID_SAMPLES // 3])
    for eye, first in enumerate((36, 42)):
        p[:, [first + 1, first + 2]] = upper[:, eye, third]
        p[:, [first + 5, first + 4]] = lower[:, eye, third]
    return p, upper, lower


def _keep_lips_apart(p: np.ndarray) -> None:
    """Lips touch but never cross, and keep a least thickness; changes `p` (T, 68, 3) in place."""
    for top, bottom in ((61, 67), (62, 66), (63, 65)):
        overlap = np.maximum(p[:, top, 1] - p[:, bottom, 1] + 0.004, 0) / 2
        p[:, top, 1] -= overlap
        p[:, bottom, 1] += overlap
    for outer, inner, sign in ((50, 61, -1), (51, 62, -1), (52, 63, -1), (58, 67, 1), (57, 66, 1), (56, 65, 1)):
        p[:, outer, 1] = sign * np.maximum(sign * p[:, outer, 1], sign * p[:, inner, 1] + 0.03)


def rotation(values: np.ndarray) -> np.ndarray:
    """Head rotation matrices (T, 3, 3) of the channels yaw, pitch and roll (degrees)."""
    yaw, pitch, roll = (np.deg2rad(values[:, INDEX[name]]) for name in ("yaw", "pitch", "roll"))
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], axis=-1).reshape(-1, 3, 3)
    nod = np.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp], axis=-1).reshape(-1, 3, 3)
    tilt = np.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)
    return tilt @ nod @ turn


def project(points: np.ndarray, turned: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Project (T, n, 3) face points to the frame: weak perspective about PIVOT; result (T, n, 2) in [0, 1].

    turned (T, 3, 3) rotation; centre (T, 2) frame position of PIVOT; scale (T,) frame sizes per face unit.
    """
    rotated = (points - PIVOT) @ turned.transpose(0, 2, 1)  # (T, n, 3)
    depth = 1 + 0.06 * rotated[..., 2:]
    return centre[:, None] + rotated[..., :2] * depth * scale[:, None, None]


@cache
def _spline_matrix(count: int, per_segment: int, closed: bool) -> np.ndarray:
    """Catmull-Rom weights (m, count): a smooth curve through `count` points."""
    segments = count if closed else count - 1
    rows = []
    for segment in range(segments):
        index = [segment - 1, segment, segment + 1, segment + 2]
        index = [i % count for i in index] if closed else [min(max(i, 0), count - 1) for i in index]
        for step in range(per_segment):
            t = step / per_segment
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3)
            row = np.zeros(count)
            for i, weight in zip(index, weights, strict=True):
                row[i] += weight / 2
            rows.append(row)
    if not closed:
        rows.append(np.eye(count)[-1])
    return np.array(rows)


def smooth(points: np.ndarray, per_segment: int = 3, closed: bool = False) -> np.ndarray:
    """A smooth curve through points (..., n, d): (..., m, d)."""
    return _spline_matrix(points.shape[-2], per_segment, closed) @ points


def ellipse(centre: tuple[float, float, float], rx: float, ry: float, count: int = 16) -> np.ndarray:
    """Points (count, 3) of an ellipse in the plane z = centre z."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.array(centre) + np.stack([rx * np.cos(angle), ry * np.sin(angle), np.zeros(count)], axis=1)
