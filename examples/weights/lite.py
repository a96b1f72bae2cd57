"""Training of the bundled face networks (`lite`) from scratch, and their held-out figures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fclip.errors import ClipFailure
from fclip.faces.landmarks import inter_ocular
from fclip.faces.lite.backend import LiteBackend
from fclip.faces.lite.network import READER_SIZE, FaceFinder, FaceReader, LiteNetworks
from fclip.records import PARSING_CLASSES

from .augment import pictures_without_face
from .faces import FaceSource
from .finder import finder_batch, finder_loss
from .fitting import fit
from .pool import HELD_OUT, Pool
from .reader import SignalHead, reader_batch, reader_loss, set_usual_places
from .real import SIGNALS, RealFaces

READER_STEPS, FINDER_STEPS = 5400, 1200
PLAIN_PICTURES = 1000  # pictures without a face, made once
LEAST_DEVIATION = 0.02  # of a signal that hardly ever moves


def train_reader(source: FaceSource, seed: int, steps: int, pictures: int) -> FaceReader:
    """Train the reader; in evaluation mode, float32."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    reader = FaceReader().to(memory_format=torch.channels_last)
    plain = pictures_without_face(pictures, READER_SIZE, random)
    set_usual_places(reader, reader_batch(source, plain, random).points)
    head = SignalHead(usual_signals(source.real))
    reader.train()
    fit(
        "lite, reader",
        [*reader.parameters(), *head.parameters()],
        steps,
        lambda _: reader_loss(reader, head, reader_batch(source, plain, random), random),
        2e-3,
        1e-3,
    )
    return reader.eval()


def usual_signals(real: RealFaces | None) -> tuple[Tensor, Tensor]:
    """Mean and deviation (55,) of the signals over the real faces."""
    if real is None:
        return torch.zeros(SIGNALS), torch.ones(SIGNALS)
    signals = torch.from_numpy(real.signals)
    return signals.mean(0), signals.std(0).clamp(min=LEAST_DEVIATION)


def train_lite(
    source: FaceSource,
    seed: int = 0,
    reader_steps: int = READER_STEPS,
    finder_steps: int = FINDER_STEPS,
    pictures: int = PLAIN_PICTURES,
) -> LiteNetworks:
    """Train both networks from scratch; returns them in evaluation mode, float32."""
    networks = LiteNetworks()
    networks.reader = train_reader(source, seed, reader_steps, pictures)
    networks.finder = train_finder(source, seed, finder_steps, pictures)
    return networks.eval()


def train_finder(source: FaceSource, seed: int, steps: int, pictures: int) -> FaceFinder:
    """Train the finder; in evaluation mode, float32."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    finder = FaceFinder().to(memory_format=torch.channels_last)
    plain = pictures_without_face(pictures, READER_SIZE, random)
    finder.train()
    fit(
        "lite, finder",
        finder.parameters(),
        steps,
        lambda _: finder_loss(finder, *finder_batch(source, plain, random)),
        2e-3,
        1e-3,
    )
    return finder.eval()


def lite_figures(backend: LiteBackend, pool: Pool, plain: int = 400) -> dict[str, float]:
    """Figures on rendered frames: landmark error (share of the distance between the outer eye corners), parsing IoU,
    share of frames in which a face is found, share of `plain` pictures without a face in which one is found.
    """
    errors = []
    common, either = np.zeros(len(PARSING_CLASSES)), np.zeros(len(PARSING_CLASSES))
    for frame, landmarks, parsing in zip(pool.frames, pool.landmarks, pool.parsing, strict=True):
        try:
            track = backend.analyze(frame[None])
        except ClipFailure:
            continue
        errors.append(np.linalg.norm(track.landmarks[0] - landmarks, axis=1).mean() / inter_ocular(landmarks))
        for label in range(len(PARSING_CLASSES)):
            guess, truth = track.parsing[0] == label, parsing == label
            common[label] += (guess & truth).sum()
            either[label] += (guess | truth).sum()
    pictures = pictures_without_face(plain, pool.frames.shape[1], torch.Generator().manual_seed(HELD_OUT))
    without = (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # (N, S, S, 3)
    return {
        "frames": len(pool.frames),
        "landmark_error": float(np.mean(errors)) if errors else 1.0,
        "parsing_iou": float((common / np.maximum(either, 1)).mean()),
        "faces_found": len(errors) / len(pool.frames),
        "false_faces": sum(len(boxes) > 0 for boxes in backend.detect(without)) / len(without),
    }
