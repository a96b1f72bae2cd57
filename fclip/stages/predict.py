"""`fclip predict`: videos, folders or patterns -> label and probabilities of the faces over time."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.catalogue import listed, published
from fclip.config import CommonConfig, option
from fclip.engine.fetching import provide
from fclip.errors import ClipFailure, UsageError
from fclip.records import check_class_names
from fclip.registry import CAPTIONERS, FACE_BACKENDS
from fclip.runner.progress import progress_bar, tell_inside
from fclip.runner.report import StageReport

if TYPE_CHECKING:
    from fclip.engine.predict.opening import OpenedModel
    from fclip.engine.predict.windows import Prediction, VideoPredictor

Result = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config(CommonConfig):
    """Predict the expression in videos: as it comes, with a run of your own, or zero-shot with names of your own.

    With neither --checkpoint nor --classes the run that comes with fclip answers (six basic expressions, trained on
    real pictures). A line says what an answer rests on.

    Each video is read in windows that overlap; its probabilities are the mean over the windows of its main face, or of
    each face with --all-faces. Faces are found, cropped, analysed and described as the run's training clips were; what
    cannot be made is named. Memory does not grow with a video's length.

    --classes replaces the classes of a FineCLIPER run by any others (its texts are encoded anew). Without --checkpoint
    plain CLIP answers, with the same positive and negative texts.

    Example:  fclip predict clip.mp4
              fclip predict clip.mp4 --checkpoint fclip-data/runs/demo7-base-fold1-seed0
              fclip predict 'talks/*.mp4' --checkpoint RUN --crop mediapipe --all-faces --smooth 2 --out faces.csv
              fclip predict clip.mp4 --classes bored,confused,delighted --clip ViT-B-16 --render out.mp4
    """

    videos: tuple[str, ...] = option((), "video files, frame folders, folders of videos, patterns", positional=True)
    checkpoint: Path | None = option(None, "run folder or checkpoint file [the bundled run]")
    classes: tuple[str, ...] = option((), "candidates instead of the run's classes: bored,confused,...")
    clip: str = option("ViT-B-16", "CLIP model where no checkpoint is given")
    clip_weights: str | None = option(None, "tag or file of its weights instead of the default")
    activation: Literal["gelu", "quickgelu"] | None = option(None, "of a file of weights that does not say it")
    crop: str | None = option(
        None,
        "back end that finds the face, none for face crops; list = show them [as in training; mediapipe, else lite]",
        registry=FACE_BACKENDS,
    )
    backend: str | None = option(
        None, "face back end for parsing and landmarks [as in training]", registry=FACE_BACKENDS
    )
    margin: float | None = option(None, "side of the crop / larger extent of the face [as in training]")
    all_faces: bool = option(False, "every face by itself, numbered through the video, not the main one")
    window: float = option(3.0, "seconds a window")
    stride: float = option(1.5, "seconds from window to window")
    smooth: float = option(0.0, "time constant in seconds of a running mean over windows; 0 = off")
    captions: str | None = option(
        None,
        "who describes each window for models that read captions: template, none ... [as in training]",
        registry=CAPTIONERS,
    )
    format: Literal["text", "json", "csv"] = option("text", "what to print (--json is the whole report)")
    out: Path | None = option(None, "also write the predictions to this .json, .jsonl or .csv file")
    render: Path | None = option(
        None, "write the video with faces, labels, timeline and its sound; of several videos, into this folder"
    )

    def weights(self) -> list[str]:
        """The weights of the things chosen, and of plain CLIP where it answers."""
        plain = self.checkpoint is None and self.classes and self.clip_weights in (None, "openai")
        return [*super().weights(), *([published(self.clip)] if plain and published(self.clip) in listed() else [])]


def run(config: Config) -> StageReport:
    """Predict every video; one that cannot be read is reported and the rest goes on (exit 1)."""
    if not config.videos:
        raise UsageError("name at least one video file or folder")
    check_class_names(config.classes, "--classes", UsageError)
    if config.all_faces and config.crop == "none":
        raise UsageError("--all-faces needs a face detector: --crop lite or mediapipe")
    from fclip.runner.remote import fetched
    from fclip.seeing.sources import find_sources, refuse_inputs

    sources = list(dict.fromkeys(find_sources(config.videos)))
    drawn = _drawn(config.render, sources)
    refuse_inputs([*drawn, *([config.out] if config.out else [])], sources)
    if config.out and config.out.suffix not in (".json", ".jsonl", ".csv"):
        raise UsageError(f"--out {config.out}: end it with .json, .jsonl or .csv")
    provide(config.weights())
    from fclip.engine.predict.basis import basis

    predictor, opened = open_predictor(config)
    report = StageReport("predict", counts={"videos": 0, "failed": 0})
    results: list[Result] = []
    with ExitStack() as bars:
        several = bars.enter_context(progress_bar(len(sources), "predict", "video")) if len(sources) > 1 else None
        for index, source in enumerate(sources):
            try:
                with fetched(source) as path:
                    seconds = _length(path)
                    bar = several or bars.enter_context(progress_bar(ceil(seconds), "predict", "second"))
                    show = partial(tell_inside, bar, several is not None, seconds)
                    windows = predict_video(predictor, path, config, partial(show, "reading"))
                    results.append(summarise_video(source, windows, predictor.model.classes, config.all_faces))
                    report.counts["videos"] += 1
                    if config.render:
                        render(predictor, config, path, windows, drawn[index], partial(show, "drawing"))
                        report.lines.append(f"rendered: {drawn[index]}")
                    _tell_speed(source, predictor, windows[-1].end)
            except ClipFailure as failure:
                results.append({"video": str(source), "error": str(failure)})
                report.counts["failed"] += 1
                report.exit_code = 1
            if several:
                several.update()
    notes = [basis(opened.meta, config.checkpoint, config.classes, config.clip), *opened.remarks]
    report.values |= {"basis": notes[0], "remarks": opened.remarks}
    made = made_by(config, predictor)
    results = [result | {"made_by": made} for result in results]
    report.values["predictions"] = results
    report.lines = format_results(results, config.format) + report.lines
    if config.format == "text":
        report.lines += [f"note: {note}" for note in notes]
    elif not config.json:
        for note in notes:
            log.warning("predict: %s", note)
    if config.out:
        _write(config.out, results)
        report.out = config.out
    return report


def _length(source: Path) -> float:
    """The seconds of a video; ClipFailure as reading it."""
    from fclip.data.media.video import open_source

    video = open_source(source)
    video.close()
    return max(video.timeline.end, 1e-3)


def _tell_speed(source: Path | str, predictor: VideoPredictor, seconds: float) -> None:
    """With -v: how fast a video was, and where the time went."""
    spent = sum(predictor.spent.seconds.values())
    speed = f"{seconds:.1f} s of video in {spent:.1f} s, {seconds / max(spent, 1e-9):.1f} times as fast as it plays"
    log.info("%s: %s: %s", source, speed, predictor.spent.line())
    predictor.spent.seconds.clear()


def made_by(config: Config, predictor: VideoPredictor) -> Result:
    """What made a prediction, to stand in its record: model, classes in order, version, options."""
    from fclip import __version__

    chosen = ("window", "stride", "smooth", "all_faces")
    return {
        "fclip": __version__,
        "checkpoint": str(config.checkpoint) if config.checkpoint else None if config.classes else "bundled",
        "variant": predictor.model.variant,
        "clip": predictor.model.clip_name,
        "clip_sha256": predictor.model.clip_sha256 or None,
        "clip_activation": predictor.model.clip_activation,
        "classes": list(predictor.model.classes),
        "options": {name: getattr(config, name) for name in chosen}
        | {"crop": predictor.samples.cropping.crop, "margin": predictor.samples.cropping.margin},
    }


def _drawn(render: Path | None, sources: Sequence[Path | str]) -> list[Path]:
    """The file for each source's annotated video: --render itself, or one in it; UsageError where that is unclear."""
    from fclip.seeing.sources import output_names

    if render is None:
        return []
    if render.suffix and not render.is_dir():
        if len(sources) > 1:
            raise UsageError(f"--render {render}: name a folder, {len(sources)} videos were given")
        return [render]
    return [render / name for name in output_names(sources, ".mp4")]


def open_predictor(config: Config) -> tuple[VideoPredictor, OpenedModel]:
    """The model behind the options, and what makes its samples."""
    from fclip.engine.predict import opening
    from fclip.engine.predict.basis import bundled_run

    checkpoint = config.checkpoint
    bundled = checkpoint is None and not config.classes
    if bundled:
        checkpoint = bundled_run(config.crop or opening.default_detector())
    opened = opening.open_model(checkpoint, config.classes, config.clip, config.clip_weights, config.activation)
    if bundled and not config.crop and (remark := opening.detector_remark()):
        opened.remarks.append(remark)
    options = opening.PredictOptions(config.crop, config.margin, config.backend, config.captions, config.device)
    return opening.open_predictor(opened, options), opened


def predict_video(
    predictor: VideoPredictor, source: Path, config: Config, on_second: Callable[[float], None] = lambda second: None
) -> list[Prediction]:
    """The windows of a video; ClipFailure when none of them has a face. `on_second` is told how far it is."""
    from fclip.engine.predict.windows import WindowOptions

    options = WindowOptions(config.window, config.stride, config.smooth, config.all_faces)
    windows = []
    for window in predictor.windows(source, options):
        windows.append(window)
        on_second(window.end)
    if not any(window.face for window in windows):
        raise ClipFailure(f"{source}: {windows[0].error if windows else 'no frame could be decoded'}")
    return windows


def summarise_video(
    source: Path | str, windows: Sequence[Prediction], classes: Sequence[str], all_faces: bool
) -> Result:
    """A video's result as JSON values: of its most seen face, of each face with `all_faces`, and of every window."""
    import numpy as np

    def named(values: np.ndarray) -> dict[str, Any]:
        shares = {name: round(float(value), 4) for name, value in zip(classes, values, strict=True)}
        return {"label": classes[int(values.argmax())], "probabilities": shares}

    of_face: dict[int, list[np.ndarray]] = {}
    rows = []
    for window in windows:
        row: Result = {"start": round(window.start, 3), "end": round(window.end, 3)}
        if window.probabilities is None:
            rows.append(row | {"error": window.error})
            continue
        of_face.setdefault(window.face, []).append(window.probabilities)
        if all_faces:
            row |= {"face": window.face, "box": np.median(window.boxes, axis=0).round(1).tolist()}
        row |= named(window.probabilities) | {"modalities": list(window.modalities)}
        rows.append(row | ({"caption": window.caption} if window.caption else {}))
    means = {face: named(np.mean(values, axis=0)) for face, values in sorted(of_face.items())}
    main = max(means, key=lambda face: (len(of_face[face]), -face))
    result = {"video": str(source), **means[main]}
    if all_faces:
        result["faces"] = [{"face": face, "windows": len(of_face[face]), **mean} for face, mean in means.items()]
    return result | {"windows": rows}


def render(
    predictor: VideoPredictor,
    config: Config,
    source: Path,
    windows: Sequence[Prediction],
    out: Path,
    on_second: Callable[[float], None],
) -> None:
    """Write the annotated video: boxes, landmarks, probabilities at the time, and their timeline."""
    from fclip.faces.base import create_backend
    from fclip.report.video.annotate import render_video

    samples = predictor.samples
    detector = samples.cropping.crop
    faces = samples.faces or create_backend(config.backend or ("lite" if detector == "none" else detector))
    render_video(predictor, faces, source, windows, out, on_second)


def format_results(results: list[Result], kind: str) -> list[str]:
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
        for face in result.get("faces", [result]):
            name = f", face {face['face']}" if "face" in face else ""
            share = face["probabilities"][face["label"]]
            lines.append(f"{result['video']}{name}: {face['label']} ({100 * share:.0f} %)")
        for window in result["windows"]:
            what = window.get("error") or "  ".join(
                f"{name} {100 * p:.0f}"
                for name, p in sorted(window["probabilities"].items(), key=lambda kv: -kv[1])[:3]
            )
            face = f"face {window['face']}  " if "face" in window else ""
            lines.append(f"  {window['start']:7.2f} - {window['end']:7.2f} s  {face}{what}")
    return lines


def _csv(results: list[Result]) -> str:
    """One row a window and face: video, face, start, end, label, one column a class, error, caption, what made it."""
    classes = next((list(r["probabilities"]) for r in results if "probabilities" in r), [])
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["video", "face", "start", "end", "label", *classes, "error", "caption", "checkpoint", "fclip"])
    for result in results:
        for window in result.get("windows", [result]):
            values = window.get("probabilities", {})
            cells = [window.get(name, "") for name in ("face", "start", "end", "label")]
            shares = [values.get(name, "") for name in classes]
            made = [result["made_by"][name] or "" for name in ("checkpoint", "fclip")]
            told = [window.get(name, "") for name in ("error", "caption")]
            writer.writerow([result["video"], *cells, *shares, *told, *made])
    return buffer.getvalue()


def _write(path: Path, results: list[Result]) -> None:
    from fclip.files import atomic_write

    if path.suffix == ".csv":
        text = _csv(results)
    elif path.suffix == ".jsonl":
        text = "".join(json.dumps(result) + "\n" for result in results)
    else:
        text = json.dumps(results, indent=1) + "\n"
    with atomic_write(path) as temp:
        temp.write_text(text, encoding="utf-8")
