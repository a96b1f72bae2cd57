"""MediaPipe's face mesh in fclip's terms: 478 points -> 68 landmarks and parsing, transformation matrix -> pose.

The tables are in resources/mediapipe68.json.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from fclip.faces.landmarks import landmark_parts
from fclip.files import resource_json
from fclip.records import PARSING_CLASSES

MESH_POINTS = 478


@cache
def _indices68() -> np.ndarray:
    rows = resource_json("mediapipe68.json")["landmarks68"]
    return np.array([index for part in landmark_parts() for index in rows[part.name]])


def mesh_to_landmarks(mesh: np.ndarray) -> np.ndarray:
    """The 68 iBUG landmarks (..., 68, 2) among the mesh points (..., 478, 2 or 3)."""
    return mesh[..., _indices68(), :2]


def mesh_to_parsing(mesh: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill the outlines of the face's parts: mesh (478, 2 or 3) in pixels -> uint8 (H, W) ids of PARSING_CLASSES.

    Hair is unknown to the mesh and stays background.
    """
    from PIL import Image, ImageDraw

    image = Image.new("L", (width, height))
    pen = ImageDraw.Draw(image)
    corners = np.clip(mesh[:, :2] - 0.5, -4 * max(height, width), 5 * max(height, width))  # pixel 0 has its centre at 0
    for row in resource_json("mediapipe68.json")["parsing"]:
        pen.polygon([tuple(corners[index]) for index in row["outline"]], fill=PARSING_CLASSES.index(row["class"]))
    return np.array(image)


def matrix_to_pose(matrix: np.ndarray) -> np.ndarray:
    """Pitch, yaw, roll in degrees (3,) float32 from a face's transformation matrix (4, 4): x right, y up, z front.

    0, 0, 0 faces the camera. Pitch is positive downwards, yaw towards the image's right, roll clockwise in the image.
    """
    rotation = np.asarray(matrix, dtype=np.float64)[:3, :3]
    rotation = rotation / np.maximum(np.linalg.norm(rotation, axis=0), 1e-9)  # the matrix scales as well
    pitch = np.arcsin(np.clip(-rotation[1, 2], -1, 1))
    yaw = np.arctan2(rotation[0, 2], rotation[2, 2])
    roll = np.arctan2(-rotation[1, 0], rotation[1, 1])
    return np.degrees([pitch, yaw, roll]).astype(np.float32)
