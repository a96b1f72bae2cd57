"""Measure neutral real faces, so that the template captions know what counts as slight, clear and strong.

    fclip preprocess --dataset csv --source pictures.csv --name real --crop mediapipe --frames 1
    fclip face-analyze --dataset real
    python examples/weights/neutral_faces.py fclip-data/real --label neutral --parts train

writes fclip/resources/captions/neutral_faces.json: for each state that channels.json names, the quantiles of its
signals over the neutral faces and how they depend on the head's pose. `mediapipe` rests on blendshapes, landmarks and
pose; `landmarks` on 68 points alone, which is what every other back end gives: those of the same faces, and of
rendered faces at rest (the true ones and what lite finds). They follow slightly different outlines, so of each level
the one furthest out is taken. Only the pictures of the named label and parts are read; give no part that you mean to
test on. Run it again when lite's weights or channels.json change.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fclip.captions.template.activation import channel_table
from fclip.captions.template.measures import measure as plain_measures
from fclip.captions.template.states import QUANTILES, corrected, pose_terms, read_signals, state_sources
from fclip.data.storage.parts import FacesPart
from fclip.data.storage.shards import need_field, parse_info, read_shard
from fclip.errors import ClipFailure
from fclip.faces.base import create_backend
from fclip.files import atomic_write, sha256_bytes
from fclip.records import FaceTrack
from fclip.synth.actions import UNITS
from fclip.synth.clips import sample_clip
from fclip.synth.render import paint_frame, trace_scene

Face = tuple[FaceTrack, tuple[int, int]]  # a track and (height, width) of its frames
OUT = Path(__file__).parents[2] / "fclip" / "resources" / "captions" / "neutral_faces.json"
RENDERED, SIDE = 120, 112  # rendered faces at rest, side of their frames in pixels
FIRST_IDENTITY = 1_500_000  # of people that no rendered data set shows
LEAST = 100  # faces; fewer cannot tell a quantile of 99.5 %
MEASURES = set(plain_measures(np.zeros((1, 68, 2))))
POSE_MATTERS = 0.02  # share of a measure's variance that pose must explain to be corrected for
ABOUT = (
    "What neutral faces look like to the template captions, made by examples/weights/neutral_faces.py: kind of track "
    "-> channel -> signal -> weights of the terms of the head's pose, and the levels base, slight, clear, strong."
)


def main() -> None:
    """Read the arguments, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder with frames/ and faces/ (back end mediapipe)")
    parser.add_argument("--label", default="neutral")
    parser.add_argument("--parts", nargs="*", default=["train"])
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    tracks = list(read_tracks(given.dataset, given.label, set(given.parts)))
    if len(tracks) < LEAST:
        raise SystemExit(f"{given.dataset}: {len(tracks)} faces labelled {given.label}; needs at least {LEAST}")
    write_table(given.out, neutral_table(tracks))
    print(f"{len(tracks)} faces -> {given.out}")


def read_tracks(dataset: Path, label: str, parts: set[str]) -> Iterator[Face]:
    """Tracks, frames without a face left out, and (height, width) of the clips of a label and of some parts."""
    for shard in sorted((dataset / "frames").glob("*.tar")):
        with FacesPart(dataset / "faces" / f"{shard.stem}.h5") as faces:
            for key, fields in read_shard(shard):
                info = parse_info(key, fields)
                if info["label"] != label or info["part"] not in parts or key not in faces.keys:
                    continue
                track = faces.read(key, sha256_bytes(need_field(key, fields, "frames.jpg")))
                if track.blendshapes is None:
                    raise SystemExit(f"{dataset}: no blendshapes; run face-analyze with --backend mediapipe")
                if (track.confidence > 0).all():
                    yield track, (info["height"], info["width"])


def rendered_faces(count: int) -> tuple[list[Face], list[Face]]:
    """One frame each of rendered people at rest, heads turned as in the rendered data sets: by their true landmarks,
    and by those that the back end lite finds.
    """
    lite = create_backend("lite")
    true, found = [], []
    for number in range(count):
        script = sample_clip("neutral", FIRST_IDENTITY + number, 0, ("neutral",))
        values = script.channels(script.times[:1])  # (1, C)
        values[:, : len(UNITS)] = 0.0
        scene = trace_scene(script.person, script.look, values, script.times[:1], script.seed, SIDE)
        true.append((FaceTrack(np.zeros((1, 1, 1), np.uint8), scene.landmarks, np.ones(1, np.float32)), (SIDE, SIDE)))
        with contextlib.suppress(ClipFailure):
            found.append((lite.analyze(paint_frame(scene, 0, 0)[0][None]), (SIDE, SIDE)))
    return true, found


def neutral_table(tracks: list[Face]) -> dict[str, Any]:
    """The table of both kinds of tracks."""
    plain = [(replace(track, blendshapes=None, pose=None), size) for track, size in tracks]
    return {
        "about": ABOUT,
        "faces": {"mediapipe": len(tracks), "landmarks": len(plain)},
        "mediapipe": measure("mediapipe", tracks),
        "landmarks": measure("landmarks", plain, *rendered_faces(RENDERED)),
    }


def measure(kind: str, *groups: list[Face]) -> dict[str, dict[str, Any]]:
    """Channel -> signal -> {pose, levels}; the pose's weights are those of the first group, each level is that of the
    group where it lies furthest out.
    """
    table: dict[str, dict[str, Any]] = {}
    read = [_read(group) for group in groups]
    for spec in channel_table():
        for name in state_sources(spec, kind):
            signals, angles = read[0]
            pose = pose_weights(signals[name], angles) if name.lstrip("-") in MEASURES else []
            quantiles = spec.state.get("quantiles", QUANTILES)
            each = [np.quantile(corrected(values[name][:, None], turn, pose), quantiles) for values, turn in read]
            levels = [float(f"{level:.5g}") for level in np.max(each, axis=0)]
            table.setdefault(spec.name, {})[name] = {"pose": pose, "levels": levels}
    return table


def _read(group: list[Face]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Signals (N,), the mean of both sides, and angles (N, 3) over all frames of a group."""
    read = [read_signals(track, size) for track, size in group]
    signals = {name: np.concatenate([each[name].mean(axis=1) for each, _ in read]) for name in read[0][0]}
    return signals, np.concatenate([angles for _, angles in read])


def pose_weights(values: np.ndarray, angles: np.ndarray) -> list[float]:
    """Least-squares weights of pose_terms for values (N,), or none where pose explains next to nothing."""
    terms = pose_terms(angles)
    with_mean = np.column_stack([np.ones(len(terms)), terms])
    weights = np.linalg.lstsq(with_mean, values, rcond=None)[0]
    explained = 1 - np.var(values - with_mean @ weights) / max(np.var(values), 1e-12)
    return [float(f"{weight:.4g}") for weight in weights[1:]] if explained > POSE_MATTERS else []


def write_table(path: Path, table: dict[str, Any]) -> None:
    """Write the table, a channel a line."""
    kinds = []
    for kind in ("mediapipe", "landmarks"):
        rows = [f"{json.dumps(channel)}: {json.dumps(signals)}" for channel, signals in table[kind].items()]
        kinds.append(f"{json.dumps(kind)}: {{\n" + ",\n".join(rows) + "\n}")
    text = (
        f'{{\n"about": {json.dumps(table["about"])},\n"faces": {json.dumps(table["faces"])},\n'
        + ",\n".join(kinds)
        + "\n}"
    )
    with atomic_write(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
