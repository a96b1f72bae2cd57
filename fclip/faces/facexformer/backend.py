"""The face back end `facexformer`: batches over frames and clips, bfloat16 on a GPU, one pass for all outputs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fclip.catalogue import require
from fclip.errors import ClipFailure, FclipError
from fclip.faces.base import FaceDetector, WeightsOptions, check_frames
from fclip.faces.crop import crop_faces
from fclip.faces.facexformer.checkpoint import load_network
from fclip.faces.facexformer.network import IMAGE_SIZE
from fclip.faces.tracker import FaceBoxes, find_face_track
from fclip.files import sha256_file
from fclip.records import LANDMARKS, FaceTrack
from fclip.registry import register

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEAST_FACE = 0.02  # share of pixels that must not be background, or the frame has no face

log = logging.getLogger(__name__)


@dataclass
class _Work:
    """A clip under way: where in its frames the network looks, and what it has found there so far."""

    frames: np.ndarray
    boxes: FaceBoxes | None
    track: FaceTrack


@register(WeightsOptions)
class FaceXFormerBackend:
    """BatchFaceBackend around the FaceXFormer network.

    The network wants a face with a margin of half its size, which is what clips cropped by `fclip preprocess` have, and
    about what the data sets' own face crops have: so by default the whole frame goes in, squashed to 224 x 224 as
    published. With a `detector`, for whole pictures, the main face is looked for and cropped with that margin first.
    Its weights: a .safetensors file made by `fclip convert`; None: the one that `fclip fetch facexformer` makes.
    `dtype`: None = bfloat16 on a GPU, float32 on a CPU.
    """

    name = "facexformer"

    def __init__(
        self,
        options: WeightsOptions = WeightsOptions(),
        device: str = "cpu",
        batch_size: int = 32,
        dtype: torch.dtype | None = None,
        detector: FaceDetector | None = None,
    ) -> None:
        path = options.weights or require("facexformer")
        self.device, self.batch_size, self.detector = torch.device(device), batch_size, detector
        self.dtype = dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        self.network = load_network(path).to(self.device)
        self.network.set_dtype(self.dtype)
        self.fingerprint = {
            "backend": self.name,
            "weights": sha256_file(path),
            "dtype": str(self.dtype).removeprefix("torch."),
            "detector": detector.name if detector else "none",
            "version": "1",
        }

    def analyze(self, frames: np.ndarray, times: np.ndarray | None = None) -> FaceTrack:
        """Parsing, landmarks and pose of one clip, as FaceBackend says; see analyze_many."""
        result = self.analyze_many([frames], [times])[0]
        if isinstance(result, ClipFailure):
            raise result
        return result

    def analyze_many(
        self, clips: Sequence[np.ndarray], times: Sequence[np.ndarray | None]
    ) -> list[FaceTrack | ClipFailure]:
        """Parsing, landmarks and pose of several clips, in batches that ignore where one clip ends.

        Confidence is the mean probability of the parsing where it is not background, 0 where that is under 2 % of the
        picture. Pose is in degrees, with the signs of fclip (down, image right and clockwise positive), taken from the
        way the authors draw it.
        """
        works = [self._prepare(*clip) for clip in zip(clips, times, strict=True)]
        todo = iter([(work, index) for work in works if isinstance(work, _Work) for index in _wanted(work)])
        while places := list(islice(todo, self.batch_size)):
            images = torch.from_numpy(np.concatenate([_picture(work, index) for work, index in places]))
            rows = (row for part in self._run(images) for row in zip(*part, strict=True))
            for (work, index), row in zip(places, rows, strict=True):
                _store(work, index, *row)
        return [_finish(work) if isinstance(work, _Work) else work for work in works]

    def _prepare(self, frames: np.ndarray, times: np.ndarray | None) -> _Work | ClipFailure:
        try:
            check_frames(frames)
            boxes = find_face_track(frames, times, self.detector) if self.detector else None
        except ClipFailure as failure:
            return failure
        shape = frames.shape[:3]
        track = FaceTrack(
            np.zeros(shape, np.uint8),
            np.zeros((shape[0], LANDMARKS, 2), np.float32),
            np.zeros(shape[0], np.float32),
            pose=np.zeros((shape[0], 3), np.float32),
        )
        return _Work(frames, boxes, track)

    def _run(self, images: Tensor) -> Iterator[tuple[np.ndarray, ...]]:
        """Outputs of `_outputs` for images uint8 (B, 224, 224, 3), in smaller parts where memory is short.

        The batch size is halved for good when the device runs out of memory; FclipError when one image is too many.
        """
        done = 0
        while done < len(images):
            part = images[done : done + self.batch_size]
            try:
                yield self._outputs(part)
                done += len(part)
                continue
            except RuntimeError as error:  # outside of this block the failed pass's memory is free again
                if not _is_out_of_memory(error):
                    raise
            if len(part) == 1:
                raise FclipError(f"facexformer: out of memory on {self.device} even for one image; use --device cpu")
            self.batch_size = len(part) // 2
            log.warning("facexformer: out of memory at batch %d; going on with %d", len(part), self.batch_size)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    @torch.inference_mode()
    def _outputs(self, images: Tensor) -> tuple[np.ndarray, ...]:
        """Images uint8 (B, 224, 224, 3) -> parsing uint8 (B, 224, 224), landmarks (B, 68, 2) in [0, 1], pose (B, 3)
        in degrees, confidence (B,).
        """
        outputs = self.network(normalise(images.to(self.device)).to(self.dtype))
        logits = outputs["segmentation"].float()
        best, parsing = logits.max(1)  # (B, 224, 224)
        probability = (best - logits.logsumexp(1)).exp()
        face = parsing > 0
        share = face.float().mean((1, 2))
        confidence = (probability * face).float().mean((1, 2)) / share.clamp(min=1e-6) * (share >= LEAST_FACE)
        landmarks = (outputs["landmarks"].float().unflatten(1, (LANDMARKS, 2)) + 1) / 2  # (B, 68, 2)
        pose = torch.rad2deg(outputs["pose"].float()) * torch.tensor([-1.0, 1, 1], device=self.device)
        return tuple(x.cpu().numpy() for x in (parsing.to(torch.uint8), landmarks, pose, confidence))


def normalise(images: Tensor) -> Tensor:
    """Images uint8 (B, H, W, 3) -> float32 (B, 3, H, W), ImageNet's mean and deviation."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, STD))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def _wanted(work: _Work) -> np.ndarray:
    """Indices of the frames to look at: all, or those in which the detector saw the face or bridged a short gap."""
    return np.arange(len(work.frames)) if work.boxes is None else np.flatnonzero(work.boxes.confidence)


def _picture(work: _Work, index: int) -> np.ndarray:
    """What the network sees of a frame: (1, 224, 224, 3) uint8, bicubic with antialiasing."""
    frame = work.frames[index]
    if work.boxes is not None:
        return crop_faces([frame], work.boxes.boxes[index, None], IMAGE_SIZE)
    if frame.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE):
        return frame[None]
    return np.asarray(Image.fromarray(frame).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))[None]


def _store(
    work: _Work, index: int, parsing: np.ndarray, landmarks: np.ndarray, pose: np.ndarray, confidence: float
) -> None:
    """Put one frame's results into the clip's track, from the picture's coordinates into the frame's."""
    height, width = work.frames.shape[1:3]
    if confidence <= 0 or work.track.pose is None:
        return
    box = np.array([0, 0, width, height]) if work.boxes is None else work.boxes.boxes[index]
    _paste(work.track.parsing[index], parsing, box)
    work.track.landmarks[index] = (landmarks * (box[2:] - box[:2]) + box[:2]) / (width, height)
    work.track.pose[index] = pose
    work.track.confidence[index] = confidence


def _paste(target: np.ndarray, parsing: np.ndarray, box: np.ndarray) -> None:
    """Put parsing (224, 224) into the box of target (H, W), in place: to each pixel the value at its centre."""
    if target.shape == parsing.shape and tuple(box) == (0, 0, *target.shape):
        target[:] = parsing
        return
    height, width = target.shape
    x, y = (
        np.floor((np.arange(size) + 0.5 - box[axis]) / (box[axis + 2] - box[axis]) * IMAGE_SIZE).astype(int)
        for axis, size in enumerate((width, height))
    )
    inside_x, inside_y = (np.flatnonzero((v >= 0) & (v < IMAGE_SIZE)) for v in (x, y))
    target[np.ix_(inside_y, inside_x)] = parsing[np.ix_(y[inside_y], x[inside_x])]


def _finish(work: _Work) -> FaceTrack | ClipFailure:
    if not work.track.confidence.any():
        return ClipFailure(f"no face found in any of {len(work.frames)} frames")
    return work.track


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
