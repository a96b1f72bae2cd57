"""An annotated video (`fclip predict --render`): its frames a few at a time, its sound as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fclip.errors import ClipFailure
from fclip.runner.tasks import batches

if TYPE_CHECKING:
    from fclip.engine.predict.windows import Prediction, VideoPredictor
    from fclip.faces.base import FaceBackend
    from fclip.report.video.overlay import FaceMarks, FaceSeries

CHUNK = 32  # frames held at once, of wide videos half as many
SIDE = 160  # pixels of the crops in which landmarks are found


def render_video(
    predictor: VideoPredictor,
    faces: FaceBackend,
    source: Path,
    windows: Sequence[Prediction],
    out: Path,
    on_second: Callable[[float], None] = lambda second: None,
) -> None:
    """Write the annotated video with the source's sound; `on_second` is told the time of each frame that is drawn."""
    from fclip.data.media.video import open_source, write_video

    video = open_source(source)
    fps, seconds = min(max(video.timeline.fps, 1.0), 60.0), video.timeline.end
    video.close()
    out.parent.mkdir(parents=True, exist_ok=True)

    def drawn() -> Iterator[np.ndarray]:
        for time, picture in draw_frames(predictor, faces, source, windows, seconds):
            on_second(time)
            times.append(time)
            yield picture

    times: list[float] = []
    with predictor.spent.on("encoding"):
        write_video(out, predictor.spent.each(drawn(), "drawing"), fps, times=times, sound=source)


def draw_frames(
    predictor: VideoPredictor,
    faces: FaceBackend | None,
    source: Path,
    windows: Sequence[Prediction],
    seconds: float,
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds, picture) of every frame of a video with what the windows say about it drawn in; `faces` finds the
    landmarks."""
    from fclip.data.media.images import bounded_size, source_pixels
    from fclip.data.media.video import iter_frames, open_source
    from fclip.report.video.overlay import Overlay

    of_face = {face: [w for w in windows if w.face == face] for face in sorted({w.face for w in windows} - {0})}
    cropping = predictor.samples.cropping
    margin = None if predictor.samples.detector is None else cropping.margin
    overlay = None
    with closing(open_source(source)) as video:
        extent = video.extent
    size = bounded_size(extent, CHUNK // 2)
    for group in batches(iter_frames(source, size), CHUNK if size is None else CHUNK // 2):
        frames, times = np.stack([frame for _, frame in group]), np.array([time for time, _ in group])
        group.clear()
        if overlay is None:
            series = {face: face_series(found) for face, found in of_face.items()}
            overlay = Overlay(predictor.model.classes, series, seconds, frames.shape[1:3])
            if size is not None and predictor.samples.detector is not None:
                shrunk = source_pixels(extent, frames.shape[1:])
                of_face = {face: [replace(w, boxes=w.boxes / shrunk) for w in found] for face, found in of_face.items()}
        marks: list[dict[int, FaceMarks]] = [{} for _ in frames]
        for face, found in of_face.items():
            with predictor.spent.on("landmarks to draw"):
                there = _marks(faces, margin, found, frames, times)
            for index, mark in there.items():
                marks[index][face] = mark
        for frame, time, marked in zip(frames, times, marks, strict=True):
            yield float(time), overlay.draw(frame, float(time), marked)


def face_series(windows: Sequence[Prediction]) -> FaceSeries:
    """A face's probabilities over time, from its windows."""
    from fclip.report.video.overlay import FaceSeries

    probabilities = np.stack([w.probabilities for w in windows if w.probabilities is not None])
    starts, ends = np.array([w.seen for w in windows]).T
    return FaceSeries(starts, ends, probabilities)


def _marks(
    faces: FaceBackend | None,
    margin: float | None,
    windows: Sequence[Prediction],
    frames: np.ndarray,
    times: np.ndarray,
) -> dict[int, FaceMarks]:
    """{index of the frame: box and landmarks} of one face, where a window has it.

    margin: of the crops that the windows' boxes are; None where the whole frame is the crop.
    """
    from fclip.engine.predict.windows import boxes_at
    from fclip.faces.crop import crop_faces
    from fclip.report.video.overlay import FaceMarks

    near = [w for w in windows if w.start <= times[-1] and w.end >= times[0]]
    covers = np.array([[w.seen[0] <= time <= w.seen[1] for time in times] for w in near]).reshape(-1, len(times))
    there = np.flatnonzero(covers.any(0))
    if not len(there):
        return {}
    if margin is None:
        height, width = frames.shape[1:3]
        boxes = np.tile(np.array([0.0, 0.0, width, height]), (len(there), 1))
        crops = frames[there]
    else:
        every = np.stack([boxes_at(w, times[there]) for w in near])  # (windows, n, 4)
        boxes = np.average(every, axis=0, weights=np.repeat(covers[:, there, None], 4, axis=2))  # (n, 4)
        crops = crop_faces(frames[there], boxes, SIDE)
    marks = {int(i): FaceMarks(_shrunk(b, margin) if margin else None) for i, b in zip(there, boxes, strict=True)}
    try:
        track = faces.analyze(crops, times[there]) if faces else None
    except ClipFailure:
        track = None
    if track is not None:
        points = boxes[:, None, :2] + track.landmarks * (boxes[:, None, 2:] - boxes[:, None, :2])  # (n, 68, 2)
        for place, i in enumerate(there.tolist()):
            if track.confidence[place] > 0:
                marks[i] = FaceMarks(face_box(points[place]), points[place])
    return marks


def _shrunk(crop: np.ndarray, margin: float) -> np.ndarray:
    """The face in the middle of a crop (4,), as large as the margin left it."""
    centre, half = (crop[:2] + crop[2:]) / 2, (crop[2:] - crop[:2]) / 2 / margin
    return np.concatenate([centre - half, centre + half])


def face_box(points: np.ndarray) -> np.ndarray:
    """The box (4,) of a face by its landmarks (68, 2): all of them, and the forehead that no landmark is on."""
    low, high = points.min(axis=0), points.max(axis=0)
    wide, tall = high - low
    return np.array([low[0] - 0.04 * wide, low[1] - 0.3 * tall, high[0] + 0.04 * wide, high[1] + 0.04 * tall])
