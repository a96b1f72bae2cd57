"""The built-in data sets demo7 and demo11: rendered clips as H.264 files, with annotations and five folds.

<out>/clips/<key>.mp4 · <out>/annotations.csv (path,label,part,caption,identity) · <out>/dataset.json (name, classes,
folds, seed, clips, version). No person occurs in two parts, nor in both data sets.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fclip.data.media.video import write_video
from fclip.errors import UsageError
from fclip.files import atomic_write, resource_json, write_json
from fclip.runner.pool import in_workers
from fclip.synth.clips import render_clip, sample_clip

VERSION = 1  # of the renderer: changes whenever equal arguments give other clips
SIZE = 160  # pixels of a frame
PARTS = ("part1", "part2", "part3", "part4", "part5")
CLIPS_PER_PERSON = 6
FIRST_PERSON = {"demo7": 0, "demo11": 50_000}
CAPTIONED = ("demo11",)
CLASSES: dict[str, list[str]] = resource_json("classes.json")  # data set -> class names in its official order


@dataclass(frozen=True)
class PlannedClip:
    """One clip to render: `quality` is x264's constant rate factor."""

    key: str
    label: str
    part: str
    identity: int
    seed: int
    quality: int


def write_dataset(
    name: str, out: Path, clips: int, seed: int, workers: int, progress: Callable[[int], Any] | None = None
) -> dict[str, Any]:
    """Render the data set `name` with `clips` clips into `out` and return the content of dataset.json.

    Equal arguments give equal bytes, whatever `workers`. `progress` is called with 1 after each clip. Raises
    UsageError if `name` is unknown or there are too few clips for every class to be in every part.
    """
    plan = plan_dataset(name, clips, seed)
    classes = tuple(CLASSES[name])
    jobs = [(clip, classes, out / "clips" / f"{clip.key}.mp4") for clip in plan]
    captions: dict[str, str] = {}
    for key, caption in _run(jobs, workers):
        captions[key] = caption
        if progress:
            progress(1)
    with atomic_write(out / "annotations.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "part", "caption", "identity"))
        for clip in plan:
            caption = captions[clip.key] if name in CAPTIONED else ""
            writer.writerow((f"clips/{clip.key}.mp4", clip.label, clip.part, caption, clip.identity))
    folds = {
        str(number): {"train": [part for part in PARTS if part != test], "test": [test]}
        for number, test in enumerate(PARTS, 1)
    }
    description = {
        "name": name,
        "classes": list(classes),
        "folds": folds,
        "seed": seed,
        "clips": clips,
        "version": VERSION,
    }
    write_json(out / "dataset.json", description)
    return description


def plan_dataset(name: str, clips: int, seed: int) -> list[PlannedClip]:
    """Decide label, part and person of every clip: classes slightly imbalanced as in real data sets, parts alike."""
    if name not in FIRST_PERSON:
        raise UsageError(f"unknown rendered data set {name!r}; choose one of {', '.join(FIRST_PERSON)}")
    classes = CLASSES[name]
    if clips < len(PARTS) * len(classes):
        raise UsageError(
            f"{clips} clips are too few for {name}: at least {len(PARTS) * len(classes)}, so that every "
            "class is in every part"
        )
    rng = np.random.default_rng([179424673, seed, FIRST_PERSON[name]])
    people = FIRST_PERSON[name] + rng.permutation(50_000)
    person, plan = 0, list[PlannedClip]()
    for number, part in enumerate(PARTS):
        count = clips // len(PARTS) + (number < clips % len(PARTS))
        times = class_counts(classes, count)
        labels = [label for label, repeats in zip(classes, times, strict=True) for _ in range(repeats)]
        crowd = people[person : person + max(2, -(-count // CLIPS_PER_PERSON))]
        person += len(crowd)
        for place, chosen in enumerate(rng.permutation(count)):
            index = len(plan)
            plan.append(
                PlannedClip(
                    f"{name}-{index:05d}",
                    labels[chosen],
                    part,
                    int(crowd[place % len(crowd)]),
                    seed * 1_000_003 + index,
                    int(rng.integers(17, 33)),
                )
            )
    return plan


def class_counts(classes: list[str], count: int) -> list[int]:
    """Split `count` clips over the classes by their shares (largest remainders), each class at least once."""
    shares = np.array([resource_json("action_units.json")["shares"][label] for label in classes])
    wanted = 1 + (count - len(classes)) * shares / shares.sum()
    counts = np.floor(wanted).astype(int)
    for index in np.argsort(counts - wanted, kind="stable")[: count - counts.sum()]:
        counts[index] += 1
    return [int(value) for value in counts]


Job = tuple[PlannedClip, tuple[str, ...], Path]


def _run(jobs: list[Job], workers: int) -> Iterable[tuple[str, str]]:
    if workers <= 1:
        yield from map(_write_clip, jobs)
        return
    yield from in_workers(_write_clip, [(job,) for job in jobs], min(workers, len(jobs)), "rendering")


def _write_clip(job: Job) -> tuple[str, str]:
    """Render and encode one clip; returns its key and caption. Runs in a worker process."""
    clip, classes, path = job
    rendered = render_clip(sample_clip(clip.label, clip.identity, clip.seed, classes), SIZE)
    write_video(path, rendered.frames, rendered.fps, clip.quality)
    return clip.key, rendered.caption
