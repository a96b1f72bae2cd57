"""Figures of the bundled networks on real people: the test part of a folder of pictures, and real clips."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fclip.errors import ClipFailure, FclipError
from fclip.faces.landmarks import inter_ocular, landmark_box

from .real import SIZE, RealFaces

if TYPE_CHECKING:
    from fclip.faces.base import FaceDetector
    from fclip.faces.lite.backend import LiteBackend
    from fclip.models.backbone.clip import LoadedClip

logger = logging.getLogger(__name__)

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"  # real clips beside a checkout; FCLIP_SAMPLES says else
REAL = ("images/*.*", "clips/*.mpg", "clips/*.mp4")  # pictures and videos with faces in them
NOTE = "frames with a face and its landmarks after MediaPipe; difference as a share of the inter-ocular distance"
SIX = ("anger", "disgust", "happiness", "neutral", "sadness", "surprise")


def lite_on_faces(backend: LiteBackend, faces: RealFaces) -> dict[str, Any]:
    """`lite` against MediaPipe on real faces: share found (IoU at least 0.4), mean landmark difference."""
    from fclip.faces.boxes import intersection_over_union

    differences = []
    for frame, points in zip(faces.frames, faces.landmarks, strict=True):
        try:
            track = backend.analyze(frame[None])
        except ClipFailure:
            continue
        boxes = (landmark_box(each * SIZE)[None] for each in (track.landmarks[0], points))
        if intersection_over_union(*boxes)[0, 0] < 0.4:
            continue
        differences.append(np.linalg.norm(track.landmarks[0] - points, axis=1).mean() / inter_ocular(points))
    return {
        "pictures": len(faces.frames),
        "identities": len(set(faces.identities.tolist())),
        "found": len(differences) / len(faces.frames),
        "difference": float(np.mean(differences)) if differences else None,
    }


@torch.inference_mode()
def frame_features(loaded: LoadedClip, faces: RealFaces) -> np.ndarray:
    """Normalised image features (N, E) of face crops with the default margin."""
    from torch.nn import functional

    from fclip.models.backbone.encode import encode_frames

    from .tiny_crops import real_crops

    parts = torch.arange(len(faces.frames)).split(128)
    crops = (real_crops(faces, index, torch.zeros(len(index)) > 0, None).images for index in parts)
    return torch.cat([functional.normalize(encode_frames(loaded.model.visual, each), dim=-1) for each in crops]).numpy()


def tiny_on_faces(loaded: LoadedClip, train: RealFaces, test: RealFaces) -> dict[str, Any]:
    """Unweighted average recall on the test part, six classes: logistic regression on the frame features, its C chosen
    by identity-grouped folds of the training part; and zero-shot with label prompts.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from fclip.models.backbone.encode import encode_text

    from .tiny_texts import PROMPT

    train, test = (part.pick(np.isin(part.labels, SIX)) for part in (train, test))
    inputs = frame_features(loaded, train)
    features = frame_features(loaded, test)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    search = GridSearchCV(
        model, {"logisticregression__C": [0.001, 0.01, 0.1]}, scoring="balanced_accuracy", cv=GroupKFold(5)
    )
    search.fit(inputs, train.labels, groups=train.identities)
    with torch.inference_mode():
        prompts = encode_text(loaded.model, loaded.tokenizer([PROMPT.format(name) for name in SIX])).numpy()
    prompts /= np.linalg.norm(prompts, axis=1, keepdims=True)
    named = np.array(SIX)[(features @ prompts.T).argmax(1)]
    return {
        "pictures": len(test.labels),
        "identities": len(set(test.identities.tolist())),
        "probe_uar": 100 * float(recall_score(test.labels, search.predict(features), average="macro")),
        "zero_shot_uar": 100 * float(recall_score(test.labels, named, average="macro")),
    }


def real_figures(lite: LiteBackend, other: FaceDetector, samples: Path) -> dict[str, Any]:
    """How `lite` does on real pictures and clips, 12 frames of each, measured against another back end.

    For each source: frames with exactly one face by `other`, share of them where lite finds that face (IoU at least
    0.4), mean difference of the landmarks there; and the share of frames of noface/ in which lite finds one.
    """
    from fclip.data.media.sampling import SamplingPlan
    from fclip.data.media.video import read_clip

    rows: dict[str, Any] = {"note": NOTE}
    for path in sorted(path for pattern in REAL for path in samples.glob(pattern)):
        clip = read_clip(path, SamplingPlan(1 if path.parent.name == "images" else 12))
        rows[path.name] = _compare(lite, other, clip.frames, clip.times)
    empty = [read_clip(path, SamplingPlan(12)).frames for path in sorted(samples.glob("noface/*.mp4"))]
    wrong = [len(boxes) > 0 for frames in empty for boxes in lite.detect(frames)]
    rows["noface"] = {"frames": len(wrong), "false_faces": float(np.mean(wrong)) if wrong else 0.0}
    return rows


def _compare(lite: LiteBackend, other: Any, frames: np.ndarray, times: np.ndarray) -> dict[str, float | int | None]:
    """One row of `real_figures`."""
    from fclip.faces.boxes import intersection_over_union

    truth = other.detect(frames, times)
    single = [index for index, boxes in enumerate(truth) if len(boxes) == 1]
    found = lite.detect(frames, times)
    hits = [
        index
        for index in single
        if len(found[index]) and intersection_over_union(found[index], truth[index]).max() >= 0.4
    ]
    difference: float | None = None
    if hits:
        try:
            ours, theirs = lite.analyze(frames[hits], times[hits]), other.analyze(frames[hits], times[hits])
        except ClipFailure:
            return {"frames": len(single), "found": len(hits), "difference": None}
        scale = np.array(frames.shape[2:0:-1])
        distance = np.linalg.norm((ours.landmarks - theirs.landmarks) * scale, axis=-1).mean(-1)
        both = (ours.confidence > 0) & (theirs.confidence > 0)
        difference = float((distance / np.maximum(inter_ocular(theirs.landmarks * scale), 1e-6))[both].mean())
    return {"frames": len(single), "found": len(hits), "difference": difference}


def measure_real(out: Path) -> dict[str, Any] | None:
    """`real_figures` of the weights in `out`, or None where there are no samples or no MediaPipe to compare with."""
    from fclip.faces.base import WeightsOptions, create_backend
    from fclip.faces.lite.backend import LiteBackend

    samples = Path(os.environ.get("FCLIP_SAMPLES") or SAMPLES)
    if not samples.is_dir():
        logger.info("no real samples at %s: not measured on real faces", samples)
        return None
    try:
        other: Any = create_backend("mediapipe")
    except FclipError as error:
        logger.info("not measured on real faces: %s", error)
        return None
    return real_figures(LiteBackend(WeightsOptions(out / "lite.safetensors")), other, samples)
