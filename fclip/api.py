"""fclip from Python: one video to a label, packed clips as a torch data set, figures of any prediction table.

import fclip

print(fclip.predict("clip.mp4"))
model = fclip.load_model("fclip-data/runs/demo7-base-fold1-seed0")
clips = fclip.open_packed("fclip-data/demo7/packed")
print(fclip.evaluate("predictions.csv").uar)
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from fclip.data.storage.splits import read_classes, read_splits
from fclip.data.training.access import PackedClips, View
from fclip.engine.predict.basis import basis
from fclip.errors import FclipError
from fclip.runner.workspace import list_shards
from fclip.schema import JsonObject
from fclip.stages import predict as stage

if TYPE_CHECKING:
    from fclip.engine.evaluate.results import Row
    from fclip.engine.predict.opening import OpenedModel
    from fclip.engine.predict.windows import VideoPredictor

Scalar = str | float | None


@dataclass(frozen=True)
class WindowPrediction:
    """A few seconds of a video: label and probabilities, or `error` where no face was seen."""

    start: float
    end: float
    label: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Prediction:
    """What a model says of a video: label, probabilities of the classes in order (means over the windows), and windows.

    basis: one line about what the answer rests on; remarks: what could not be made as it was in training; made_by:
    checkpoint, classes in order, version, options.
    """

    video: str
    label: str
    probabilities: dict[str, float]
    windows: tuple[WindowPrediction, ...]
    basis: str = ""
    remarks: tuple[str, ...] = ()
    made_by: JsonObject = field(default_factory=dict)

    def __repr__(self) -> str:
        share = 100 * self.probabilities[self.label]
        return f"Prediction({self.label} {share:.0f} %, {len(self.windows)} windows of {self.video})"

    def to_dict(self) -> JsonObject:
        """All of it as JSON values."""
        return asdict(self)

    def rows(self) -> list[dict[str, Scalar]]:
        """A row for each window, ready for `pandas.DataFrame`: video, start, end, label, and a share for each class."""
        names = list(self.probabilities)
        return [
            {
                "video": self.video,
                "start": window.start,
                "end": window.end,
                "label": window.label,
                **{name: window.probabilities.get(name) for name in names},
            }
            for window in self.windows
        ]


def predict(
    video: str | Path | np.ndarray | Tensor,
    checkpoint: str | Path | None = None,
    classes: Sequence[str] | None = None,
    *,
    clip: str = "ViT-B-16",
    crop: str | None = None,
    captions: str | None = None,
    window: float = 3.0,
    stride: float = 1.5,
    smooth: float = 0.0,
    device: str = "auto",
) -> Prediction:
    """Predict the expression of the main face of a video, as `fclip predict` does.

    video: a file, a folder of frames, or frames uint8 (T, H, W, 3) RGB at 25 a second, as an array or a tensor.
    checkpoint: a run's folder or a checkpoint file; None: the run that comes with fclip. classes: other candidates,
    zero-shot; without a checkpoint plain CLIP `clip` answers. crop: the back end that finds the face, "none" for face
    crops; captions: the captioner, "none" for no caption; both as in training by default. window, stride, smooth:
    seconds.

    The model is kept for the next call with the same options. Raises FclipError where the video cannot be read or shows
    no face, and UsageError for wrong options.
    """
    config = stage.Config(
        checkpoint=Path(checkpoint) if checkpoint is not None else None,
        classes=tuple(classes or ()),
        clip=clip,
        crop=crop,
        captions=captions,
        window=window,
        stride=stride,
        smooth=smooth,
        device=device,
    )
    if isinstance(video, (str, Path)):
        return _predict(Path(video), str(video), config)
    frames = np.asarray(video)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise FclipError(f"frames must be uint8 of shape (T, H, W, 3), not {frames.dtype} {frames.shape}")
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="fclip-frames-") as folder:
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(Path(folder) / f"{index:06d}.png", compress_level=1)
        return _predict(Path(folder), f"{len(frames)} frames", config)


def _predict(source: Path, name: str, config: stage.Config) -> Prediction:
    if not source.exists():
        raise FclipError(f"{source}: no such file or folder")
    changed = config.checkpoint.stat().st_mtime_ns if config.checkpoint and config.checkpoint.exists() else 0
    predictor, opened = _opened(config, changed)
    windows = stage.predict_video(predictor, source, config)
    found = stage.summarise_video(source, windows, predictor.model.classes, all_faces=False)
    each = (
        WindowPrediction(row["start"], row["end"], row.get("label"), row.get("probabilities", {}), row.get("error", ""))
        for row in found["windows"]
    )
    made = stage.made_by(config, predictor)
    rests_on = basis(opened.meta, config.checkpoint, config.classes, config.clip)
    return Prediction(name, found["label"], found["probabilities"], tuple(each), rests_on, tuple(opened.remarks), made)


@lru_cache(maxsize=2)
def _opened(config: stage.Config, changed: int) -> tuple[VideoPredictor, OpenedModel]:
    """The model of these options; `changed` is when its checkpoint was, so that a new one is not overlooked."""
    return stage.open_predictor(config)


class Clip(TypedDict):
    """A packed clip: frames uint8 (T, S, S, 3) RGB; where it has them parsing uint8 (T, S, S), landmarks float32
    (T, 68, 2) in [0, 1] of the frame, signals float32 (T, S); its caption, or None."""

    key: str
    label: str
    caption: str | None
    frames: Tensor
    parsing: NotRequired[Tensor]
    landmarks: NotRequired[Tensor]
    signals: NotRequired[Tensor]
    info: JsonObject


class PackedDataset(Dataset[Clip]):
    """The clips of a packed folder; `classes` in order, `keys` of the clips."""

    def __init__(self, folder: Path, clips: PackedClips) -> None:
        self.folder, self.classes, self._clips = folder, read_classes(folder), clips
        self.keys = list(clips.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Clip:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        clip: Clip = self._clips.load(index % len(self), 0)  # type: ignore[assignment]  # a dict of these entries
        return clip

    def __repr__(self) -> str:
        return f"PackedDataset({len(self)} clips of {len(self.classes)} classes in {self.folder})"


def open_packed(
    folder: str | Path, *, fold: str | None = None, train: bool = False, size: int = 224, frames: int | None = None
) -> PackedDataset:
    """The clips of a packed folder (`fclip pack`) as a torch Dataset, whole frames squashed to size x size.

    fold: only the clips that this fold tests, or with `train` those that it trains on; frames: T, where clips hold
    more. Raises FclipError where the folder is none, or is not as it was written.
    """
    folder = Path(folder)
    if not (folder / "splits.json").is_file():
        raise FclipError(f"{folder}: no packed folder (no splits.json); make one with: fclip pack")
    shards = [path for path, _ in list_shards(folder, ".tar", "packed")]
    if fold is not None:
        from fclip.data.storage.folds import fold_shards

        splits = read_splits(folder)
        if fold not in splits.folds:
            raise FclipError(f"{folder}: has the folds {', '.join(sorted(splits.folds))}, not {fold!r}")
        chosen = fold_shards(splits, folder, fold, "last")
        shards = list(chosen.train if train else chosen.test)
    return PackedDataset(folder, PackedClips(shards, View(size, frames), allow_missing=True))


def evaluate(table: str | Path | Iterable[Mapping[str, Scalar]]) -> Row:
    """The figures of a prediction table: UAR and WAR with 95 % intervals, recall by class, confusion, calibration.

    table: a CSV file, or rows (of a DataFrame: `frame.to_dict("records")`), with the columns key, true and predicted,
    or p:<class> for each class; and fold and seed where there are several, over which UAR and WAR are averaged. Raises
    FclipError for a table that lacks a column or holds a value that cannot be.
    """
    from fclip.engine.evaluate.aggregate import make_rows
    from fclip.engine.evaluate.external import score_file

    if isinstance(table, (str, Path)):
        ((row, _),) = make_rows(score_file(Path(table), None, None))
        return row
    rows = [dict(row) for row in table]
    with tempfile.TemporaryDirectory(prefix="fclip-table-") as folder:
        path = Path(folder) / "table.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
        return evaluate(path)
