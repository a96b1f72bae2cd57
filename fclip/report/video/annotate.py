"""The frames of an annotated video (`fclip predict --render`), a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fclip.errors import ClipFailure
from fclip.runner.tasks import batches

if TYPE_CHECKING:
    import numpy as np

    from fclip.engine.predict.windows import Prediction, VideoPredictor
    from fclip.faces.base import FaceBackend
    from fclip.report.video.overlay import FaceMarks, FaceSeries

CHUNK = 32  # frames held at once
SIDE = 160  # pixels of the crops in which landmarks are found


def draw_frames(
    predictor: VideoPredictor,
    faces: FaceBackend | None,
    source: Path,
    windows: Sequence[Prediction],
    seconds: float,
) -> Iterator[np.ndarray]:
    """Yield every frame of a video with what the windows say about it drawn in; `faces` finds the landmarks."""
    import numpy as np

    from fclip.data.media.video import iter_frames
    from fclip.report.video.overlay import Overlay

    of_face = {face: [w for w in windows if w.face == face] for face in sorted({w.face for w in windows} - {0})}
    overlay = None
    for group in batches(iter_frames(source), CHUNK):
        frames, times = np.stack([frame for _, frame in group]), np.array([time for time, _ in group])
        if overlay is None:
            series = {face: face_series(found) for face, found in of_face.items()}
            overlay = Overlay(predictor.model.classes, series, seconds, frames.shape[1:3])
        marks: list[dict[int, FaceMarks]] = [{} for _ in group]
        for face, found in of_face.items():
            for index, mark in _marks(faces, predictor.samples.detector is None, found, frames, times).items():
                marks[index][face] = mark
        for frame, time, there in zip(frames, times, marks, strict=True):
            yield overlay.draw(frame, float(time), there)


def face_series(windows: Sequence[Prediction]) -> FaceSeries:
    """A face's probabilities over time, from its windows."""
    import numpy as np

    from fclip.report.video.overlay import FaceSeries

    probabilities = np.stack([w.probabilities for w in windows if w.probabilities is not None])
    starts, ends = np.array([w.seen for w in windows]).T
    return FaceSeries(starts, ends, probabilities)


def _marks(
    faces: FaceBackend | None, whole: bool, windows: Sequence[Prediction], frames: np.ndarray, times: np.ndarray
) -> dict[int, FaceMarks]:
    """{index of the frame: box and landmarks} of one face, where a window has it; `whole`: the frame is the face."""
    import numpy as np

    from fclip.engine.predict.windows import boxes_at
    from fclip.faces.crop import crop_faces
    from fclip.report.video.overlay import FaceMarks

    near = [w for w in windows if w.start <= times[-1] and w.end >= times[0]]
    covers = np.array([[w.seen[0] <= time <= w.seen[1] for time in times] for w in near]).reshape(-1, len(times))
    there = np.flatnonzero(covers.any(0))
    if not len(there):
        return {}
    if whole:
        height, width = frames.shape[1:3]
        boxes = np.tile(np.array([0.0, 0.0, width, height]), (len(there), 1))
        crops = frames[there]
    else:
        every = np.stack([boxes_at(w, times[there]) for w in near])  # (windows, n, 4)
        boxes = np.average(every, axis=0, weights=np.repeat(covers[:, there, None], 4, axis=2))  # (n, 4)
        crops = crop_faces(frames[there], boxes, SIDE)
    marks = {int(i): FaceMarks(None if whole else b) for i, b in zip(there, boxes, strict=True)}
    try:
        track = faces.analyze(crops, times[there]) if faces else None
    except ClipFailure:
        track = None
    if track is not None:
        points = boxes[:, None, :2] + track.landmarks * (boxes[:, None, 2:] - boxes[:, None, :2])  # (n, 68, 2)
        for place, i in enumerate(there.tolist()):
            if track.confidence[place] > 0:
                marks[i] = FaceMarks(marks[i].box, points[place])
    return marks
