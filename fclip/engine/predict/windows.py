"""Predicting over a video of any length: the model on each window's sample, which face is the same one, smoothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fclip.data.training.access import View, show
from fclip.data.training.loader import join_clips
from fclip.engine.batches.prepare import InputPreparer
from fclip.faces.boxes import intersection_over_union
from fclip.models.base import ExpressionModel
from fclip.runner.spent import Spent
from fclip.seeing.windows import FaceWindow, SampleMaker

SAME_FACE = 0.2  # mean IoU of the boxes of one face in two windows, at least
FORGET = 10.0  # seconds after which a face that comes back counts as a new one


@dataclass(frozen=True)
class WindowOptions:
    """Seconds of a window and from window to window, time constant of smoothing (0 = off), which faces."""

    window: float = 3.0
    stride: float = 1.5
    smooth: float = 0.0
    all_faces: bool = False


@dataclass
class Prediction:
    """What a model says of one face over one window: seconds, probabilities (C,), and where the face was.

    `face` counts from 1; it is 0, and `error` says why, where nothing could be predicted. boxes (n, 4) in pixels at
    times (n,); without a face detector the whole frame is face 1 and there are no boxes. caption: what the model read.
    """

    start: float
    end: float
    face: int = 0
    probabilities: np.ndarray | None = None
    modalities: tuple[str, ...] = ()
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    caption: str = ""
    error: str = ""

    @property
    def seen(self) -> tuple[float, float]:
        """Seconds from and to which the face is seen in the window: its times, and half a frame's step beyond."""
        step = (self.end - self.start) / max(len(self.times), 1) / 2
        return max(self.start, self.times[0] - step), min(self.end, self.times[-1] + step)


class VideoPredictor:
    """A model and what makes its samples; modalities that `samples` does not make are left out."""

    def __init__(self, model: ExpressionModel, device: torch.device, samples: SampleMaker) -> None:
        self.model, self.samples = model.to(device).eval(), samples
        self.view = View(model.preprocess.image_size, model.frames, model.preprocess.resize)
        self.prepare = InputPreparer(model, device)
        self.spent = Spent()

    def windows(self, source: Path, options: WindowOptions) -> Iterator[Prediction]:
        """Yield the windows of a video in order, in each the main face or all of them, probabilities smoothed."""
        numbers, smoothing = FaceNumbers(), Smoothing(options.smooth)
        found = self.samples.windows(source, options.window, options.stride, options.all_faces)
        for window in self.spent.each(found, "reading and faces"):
            result = Prediction(
                window.start, window.end, window.face, times=window.times, boxes=window.boxes, error=window.error
            )
            if window.face:
                result.face = numbers.number(window) if options.all_faces else 1
                with self.spent.on("model"):
                    values, result.modalities = self.probabilities(window)
                if window.sample and "caption" in result.modalities:
                    result.caption = window.sample.caption or ""
                result.probabilities = smoothing.add(result.face, result.start, values)
            yield result

    @torch.inference_mode()
    def probabilities(self, window: FaceWindow) -> tuple[np.ndarray, tuple[str, ...]]:
        """Class probabilities (C,) of a window's sample, and the modalities that were used."""
        assert window.sample is not None
        _, inputs = next(self.prepare.groups(join_clips([show(window.sample, self.view)]) | {"labels": None}))
        output = self.model(inputs)
        return output.logits.float().softmax(-1)[0].cpu().numpy().astype(np.float64), output.modalities


class FaceNumbers:
    """Gives a face that is in several windows one number, counted from 1.

    It is the same face where the tracker says so, or, past a scene cut or a long absence, where its boxes overlap with
    those of a face that is not in the same window.
    """

    def __init__(self) -> None:
        self._last: dict[int, FaceWindow] = {}  # by number
        self._of_face: dict[int, int] = {}  # the tracker's number -> ours

    def number(self, window: FaceWindow) -> int:
        """The number of a window's face; windows come in order of time."""
        number = self._of_face.get(window.face)
        if number is None:
            free = {
                known: old
                for known, old in self._last.items()
                if old.start < window.start and window.start - old.end < FORGET
            }
            likeness = {known: _likeness(old, window) for known, old in free.items() if len(window.boxes)}
            number = max(likeness, key=lambda known: likeness[known], default=0)
            if likeness.get(number, 0.0) < SAME_FACE:
                number = max(self._last, default=0) + 1
            self._of_face[window.face] = number
        self._last[number] = window
        return number


def _likeness(old: FaceWindow, new: FaceWindow) -> float:
    """Mean IoU of two faces' boxes at the times of the later one that the earlier one covers, or at the nearest."""
    shared = new.times <= old.times[-1]
    rows = np.flatnonzero(shared) if shared.any() else np.array([0])
    return float(np.mean(intersection_over_union(boxes_at(old, new.times[rows]), new.boxes[rows]).diagonal()))


def boxes_at(window: FaceWindow | Prediction, times: Iterable[float]) -> np.ndarray:
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
