"""Face geometry from 68 landmarks: the distances that the template captions speak about, and the head's pose.

Landmarks are in the iBUG / 300-W order. Each frame is first brought into a face frame (similarity normalisation):
origin midway between the outer eye corners, x along the line through them, unit = their distance (inter-ocular
distance, IOD), its foreshortening in a turned head compensated.
"""

from __future__ import annotations

import numpy as np

YAW_PER_OFFSET = 85.0  # degrees of yaw per IOD of sideways offset of the nose tip; fitted on real turning heads
PITCH_PER_OFFSET = 195.0  # degrees of pitch per IOD of the nose tip's drop towards the nose base; fitted likewise
EYE_WIDTH = 0.30  # IOD; a typical eye from corner to corner
MOST_YAW = 50.0  # degrees beyond which the sideways offset tells no more


def face_frame(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (T, 68, 2) in pixels -> the same in the face frame, and roll in degrees (T,), clockwise positive.

    The unit of length is the IOD divided by the cosine of the yaw, which the nose tip's sideways offset tells.
    """
    middle, axis = (points[:, 36] + points[:, 45]) / 2, points[:, 45] - points[:, 36]  # (T, 2)
    iod = np.maximum(np.linalg.norm(axis, axis=1), 1e-6)
    cos, sin = axis[:, 0] / iod, axis[:, 1] / iod
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], axis=1)  # (T, 2, 2)
    framed = np.einsum("tij,tpj->tpi", turn, points - middle[:, None]) / iod[:, None, None]  # (T, 68, 2)
    yaw = np.radians(np.clip(YAW_PER_OFFSET * framed[:, 30, 0], -MOST_YAW, MOST_YAW))
    return framed * np.cos(yaw)[:, None, None], np.degrees(np.arctan2(axis[:, 1], axis[:, 0]))


def measure(framed: np.ndarray) -> dict[str, np.ndarray]:
    """Face-frame landmarks (T, 68, 2) -> named measures, each (T, 2): person's right, left; in IOD.

    Heights grow upwards. `eye_opening` is the lid distance over a typical eye's width. Measures of the midline (mouth
    opening, lips, nose) hold the same value twice.
    """
    x, y = framed[..., 0], framed[..., 1]

    def height(right: list[int], left: list[int]) -> np.ndarray:
        return -np.stack([y[:, right].mean(1), y[:, left].mean(1)], axis=1)  # (T, 2)

    def twice(values: np.ndarray) -> np.ndarray:
        return np.stack([values, values], axis=1)

    eyes = height([36, 39], [42, 45])
    lip_line = -(y[:, [62, 66]].mean(1))[:, None]
    lids = height([37, 38], [43, 44]) - height([40, 41], [46, 47])
    gap = (y[:, [65, 66, 67]] - y[:, [63, 62, 61]]).mean(1)
    corners = height([48, 60], [54, 64]) - lip_line - 0.1 * gap[:, None]  # a dropping jaw lowers the lip line
    half_widths = np.stack([x[:, 33] - x[:, 48], x[:, 54] - x[:, 33]], axis=1)
    return {
        "inner_brow_height": height([20, 21], [22, 23]) - eyes,
        "outer_brow_height": height([17, 18], [25, 26]) - eyes,
        "brow_height": height([19, 20, 21], [22, 23, 24]) - eyes,
        "eye_opening": lids / EYE_WIDTH,
        "brow_gap": twice(x[:, 22] - x[:, 21]),
        "mouth_corner_height": corners,
        "mouth_corner_lift": corners + 0.3 * half_widths,  # corners that rise move outwards as well
        "mouth_half_width": half_widths,
        "mouth_opening": twice(gap),
        "lip_thickness": twice(y[:, [56, 57, 58]].mean(1) - y[:, [50, 51, 52]].mean(1) - gap),
        "upper_lip_thickness": twice(y[:, 62] - y[:, 51]),
        "upper_lip_to_nose": twice(y[:, [50, 51, 52]].mean(1) - y[:, [32, 33, 34]].mean(1)),
        "nose_length": twice(y[:, [31, 32, 33, 34, 35]].mean(1)),
    }


def head_angles(framed: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Head pose estimated from the face frame (T, 68, 2) and roll (T,): pitch, yaw, roll in degrees (T, 3).

    Pitch is positive downwards, yaw towards the person's left (the image's right), roll clockwise in the image.
    Pitch holds an unknown constant (the shape of the nose); only its changes count.
    """
    yaw = YAW_PER_OFFSET * framed[:, 30, 0]
    pitch = PITCH_PER_OFFSET * (framed[:, 30, 1] - framed[:, 31:36, 1].mean(axis=1))
    return np.stack([pitch, yaw, roll], axis=1)
