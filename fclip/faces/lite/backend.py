"""The bundled face back end `lite`: finds faces, 68 landmarks and the 11-class parsing with two small networks.

It needs no extra package and no download. Its networks have seen rendered faces only: on rendered clips it is exact,
on real ones it is a fallback for `mediapipe` and `facexformer` (README has figures for both).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fclip.errors import ClipFailure
from fclip.faces.base import WeightsOptions, check_frames
from fclip.faces.boxes import centres_and_sides, without_doubles
from fclip.faces.landmarks import landmark_box
from fclip.faces.linking import Track, link, scene_cuts
from fclip.faces.lite.network import FINDER_GRID, FINDER_SIZE, READER_SIZE, load_lite
from fclip.files import sha256_file
from fclip.records import LANDMARKS, FaceTrack
from fclip.registry import register

WEIGHTS = Path(__file__).parent.parent.parent / "resources" / "lite.safetensors"
CROP_SCALE, CROP_LIFT = 1.75, 0.2  # side of the reader's crop and how far it is moved up for the hair, in face sides
CANDIDATE, FOUND = 0.2, 0.5  # least score of the finder for a second look; least presence that counts as a face
MOST_FACES = 8  # candidates looked at in one frame
CHUNK = 16  # frames or crops that go through a network at once

Area = tuple[int, int, int]  # a square of a frame: left, top, side in pixels


@register(WeightsOptions)
class LiteBackend:
    """FaceBackend and FaceDetector in plain torch. `weights` replaces the bundled file (same format)."""

    name = "lite"

    def __init__(self, options: WeightsOptions = WeightsOptions(), device: str = "cpu") -> None:
        path = options.weights or WEIGHTS
        self.device = torch.device(device)
        self.networks = load_lite(path).to(self.device).to(memory_format=torch.channels_last)
        self.fingerprint = {"backend": self.name, "weights": sha256_file(path), "version": "1"}

    @torch.inference_mode()
    def detect(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[np.ndarray]:
        """Boxes of all faces, as FaceDetector says; a box may reach beyond the frame. `times` is not used.

        The score is the reader's probability that the place shows a face; those under one half are left out.
        """
        wanted = [(index, area) for index, areas in enumerate(self._candidates(check_frames(frames))) for area in areas]
        found: list[list[np.ndarray]] = [[] for _ in frames]
        for chunk, crops in self._crops(frames, wanted):
            landmarks, presence = (part.cpu() for part in self.networks.reader.locate(crops))
            for (index, area), points, score in zip(chunk, landmarks, presence.sigmoid().tolist(), strict=True):
                if score >= FOUND:
                    found[index].append(np.append(landmark_box(_to_frame(points, area)), score))
        return [without_doubles(np.asarray(boxes, np.float32).reshape(-1, 5)) for boxes in found]

    @torch.inference_mode()
    def analyze(self, frames: np.ndarray, times: np.ndarray | None = None) -> FaceTrack:
        """Parsing and landmarks of the clip's main face, as FaceBackend says; `times` is not used.

        The main face is, in each shot, the one largest for longest. It is read again in a square around its landmarks.
        """
        main: dict[int, Track] = {}
        for candidate in link(self.detect(frames), scene_cuts(frames)):
            main.setdefault(candidate.shot, candidate)
        if not main:
            raise ClipFailure(f"no face found in any of {len(frames)} frames")
        count, height, width = frames.shape[:3]
        track = FaceTrack(
            np.zeros((count, height, width), np.uint8),
            np.zeros((count, LANDMARKS, 2), np.float32),
            np.zeros(count, np.float32),
        )
        wanted = []
        for shot in main.values():
            track.confidence[shot.indices] = shot.scores
            places = zip(shot.indices, *centres_and_sides(np.stack(shot.boxes)), strict=True)
            wanted += [(index, reader_area(centre, side)) for index, centre, side in places]
        for chunk, crops in self._crops(frames, wanted):
            landmarks, parsing, _ = (part.cpu() for part in self.networks.reader(crops))
            for (index, area), points, logits in zip(chunk, landmarks, parsing, strict=True):
                track.landmarks[index] = _to_frame(points, area) / (width, height)
                _paste_parsing(track.parsing[index], logits, area)
        return track

    def _candidates(self, frames: np.ndarray) -> list[list[Area]]:
        """Squares for the reader in which a face may be, for each frame.

        A frame in which nothing is found is searched again at twice the size, for faces half as large.
        """
        found: list[list[Area]] = [[] for _ in frames]
        for size in (FINDER_SIZE, 2 * FINDER_SIZE):
            todo = [index for index, areas in enumerate(found) if not areas]
            pixels_per_cell = max(frames.shape[1:3]) / size * (FINDER_SIZE // FINDER_GRID)
            for start in range(0, len(todo), CHUNK):
                chunk = todo[start : start + CHUNK]
                maps = self.networks.finder(_letterbox(frames[chunk], size, self.device)).cpu()
                for index, one in zip(chunk, maps, strict=True):
                    centres, sides = _peaks(one)
                    places = zip(centres * pixels_per_cell, sides * pixels_per_cell, strict=True)
                    found[index] = [reader_area(centre, side) for centre, side in places]
        return found

    def _crops(
        self, frames: np.ndarray, wanted: list[tuple[int, Area]]
    ) -> Iterator[tuple[list[tuple[int, Area]], Tensor]]:
        """The reader's input for squares, given as (frame index, square), some at a time: (N, 3, 96, 96)."""
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            yield chunk, _as_input(torch.stack([_crop(frames[index], area) for index, area in chunk]), self.device)


def _as_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, 3, H, W) -> float in [-1, 1] on the device, channels last."""
    return (images.to(device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _letterbox(frames: np.ndarray, size: int, device: torch.device) -> Tensor:
    """Scale frames (N, H, W, 3) so that the longer side is `size`; grey below or on the right -> (N, 3, size, size)."""
    longer = max(frames.shape[1:3])
    height, width = (max(1, round(side * size / longer)) for side in frames.shape[1:3])
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # (N, 3, H, W)
    images = functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
    return functional.pad(_as_input(images, device), (0, size - width, 0, size - height))


def _peaks(maps: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Local maxima of one frame's maps (4, G, G): centres (n, 2) and sides (n,) of faces in cells, best first."""
    score = maps[0].sigmoid()
    is_peak = functional.max_pool2d(score[None], 3, 1, 1)[0] == score
    rows, columns = torch.nonzero(is_peak & (score >= CANDIDATE), as_tuple=True)
    order = score[rows, columns].argsort(descending=True, stable=True)[:MOST_FACES]
    rows, columns = rows[order], columns[order]
    dx, dy, log_side = maps[1:, rows, columns].double()
    side = log_side.clamp(max=math.log(1.5 * maps.shape[-1])).exp()
    return torch.stack([columns + 0.5 + dx, rows + 0.5 + dy], 1).numpy(), side.numpy()


def reader_area(centre: np.ndarray, side: float) -> Area:
    """The square of whole pixels (left, top, side) that the reader sees of a face of this centre and side."""
    length = max(8, round(CROP_SCALE * float(side)))
    return round(float(centre[0]) - length / 2), round(float(centre[1] - CROP_LIFT * side) - length / 2), length


def _crop(frame: np.ndarray, area: Area) -> Tensor:
    """Cut a square out of a frame (H, W, 3), border pixels repeated outside, and scale it: uint8 (3, 96, 96)."""
    left, top, side = area
    rows = np.clip(np.arange(top, top + side), 0, frame.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, frame.shape[1] - 1)
    patch = torch.from_numpy(frame[rows[:, None], columns]).permute(2, 0, 1)  # (3, side, side)
    return functional.interpolate(patch[None], (READER_SIZE, READER_SIZE), mode="bilinear", antialias=True)[0]


def _to_frame(points: Tensor, area: Area) -> np.ndarray:
    """Points (68, 2) in [0, 1] of a square -> pixels of the frame."""
    return points.numpy() * area[2] + area[:2]


def _paste_parsing(parsing: np.ndarray, logits: Tensor, area: Area) -> None:
    """Write the class ids of a square's logits (11, 96, 96) into a frame's parsing (H, W)."""
    left, top, side = area
    scaled = functional.interpolate(logits[None], (side, side), mode="bilinear", align_corners=False)
    ids = scaled[0].argmax(0).to(torch.uint8).numpy()  # (side, side)
    height, width = parsing.shape
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    parsing[y0:y1, x0:x1] = ids[y0 - top : y1 - top, x0 - left : x1 - left]
