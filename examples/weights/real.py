"""Real faces for training the bundled networks: labelled pictures of people, and what MediaPipe says about each.

A folder holds `labels.csv` with columns path, label, identity (and, if wanted, source and part) and the pictures, as
files or in `pictures.tar`. The test part is never read: rows whose `part` is `test`, or, without that column, the fifth
of the identities whose sha256 is divisible by five.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import tarfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fclip.errors import ClipFailure, FclipError
from fclip.files import resource_json
from fclip.records import BLENDSHAPES

logger = logging.getLogger(__name__)

SIGNALS = BLENDSHAPES + 3  # the blendshapes, then pitch, yaw and roll in units of DEGREES
DEGREES = 45.0
UNKNOWN = 255  # in a parsing: not known what the pixel shows
SIZE = 192  # pixels of a picture's longer side, and of the square it is kept in


@dataclass
class RealFaces:
    """Pictures with one face each, row for row.

    frames (N, S, S, 3) uint8, a picture that is not square having its last row or column repeated; landmarks
    (N, 68, 2) float32 in [0, 1] of the square; parsing (N, S, S) uint8, UNKNOWN outside the face; signals (N, 55)
    float32; labels and identities (N,) str.
    """

    frames: np.ndarray
    landmarks: np.ndarray
    parsing: np.ndarray
    signals: np.ndarray
    labels: np.ndarray
    identities: np.ndarray

    def pick(self, chosen: np.ndarray) -> RealFaces:
        """The rows at `chosen`."""
        return RealFaces(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def is_test(row: dict[str, str]) -> bool:
    """Whether a row of labels.csv belongs to the test part."""
    if row.get("part"):
        return row["part"] == "test"
    return int(hashlib.sha256(row["identity"].encode()).hexdigest(), 16) % 5 == 0


def read_rows(folder: Path, test: bool = False) -> list[dict[str, str]]:
    """Rows of `folder`/labels.csv of the training part, or of the test part."""
    path = folder / "labels.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise FclipError(f"{path}: cannot be read ({error.strerror}); REAL_FACES names a folder that has it") from error
    if not rows or not {"path", "label", "identity"} <= set(rows[0]):
        raise FclipError(f"{path}: no rows with the columns path, label, identity")
    return [row for row in rows if is_test(row) == test]


def read_pictures(folder: Path, paths: list[str]) -> Iterator[np.ndarray]:
    """Pictures (H, W, 3) uint8 of a folder, from files or from pictures.tar, in the order of `paths`.

    Raises FclipError for one that is in neither.
    """
    from PIL import Image

    tar = folder / "pictures.tar"
    with tarfile.open(tar) if tar.is_file() else nullcontext() as archive:
        members = {member.name: member for member in archive} if archive else {}
        for path in paths:
            file = folder / path
            if archive and not file.is_file() and path in members:
                member = archive.extractfile(members[path])
                data = member.read() if member else b""
            elif file.is_file():
                data = file.read_bytes()
            else:
                raise FclipError(f"{file}: named in labels.csv, but there is no such picture")
            yield np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def load_real(folder: Path, test: bool = False) -> RealFaces:
    """The faces of a folder that MediaPipe finds, with its landmarks, parsing, blendshapes and head pose."""
    from fclip.faces.base import create_backend

    teacher: Any = create_backend("mediapipe")
    rows = read_rows(folder, test)
    found: list[tuple[Any, ...]] = []
    for row, picture in zip(rows, read_pictures(folder, [row["path"] for row in rows]), strict=True):
        try:
            track = teacher.analyze(picture[None])
        except ClipFailure:
            continue
        signals = np.append(track.blendshapes[0], track.pose[0] / DEGREES)
        found.append((*squared(picture, track.landmarks[0], track.parsing[0]), signals, row["label"], row["identity"]))
    logger.info("real faces: MediaPipe finds one in %d of %d pictures", len(found), len(rows))
    if not found:
        raise FclipError(f"{folder}: MediaPipe finds no face in any of {len(rows)} pictures")
    return RealFaces(*(np.stack(column) for column in zip(*found, strict=True)))


def squared(picture: np.ndarray, landmarks: np.ndarray, parsing: np.ndarray) -> tuple[np.ndarray, ...]:
    """Scale a picture (H, W, 3) to SIZE on its longer side and make it square: frame, landmarks, parsing."""
    from PIL import Image

    height, width = picture.shape[:2]
    scale = SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    margin = ((0, SIZE - size[1]), (0, SIZE - size[0]))
    frame = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    labels = np.asarray(Image.fromarray(np.where(parsing == 0, UNKNOWN, parsing).astype(np.uint8)).resize(size, 0))
    points = landmarks * np.array(size) / SIZE
    return (
        np.pad(frame, (*margin, (0, 0)), mode="edge"),
        points.astype(np.float32),
        np.pad(labels, margin, constant_values=UNKNOWN),
    )


@cache
def mirrored_signals() -> list[int]:
    """For each signal, which one it is in the mirrored picture: left and right exchanged."""
    other = {"left": "right", "right": "left"}
    names = [name.lower() for name in blendshape_names()]
    partners = []
    for name in names:
        side = next((side for side in other if name.endswith(side)), None)
        partners.append(names.index(name.removesuffix(side) + other[side]) if side else names.index(name))
    return [*partners, 52, 53, 54]


def blendshape_names() -> list[str]:
    """Names of MediaPipe's 52 blendshapes, in its order."""
    return list(resource_json("captions/blendshapes.json"))


SIGNS = np.array([1.0] * 53 + [-1.0, -1.0], np.float32)  # yaw and roll change their sign in the mirrored picture
