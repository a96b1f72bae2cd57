"""Predicting over a video of any length: windows, the faces in them, which face is the same one, smoothing.

The video is decoded once, and frames of open windows only are held; what is kept of a window is its probabilities and
boxes, some hundred bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fclip.captions.base import CaptionInput, create_captioner
from fclip.data.media.video import iter_windows
from fclip.engine.batches.prepare import InputPreparer
from fclip.errors import ClipFailure
from fclip.faces.base import FaceBackend, FaceDetector
from fclip.faces.boxes import intersection_over_union
from fclip.faces.crop import crop_faces, find_face_tracks
from fclip.models.base import ExpressionModel

SAME_FACE = 0.2  # mean IoU of the boxes of one face in two windows, at least
FORGET = 10.0  # seconds after which a face that comes back counts as a new one
SHORTEST = 0.25  # share of a window's frames in which a further face must be seen


@dataclass(frozen=True)
class WindowOptions:
    """Seconds of a window and from window to window, time constant of smoothing (0 = off), which faces, crop margin."""

    window: float = 3.0
    stride: float = 1.5
    smooth: float = 0.0
    all_faces: bool = False
    margin: float = 1.5


@dataclass
class FaceWindow:
    """One face over one window: seconds, probabilities (C,), and where it was: boxes (n, 4) in pixels at times (n,).

    `face` counts from 1; it is 0, and `error` says why, where nothing could be predicted. Without a face detector the
    whole frame is face 1 and there are no boxes.
    """

    start: float
    end: float
    face: int = 0
    probabilities: np.ndarray | None = None
    modalities: tuple[str, ...] = ()
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    error: str = ""

    @property
    def seen(self) -> tuple[float, float]:
        """Seconds from and to which the face is seen in the window: its times, and half a frame's step beyond."""
        step = (self.end - self.start) / max(len(self.times), 1) / 2
        return max(self.start, self.times[0] - step), min(self.end, self.times[-1] + step)


class VideoPredictor:
    """A model with the face and caption back ends that its input needs.

    detector None: the videos are face crops. faces: back end for parsing and landmarks, needed by models that read
    them and by captions. captions: "template" describes each window for models that read captions.
    """

    def __init__(
        self,
        model: ExpressionModel,
        device: torch.device,
        detector: FaceDetector | None,
        faces: FaceBackend | None,
        captions: Literal["none", "template"] = "none",
    ) -> None:
        self.model, self.detector, self.faces = model.to(device).eval(), detector, faces
        self.captioner = create_captioner(captions) if captions != "none" else None
        self.prepare = InputPreparer(model, device, without=() if self.captioner else ("caption",))

    def windows(self, source: Path, options: WindowOptions) -> Iterator[FaceWindow]:
        """Yield the windows of a video in order, in each the main face or all of them, probabilities smoothed."""
        side = self.model.preprocess.image_size
        size = (side, side) if self.detector is None else None
        numbering, smoothing = FaceNumbers(), Smoothing(options.smooth)
        stream = iter_windows(source, options.window, options.stride, self.model.frames, size)
        for start, end, frames, times in stream:
            try:
                found = self._faces(FaceWindow(float(start), float(end)), frames, times, options)
            except ClipFailure as failure:
                yield FaceWindow(float(start), float(end), error=str(failure))
                continue
            if options.all_faces and self.detector is not None:
                numbering.number([window for window, _ in found])
            for window, crops in sorted(found, key=lambda pair: pair[0].face):
                try:
                    values, window.modalities = self.probabilities(crops, window.times)
                    window.probabilities = smoothing.add(window.face, window.start, values)
                except ClipFailure as failure:
                    window.face, window.error = 0, str(failure)
                yield window

    def _faces(
        self, whole: FaceWindow, frames: np.ndarray, times: np.ndarray, options: WindowOptions
    ) -> list[tuple[FaceWindow, np.ndarray]]:
        """The faces of a window, the main one first, each with its crops (T, S, S, 3)."""
        if self.detector is None:
            return [(FaceWindow(whole.start, whole.end, 1, times=times), frames)]
        tracks = find_face_tracks(frames, times, self.detector, margin=options.margin)
        found = []
        for rank, track in enumerate(tracks if options.all_faces else tracks[:1]):
            seen = np.arange(len(frames))[track.span]
            if rank and len(seen) < SHORTEST * len(frames):
                continue
            chosen = seen[np.linspace(0, len(seen) - 1, len(frames)).round().astype(int)]  # (T,)
            crops = crop_faces(frames[chosen], track.boxes[chosen], self.model.preprocess.image_size)
            window = FaceWindow(whole.start, whole.end, 1, times=times[chosen], boxes=track.boxes[chosen])
            found.append((window, crops))
        return found

    @torch.inference_mode()
    def probabilities(self, frames: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Class probabilities (C,) of face crops uint8 (T, S, S, 3), and the modalities that were used."""
        batch: dict[str, Any] = {"keys": ["window"], "frames": torch.from_numpy(frames).permute(0, 3, 1, 2)[None]}
        if self.faces is not None and (self.captioner or {"parsing", "landmarks"} & set(self.prepare.modalities)):
            track = self.faces.analyze(frames, times)
            batch["parsing"] = torch.from_numpy(track.parsing)[None]  # (1, T, S, S)
            batch["landmarks"] = torch.from_numpy(track.landmarks)[None]  # (1, T, 68, 2)
            if self.captioner:
                text = self.captioner.caption([CaptionInput("window", frames, times, track)])[0]
                batch["captions"] = [None if isinstance(text, ClipFailure) else text.text]
        _, inputs = next(self.prepare.groups(batch))
        output = self.model(inputs)
        return output.logits.float().softmax(-1)[0].cpu().numpy().astype(np.float64), output.modalities


class FaceNumbers:
    """Gives a face that is in several windows one number, counted from 1: where its boxes overlap at the same times."""

    def __init__(self) -> None:
        self._last: dict[int, FaceWindow] = {}
        self._count = 0

    def number(self, windows: list[FaceWindow]) -> None:
        """Set `face` of the windows of one stretch of time, the most alike pairs first; others become new faces."""
        now = min(window.start for window in windows)
        self._last = {face: w for face, w in self._last.items() if now - w.end < FORGET}
        pairs = [(_likeness(old, new), face, i) for face, old in self._last.items() for i, new in enumerate(windows)]
        free = dict(enumerate(windows))
        taken: set[int] = set()
        for likeness, face, i in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
            if likeness >= SAME_FACE and face not in taken and i in free:
                free.pop(i).face = face
                taken.add(face)
        for window in free.values():
            self._count += 1
            window.face = self._count
        self._last.update({window.face: window for window in windows})


def _likeness(old: FaceWindow, new: FaceWindow) -> float:
    """Mean IoU of two faces' boxes at the times of the later one that the earlier one covers, or at the nearest."""
    shared = new.times <= old.times[-1]
    rows = np.flatnonzero(shared) if shared.any() else np.array([0])
    return float(np.mean(intersection_over_union(boxes_at(old, new.times[rows]), new.boxes[rows]).diagonal()))


def boxes_at(window: FaceWindow, times: Iterable[float]) -> np.ndarray:
    """Boxes (n, 4) of a window's face at some times, between its own ones linearly, beyond them the nearest."""
    at = np.asarray(list(times), dtype=float)
    return np.stack([np.interp(at, window.times, window.boxes[:, k]) for k in range(4)], axis=1)


class Smoothing:
    """Running mean over time of each face's probabilities, which forgets with a time constant in seconds; 0 = off.

    It looks back only, so that it works on a stream: s = s + (1 - exp(-dt / constant)) (p - s).
    """

    def __init__(self, constant: float) -> None:
        self.constant = constant
        self._last: dict[int, tuple[float, np.ndarray]] = {}

    def add(self, face: int, time: float, values: np.ndarray) -> np.ndarray:
        """The smoothed probabilities (C,) of a face with one more window that starts at `time`."""
        if self.constant > 0 and face in self._last:
            then, before = self._last[face]
            values = before + (1 - math.exp(-(time - then) / self.constant)) * (values - before)
        self._last[face] = (time, values)
        return values
