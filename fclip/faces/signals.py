"""Expression signals: numbers with names and units that say what a face shows, frame by frame.

What a back end knows decides which there are. With MediaPipe's mesh: its 52 blendshapes, a fixed choice of mesh points
turned to the front and scaled to unit size, and the head pose. Without: lengths and angles between the 68 landmarks,
and the landmarks, in inter-ocular distances. With every back end: creases, the edges of skin and features in the
aligned face, which no point shows. Points and creases are means of both sides of the face, so that they are the
same in a mirrored picture; names that end in Right and Left (the person's own) are pairs. The tables are in
resources/signals.json.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from fclip.faces.landmarks import inter_ocular
from fclip.files import resource_json
from fclip.records import FaceTrack

YAW_PER_OFFSET, MOST_YAW = 85.0, 50.0  # degrees per inter-ocular distance of the nose tip's offset; degrees, at most
FLAT = 1.0  # grey levels a pixel: weaker edges are taken for noise of a flat surface

Named = list[tuple[str, str, np.ndarray]]  # name, unit, values (T,)


def with_signals(track: FaceTrack, frames: np.ndarray) -> FaceTrack:
    """A track with its signals (T, S) float32, their names and units; 0 in frames without a face.

    frames uint8 (T, H, W, 3) are those that the track belongs to. A track that has signals already keeps them.
    """
    if track.signals is not None:
        return track
    seen = np.flatnonzero((track.confidence > 0) & np.isfinite(track.landmarks).all((1, 2)))
    height, width = frames.shape[1:3]
    points = track.landmarks[seen].astype(np.float64) * (width, height)
    named = _of_mesh(track, seen, (width, height)) if track.mesh is not None else _of_landmarks(points)
    if track.pose is not None:
        named += [(f"pose.{n}", "degrees", track.pose[seen, i]) for i, n in enumerate(("pitch", "yaw", "roll"))]
    named += _creases(frames, seen, points)
    values = np.zeros((len(frames), len(named)), np.float32)
    values[seen] = np.stack([column for _, _, column in named], axis=1)
    names, units = tuple(name for name, _, _ in named), tuple(unit for _, unit, _ in named)
    return replace(track, signals=values, signal_names=names, signal_units=units)


def _of_mesh(track: FaceTrack, seen: np.ndarray, size: tuple[int, int]) -> Named:
    """Blendshapes and aligned mesh points of the frames `seen`."""
    assert track.mesh is not None and track.blendshapes is not None and track.pose is not None
    shapes, pairs = resource_json("captions/blendshapes.json"), resource_json("signals.json")["mesh"]
    named: Named = [
        (f"blendshape.{name}", "score from 0 to 1", track.blendshapes[seen, i]) for i, name in enumerate(shapes)
    ]
    aligned = align_mesh(track.mesh[seen] * (size[0], size[1], size[0]), track.pose[seen])
    return named + _both_sides("mesh", aligned, pairs, "share of the mesh's norm")


def align_mesh(mesh: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Mesh points (T, P, 3) in pixels (x right, y down, z away) of heads with pose (T, 3) in degrees, turned to the
    front, centred and scaled to unit norm: x right, y up, z towards the camera."""
    pitch, yaw, roll = np.radians(pose.astype(np.float64)).T
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    about_y = [[np.cos(yaw), zero, np.sin(yaw)], [zero, one, zero], [-np.sin(yaw), zero, np.cos(yaw)]]
    about_x = [[one, zero, zero], [zero, np.cos(pitch), -np.sin(pitch)], [zero, np.sin(pitch), np.cos(pitch)]]
    about_z = [[np.cos(roll), np.sin(roll), zero], [-np.sin(roll), np.cos(roll), zero], [zero, zero, one]]
    turns = (np.moveaxis(np.array(about), -1, 0) for about in (about_y, about_x, about_z))  # (T, 3, 3) each
    points = mesh * (1.0, -1.0, -1.0)
    points = points - points.mean(axis=1, keepdims=True)
    for turn in turns:
        points = points @ turn  # rows times the rotation: its inverse applied to each point
    return points / np.maximum(np.linalg.norm(points, axis=(1, 2), keepdims=True), 1e-9)


def _of_landmarks(points: np.ndarray) -> Named:
    """Measures and aligned points of landmarks (n, 68, 2) in pixels."""
    framed = _face_frame(points)
    mirror = resource_json("mirror.json")["landmarks"]
    mirrored = framed[:, mirror] * (-1.0, 1.0)
    named: Named = []
    for row in resource_json("signals.json")["measures"]:
        sides = (("Right", framed), ("Left", mirrored)) if row["sided"] else (("", framed),)
        unit = "degrees" if row["kind"] == "angle" else "inter-ocular distance"
        named += [(f"measure.{row['name']}{side}", unit, _measure(row, of)) for side, of in sides]
    pairs = [[point, mirror[point]] for point in range(len(mirror)) if point <= mirror[point]]
    return named + _both_sides("point", framed, pairs, "inter-ocular distance")


def _face_frame(points: np.ndarray) -> np.ndarray:
    """Landmarks (n, 68, 2) with their origin midway between the outer eye corners and x along the line through them.

    The unit is the inter-ocular distance, its foreshortening in a turned head (told by the nose tip) compensated.
    """
    middle, axis = (points[:, 36] + points[:, 45]) / 2, points[:, 45] - points[:, 36]
    unit = np.maximum(inter_ocular(points), 1e-6)
    cos, sin = axis.T / unit
    turn = np.moveaxis(np.array([[cos, sin], [-sin, cos]]), -1, 0)  # (n, 2, 2)
    framed = (points - middle[:, None]) @ turn.transpose(0, 2, 1) / unit[:, None, None]
    yaw = np.radians(np.clip(YAW_PER_OFFSET * framed[:, 30, 0], -MOST_YAW, MOST_YAW))
    return framed * np.cos(yaw)[:, None, None]


def _measure(row: dict, framed: np.ndarray) -> np.ndarray:
    """One measure (n,) of landmarks (n, 68, 2) in the face frame."""
    x, y = (framed[:, row["to"]].mean(axis=1) - framed[:, row["from"]].mean(axis=1)).T
    if row["kind"] == "angle":
        return np.degrees(np.arctan2(y, np.hypot(x, 1e-9)))
    return {"height": y, "width": x, "distance": np.hypot(x, y)}[row["kind"]]


def _both_sides(kind: str, points: np.ndarray, pairs: list[list[int]], unit: str) -> Named:
    """Coordinates of points (n, P, D), each the mean of a point and its mirror image's mirror image."""
    flip = np.array([-1.0, 1.0, 1.0])[: points.shape[2]]
    named: Named = []
    for point, partner in pairs:
        mean = (points[:, point] + points[:, partner] * flip) / 2
        axes = range(1 if point == partner else 0, points.shape[2])  # a midline point is in the middle
        named += [(f"{kind}.{point}.{'xyz'[axis]}", unit, mean[:, axis]) for axis in axes]
    return named


def _creases(frames: np.ndarray, seen: np.ndarray, points: np.ndarray) -> Named:
    """Strength of edges by place and orientation in the aligned faces of the frames `seen`.

    Row 0 is the forehead, column 0 the outside and the last column the middle; orientation 0 is that of a vertical
    edge. Square roots of shares of the strength in the cell and its neighbours: light and contrast do not count.
    """
    table = resource_json("signals.json")["creases"]
    cells, bins = table["cells"], table["orientations"]
    edges = np.zeros((len(seen), cells, cells, bins))
    for row, index in enumerate(seen):
        edges[row] = _edges(aligned_face(frames[index], points[row], table["side"]), cells, bins)
    mirrored = edges[:, :, ::-1, -np.arange(bins) % bins]
    both = ((edges + mirrored) / 2)[:, :, : (cells + 1) // 2]
    unit = "root of a share"
    return [(f"crease.{r}.{c}.{o}", unit, both[:, r, c, o]) for r, c, o in np.ndindex(both.shape[1:])]


def aligned_face(frame: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """The grey face (side, side) of a frame (H, W, 3) whose landmarks (68, 2) in pixels lie nearest to the anchors.

    Turned and scaled, not stretched; border pixels are repeated outside of the frame.
    """
    from PIL import Image

    anchors = _anchors() * side
    found = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[31:36].mean(0), points[48:60].mean(0)])
    centre, middle = anchors.mean(0), found.mean(0)
    spread, offset = anchors - centre, found - middle
    (a, b), scale = spread.T, (spread**2).sum()
    cos, sin = (spread * offset).sum() / scale, (a * offset[:, 1] - b * offset[:, 0]).sum() / scale
    turn = np.array([[cos, -sin], [sin, cos]])
    corners = np.array([[0, 0], [side, 0], [0, side], [side, side]]) - centre
    reach = corners @ turn.T + middle
    low, high = np.floor(reach.min(0)).astype(int) - 2, np.ceil(reach.max(0)).astype(int) + 2
    rows, columns = (np.arange(low[k], high[k]).clip(0, frame.shape[1 - k] - 1) for k in (1, 0))
    grey = Image.fromarray(frame[rows[:, None], columns]).convert("L")
    shrink = max(1, int(np.hypot(cos, sin)))
    origin = (middle - turn @ centre - low) / shrink
    turn = turn / shrink
    data = (turn[0, 0], turn[0, 1], origin[0], turn[1, 0], turn[1, 1], origin[1])
    small = grey.reduce(shrink) if shrink > 1 else grey
    face = small.transform((side, side), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
    return np.asarray(face, np.float64)


@cache
def _anchors() -> np.ndarray:
    return np.array(resource_json("signals.json")["creases"]["anchors"])


def _edges(face: np.ndarray, cells: int, bins: int) -> np.ndarray:
    """Edge strength (cells, cells, bins) of a grey face, relative to the cell and its neighbours."""
    down, right = np.gradient(face)
    strength = np.hypot(right, down)
    angle = (np.arctan2(down, right) % np.pi) / np.pi * bins
    lower = np.floor(angle).astype(int)
    share = angle - lower
    cell = np.arange(len(face)) * cells // len(face)
    place = (cell[:, None] * cells + cell) * bins
    total = np.zeros(cells * cells * bins)
    for orientation, weight in ((lower, 1 - share), (lower + 1, share)):
        index = (place + orientation % bins).ravel()
        total += np.bincount(index, (strength * weight).ravel(), len(total))
    total = total.reshape(cells, cells, bins) * (cells / len(face)) ** 2
    around = np.pad((total**2).sum(-1), 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3)).mean((2, 3))  # (cells, cells)
    return np.sqrt(total / (np.sqrt(windows)[..., None] + FLAT))
