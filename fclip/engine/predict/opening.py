"""From a checkpoint, or class names, to a predictor whose clips are prepared as those were that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fclip.engine.batches.devices import choose_device
from fclip.engine.fetching import provide_for
from fclip.engine.predict.windows import VideoPredictor
from fclip.errors import FclipError
from fclip.faces.base import FaceBackend, create_backend, create_detector
from fclip.models import create_model, load_model
from fclip.models.base import ExpressionModel
from fclip.models.checkpoint import build_from, find_checkpoint, load_checkpoint, read_info
from fclip.registry import CAPTIONERS, FACE_BACKENDS
from fclip.seeing.captions import Describer
from fclip.seeing.preparation import Analysis, Cropping, Description, Preparation
from fclip.seeing.windows import SampleMaker


@dataclass(frozen=True)
class PredictOptions:
    """What a user may change: crop, margin, back end and captions replace those of training where they are given.

    captions: a captioner's name, or "none". device: as everywhere.
    """

    crop: str | None = None
    margin: float | None = None
    backend: str | None = None
    captions: str | None = None
    device: str = "auto"


@dataclass
class OpenedModel:
    """A model, what its checkpoint says ({} for plain CLIP), and lines about what differs from training."""

    model: ExpressionModel
    meta: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def open_model(
    checkpoint: Path | None,
    classes: Sequence[str],
    clip: str,
    clip_weights: str | None = None,
    activation: str | None = None,
) -> OpenedModel:
    """The run's model; with `classes`, its weights on other class names; plain CLIP where there is no checkpoint."""
    if checkpoint is None:
        plain = create_model("base", clip, classes, clip_weights=clip_weights, activation=activation)  # untrained
        return OpenedModel(plain)
    if not checkpoint.exists():
        raise FclipError(f"{checkpoint}: no such run or checkpoint; train one with: fclip train")
    provide_for(read_info(find_checkpoint(checkpoint)))
    state, meta = load_checkpoint(find_checkpoint(checkpoint))
    if not classes:
        return OpenedModel(load_model(checkpoint), meta)
    model = build_from(meta, classes)
    if not model.open_classes:  # one output for each class of training
        return OpenedModel(load_model(checkpoint, classes=classes), meta)
    model.load_trainable_state(state)
    return OpenedModel(model, meta)


def default_detector() -> str:
    """mediapipe where it would run as things are, else the bundled lite."""
    ready = {row["name"] for row in FACE_BACKENDS.table() if row["state"] == "ready"}
    return "mediapipe" if "mediapipe" in ready else "lite"


def detector_remark() -> str | None:
    """A line for people where MediaPipe is installed and only its model file is missing, so that lite takes over."""
    state = next(row["state"] for row in FACE_BACKENDS.table() if row["name"] == "mediapipe")
    if state != "no weights yet":
        return None
    return "lite found the faces, for lack of MediaPipe's model file; figures are higher with it: fclip fetch mediapipe"


def open_predictor(opened: OpenedModel, options: PredictOptions) -> VideoPredictor:
    """The predictor of a model, with the detector and the face and caption back ends that its samples need.

    Adds to `opened.remarks` what cannot be as it was in training.
    """
    preparation = _preparation(opened)
    cropping = _cropping(opened, preparation, options)
    detector = None if cropping.crop == "none" else create_detector(cropping.crop)
    wanted = set(opened.model.modalities) - set(opened.meta.get("without") or ()) - {"frames"}
    description = _description(opened, preparation, options) if "caption" in wanted else None
    describer = Describer.open(description) if description else None
    faces, analysis = None, None
    if wanted - {"caption"} or (describer and describer.captioner.needs_faces):
        analysis = preparation.analysis or Analysis(default_detector() if detector is None else cropping.crop)
        analysis = replace(analysis, backend=options.backend or analysis.backend)
        faces = _backend(analysis.backend, detector)
    size = opened.model.preprocess.image_size
    parsing = describer is not None or "parsing" in wanted  # a captioner may look at it
    samples = SampleMaker(cropping, detector, faces, analysis, describer, size, parsing)
    return VideoPredictor(opened.model, choose_device(options.device), samples)


def _backend(name: str, detector: Any) -> FaceBackend:
    """The face back end; the detector serves as one, too, if it is the same."""
    if detector is not None and detector.name == name and isinstance(detector, FaceBackend):
        return detector
    return create_backend(name)


def _preparation(opened: OpenedModel) -> Preparation:
    """How the clips of training were prepared, as far as the checkpoint says."""
    if opened.meta.get("preparation"):
        return Preparation.from_dict(opened.meta["preparation"], "the checkpoint's preparation")
    if opened.meta:
        opened.remarks.append("the checkpoint does not say how its clips were prepared: usual settings are used")
    captioner = (opened.meta.get("captions") or {}).get("model")
    description = Description(captioner, labels=tuple(opened.meta["classes"])) if captioner else None
    return Preparation(None, None, description)


def _cropping(opened: OpenedModel, preparation: Preparation, options: PredictOptions) -> Cropping:
    """How frames are read and cropped: by the options, else as in training, else by the usual settings."""
    usual = Cropping(str(opened.model.frames))
    if "frames" in opened.model.modalities:
        usual = replace(usual, size=opened.model.preprocess.image_size)
    cropping = preparation.cropping or usual
    crop = options.crop or cropping.crop
    if options.crop is None and crop == "none":
        crop = default_detector()
        if preparation.cropping:
            opened.remarks.append(
                f"trained on frames as they came, so faces are cropped by {crop} here; --crop none takes whole frames"
            )
    return replace(cropping, crop=crop, margin=cropping.margin if options.margin is None else options.margin)


def _description(opened: OpenedModel, preparation: Preparation, options: PredictOptions) -> Description | None:
    """How captions are made for a model that reads them; None, with a remark, where they are left out."""
    trained = preparation.description
    if options.captions == "none":
        return None
    if options.captions:
        base = trained or Description(options.captions, labels=tuple(opened.model.classes))
        return replace(base, captioner=options.captions)
    if trained and _is_ready(trained.captioner):
        return trained
    by = f"trained with captions by {trained.captioner}" if trained else "whose captions were in training is not known"
    opened.remarks.append(f"no caption is given to the model ({by}); --captions template gives it one")
    return None


def _is_ready(captioner: str) -> bool:
    """Whether a captioner describes any clip here and now: it needs no model, server or captions of a data set."""
    if captioner not in CAPTIONERS.names():
        return False
    return not any(CAPTIONERS.property(captioner, what, False) for what in ("expensive", "saw_labels"))
