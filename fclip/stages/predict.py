"""`fclip predict`: any video file or folder -> label and probabilities over time windows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.config import CommonConfig, option
from fclip.errors import ClipFailure, FclipError, UsageError
from fclip.stages.result import StageReport

if TYPE_CHECKING:
    import numpy as np

    from fclip.models.base import ExpressionModel

_VIDEO_SUFFIXES = {
    ".mp4",
    ".mov",
    ".avi",
    ".mkv",
    ".webm",
    ".wmv",
    ".flv",
    ".mpg",
    ".mpeg",
    ".m4v",
    ".gif",
    ".264",
    ".ts",
}


@dataclass(frozen=True)
class Config(CommonConfig):
    """Predict the expression in videos with a trained run, or zero-shot with class names of your own.

    Each video is read in windows; the video's probabilities are the mean over its windows. The face is found and
    cropped first (--crop none for face crops). Captions are left out unless --captions template is given.

    --classes replaces the classes of a FineCLIPER run by any others (its texts are encoded anew); without --checkpoint
    plain CLIP answers.

    Example:  fclip predict clip.mp4 --checkpoint fclip-data/runs/demo7-base-fold1-seed0
              fclip predict videos/ --checkpoint RUN --crop mediapipe --format csv --render out.mp4
    """

    videos: tuple[str, ...] = option((), "video files, frame folders, or folders of videos", positional=True)
    checkpoint: Path | None = option(None, "run folder or checkpoint file")
    classes: tuple[str, ...] = option((), "candidates instead of the run's classes: bored,confused,...")
    clip: str = option("ViT-B-16", "CLIP model where no checkpoint is given")
    crop: Literal["none", "lite", "mediapipe"] = option("lite", "how to find the face")
    backend: str | None = option(None, "face back end for parsing and landmarks [as --crop]")
    margin: float = option(1.5, "side of the crop / larger extent of the face")
    window: float = option(3.0, "seconds a window")
    stride: float = option(1.5, "seconds from window to window")
    captions: Literal["none", "template"] = option("none", "describe each window for models that read captions")
    format: Literal["text", "json", "csv"] = option("text", "what to print (--json is the whole report)")
    out: Path | None = option(None, "also write the predictions to this .json, .jsonl or .csv file")
    render: Path | None = option(None, "write the video with face box, landmarks and running probabilities (one video)")


def run(config: Config) -> StageReport:
    """Predict every video; one that cannot be read is reported and the rest goes on (exit 1)."""
    if not config.videos:
        raise UsageError("name at least one video file or folder")
    if config.checkpoint is None and not config.classes:
        raise UsageError("name the trained run with --checkpoint RUN, or the candidates with --classes a,b,c")
    sources = list(find_videos(config.videos))
    if config.render and len(sources) != 1:
        raise UsageError(f"--render takes one video, {len(sources)} were given")
    if config.out and config.out.suffix not in (".json", ".jsonl", ".csv"):
        raise UsageError(f"--out {config.out}: end it with .json, .jsonl or .csv")
    predictor = Predictor(config)
    report = StageReport("predict", counts={"videos": 0, "failed": 0})
    results: list[dict[str, Any]] = []
    for source in sources:
        try:
            results.append(predictor.predict(source))
            report.counts["videos"] += 1
            if config.render:
                predictor.render(source, results[-1], config.render)
                report.lines.append(f"rendered: {config.render}")
        except ClipFailure as failure:
            results.append({"video": str(source), "error": str(failure)})
            report.counts["failed"] += 1
            report.exit_code = 1
    report.values["predictions"] = results
    report.lines = format_results(results, config.format) + report.lines
    if config.out:
        _write(config.out, results)
        report.out = config.out
    return report


def find_videos(names: tuple[str, ...]) -> Iterator[Path]:
    """The videos behind file and folder names; a folder with pictures only is one video of frames."""
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in _VIDEO_SUFFIXES)
            yield from inside or [path]
        elif path.is_file():
            yield path
        else:
            raise FclipError(f"{path}: no such file or folder")


def open_model(checkpoint: Path | None, classes: tuple[str, ...], clip: str) -> ExpressionModel:
    """The run's model; with `classes`, its weights on other class names; plain CLIP where there is no checkpoint."""
    from fclip.models import create_model, load_model
    from fclip.models.checkpoint import find_checkpoint, load_checkpoint

    if checkpoint is None:
        return create_model("zeroshot-clip", clip=clip, classes=classes)
    if not checkpoint.exists():
        raise FclipError(f"{checkpoint}: no such run or checkpoint; train one with: fclip train")
    if not classes:
        return load_model(checkpoint)
    state, meta = load_checkpoint(find_checkpoint(checkpoint))
    model = create_model(
        meta["variant"], meta["clip"], classes, meta["frames"], meta["clip_weights"], meta["longclip_weights"],
        **meta["options"],
    )  # fmt: skip
    model.load_trainable_state(state)
    return model


class Predictor:
    """A model with the face and caption back ends that its input needs."""

    def __init__(self, config: Config) -> None:
        from fclip.engine.devices import choose_device
        from fclip.engine.inputs import InputPreparer
        from fclip.faces.registry import create_backend, create_detector

        self.config = config
        self.model = open_model(config.checkpoint, config.classes, config.clip)
        device = choose_device(config.device)
        self.model.to(device).eval()
        without = () if config.captions == "template" else ("caption",)
        self.prepare = InputPreparer(self.model, device, without=without)
        self.detector = None if config.crop == "none" else create_detector(config.crop)
        self.maps = bool({"parsing", "landmarks"} & set(self.model.modalities))
        needs_faces = self.maps or config.captions == "template" or config.render is not None
        name = config.backend or ("lite" if config.crop == "none" else config.crop)
        self.faces = create_backend(name) if needs_faces else None

    def predict(self, source: Path) -> dict[str, Any]:
        """Probabilities of every window of a video and their mean; raises ClipFailure when no window has a face."""
        from fclip.data.video import iter_windows

        windows, failures = [], []
        config, side = self.config, self.model.preprocess.image_size
        size = (side, side) if self.detector is None else None
        for start, end, frames, times in iter_windows(source, config.window, config.stride, self.model.frames, size):
            row: dict[str, Any] = {"start": round(float(start), 3), "end": round(float(end), 3)}
            try:
                values, modalities = self._window(frames, times)
                row |= {
                    "label": self.model.classes[int(values.argmax())],
                    "probabilities": self._named(values),
                    "modalities": list(modalities),
                }
            except ClipFailure as failure:
                row["error"] = str(failure)
                failures.append(str(failure))
            windows.append(row)
        good = [list(w["probabilities"].values()) for w in windows if "probabilities" in w]
        if not good:
            raise ClipFailure(f"{source}: {failures[0] if failures else 'no frame could be decoded'}")
        import numpy as np

        mean = np.mean(good, axis=0)
        return {
            "video": str(source),
            "label": self.model.classes[int(mean.argmax())],
            "probabilities": self._named(mean),
            "windows": windows,
        }

    def _named(self, values: np.ndarray) -> dict[str, float]:
        return {name: round(float(value), 6) for name, value in zip(self.model.classes, values, strict=True)}

    def _window(self, frames: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Class probabilities (C,) of sampled frames (T, H, W, 3), and the modalities that were used."""
        import torch

        from fclip.faces.crop import crop_faces, find_face_track

        if self.detector is not None:
            track = find_face_track(frames, times, self.detector, margin=self.config.margin)
            frames = crop_faces(frames, track.boxes, self.model.preprocess.image_size)
        batch: dict[str, Any] = {
            "keys": ["window"],
            "frames": torch.from_numpy(frames).permute(0, 3, 1, 2)[None],
        }  # (1, T, 3, S, S)
        if self.faces is not None and (self.maps or self.config.captions == "template"):
            found = self.faces.analyze(frames, times)
            batch["parsing"] = torch.from_numpy(found.parsing)[None]  # (1, T, S, S)
            batch["landmarks"] = torch.from_numpy(found.landmarks)[None]  # (1, T, 68, 2)
            if self.config.captions == "template":
                batch["captions"] = [self._caption(frames, times, found)]
        with torch.inference_mode():
            _, inputs = next(self.prepare.groups(batch))
            output = self.model(inputs)
        return output.logits.float().softmax(-1)[0].cpu().numpy(), output.modalities

    def _caption(self, frames: np.ndarray, times: np.ndarray, track: Any) -> str | None:
        from fclip.captions.base import CaptionInput, create_captioner

        found = create_captioner("template").caption([CaptionInput("window", frames, times, track)])[0]
        return None if isinstance(found, ClipFailure) else found.text

    def render(self, source: Path, result: dict[str, Any], out: Path) -> None:
        """Write the annotated video: every frame with its face and the probabilities of the nearest window."""
        from fclip.data.video import open_source, write_video

        video = open_source(source)
        fps = min(max(video.timeline.fps, 1.0), 60.0)
        video.close()
        write_video(out, self._drawn(source, result), fps)

    def _drawn(self, source: Path, result: dict[str, Any], chunk: int = 32) -> Iterator[np.ndarray]:
        import numpy as np

        from fclip.data.video import iter_frames
        from fclip.report.overlay import draw_prediction
        from fclip.stages.inputs import batches

        assert self.faces is not None
        classes = self.model.classes
        for group in batches(iter_frames(source), chunk):
            times = np.asarray([time for time, _ in group])
            frames = np.stack([frame for _, frame in group])
            height, width = frames.shape[1:3]
            try:
                track = self.faces.analyze(frames, times)
                points, found = track.landmarks * (width, height), track.confidence > 0
            except ClipFailure:
                points, found = np.zeros((len(frames), 68, 2)), np.zeros(len(frames), bool)
            for frame, time, marks, there in zip(frames, times, points, found, strict=True):
                values = np.asarray(list(nearest_window(result["windows"], float(time), classes).values()))
                box = np.concatenate([marks.min(0), marks.max(0)]) if there else None
                yield draw_prediction(frame, classes, values, marks if there else None, box)


def nearest_window(windows: list[dict[str, Any]], time: float, classes: tuple[str, ...]) -> dict[str, float]:
    """Probabilities of the window whose middle is nearest to `time`; zeros where no window could be predicted."""
    usable = [w for w in windows if "probabilities" in w]
    if not usable:
        return dict.fromkeys(classes, 0.0)
    best = min(usable, key=lambda w: abs((w["start"] + w["end"]) / 2 - time))
    return best["probabilities"]


def format_results(results: list[dict[str, Any]], kind: str) -> list[str]:
    """The predictions as text lines, JSON lines or CSV rows."""
    if kind == "json":
        return [json.dumps(result) for result in results]
    if kind == "csv":
        return _csv(results).splitlines()
    lines = []
    for result in results:
        if "error" in result:
            lines.append(f"{result['video']}: failed: {result['error']}")
            continue
        lines.append(f"{result['video']}: {result['label']} ({100 * result['probabilities'][result['label']]:.0f} %)")
        for window in result["windows"]:
            what = window.get("error") or "  ".join(
                f"{name} {100 * p:.0f}"
                for name, p in sorted(window["probabilities"].items(), key=lambda kv: -kv[1])[:3]
            )
            lines.append(f"  {window['start']:7.2f} - {window['end']:7.2f} s  {what}")
    return lines


def _csv(results: list[dict[str, Any]]) -> str:
    """One row a window: video, start, end, label, one column a class, error."""
    classes = next((list(r["probabilities"]) for r in results if "probabilities" in r), [])
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["video", "start", "end", "label", *classes, "error"])
    for result in results:
        for window in result.get("windows", [{"error": result.get("error", "")}]):
            values = window.get("probabilities", {})
            writer.writerow(
                [
                    result["video"],
                    window.get("start", ""),
                    window.get("end", ""),
                    window.get("label", ""),
                    *(values.get(name, "") for name in classes),
                    window.get("error", ""),
                ]
            )
    return buffer.getvalue()


def _write(path: Path, results: list[dict[str, Any]]) -> None:
    from fclip.data.files import atomic_write

    if path.suffix == ".csv":
        text = _csv(results)
    elif path.suffix == ".jsonl":
        text = "".join(json.dumps(result) + "\n" for result in results)
    else:
        text = json.dumps(results, indent=1) + "\n"
    with atomic_write(path) as temp:
        temp.write_text(text, encoding="utf-8")
