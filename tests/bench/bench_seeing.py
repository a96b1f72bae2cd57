"""What it saves that a back end's look at the whole frame is handed on, against looking at the crops again.

For each shared clip, in turns: processor seconds of preprocess's part (read, detect, crop, JPEG) and face-analyze's, as it
is and without what was handed on; and video seconds per processor second that prediction makes samples of, both ways.
One thread.

    python -m tests.bench.bench_seeing [--repeats 2]
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fclip.data.media.video import open_source
from fclip.data.storage.strips import decode_strip, encode_strip
from fclip.errors import FclipError
from fclip.faces.base import create_backend
from fclip.seeing.crops import face_clips, rounded
from fclip.seeing.faces import analyse_clips
from fclip.seeing.preparation import Cropping
from fclip.seeing.windows import SampleMaker

SAMPLES = Path(os.environ.get("FCLIP_SAMPLES") or Path(__file__).resolve().parents[3] / "shared" / "samples")


class Plain:
    """A back end that hands on nothing: its detector and its analysis alone."""

    def __init__(self, backend: Any) -> None:
        self.name, self.fingerprint = backend.name, {**backend.fingerprint, "plain": "yes"}
        self.detect, self.analyze = backend.detect, backend.analyze


def seconds(function: Callable[[], Any]) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def stages(backend: Any, path: Path, repeats: int) -> tuple[float, float, float]:
    """Least seconds of the first stage, and of the second as it is and without what was handed on."""
    cropping, found = Cropping("16", 224, backend.name), []

    def first() -> None:
        (clip,) = face_clips(path, cropping, backend)
        found[:] = [clip, encode_strip(clip.crops)]

    def second(handed: bool) -> None:
        clip, strip = found
        frames = decode_strip(strip, *clip.crops.shape[:3])
        analyse_clips(backend, [frames], [rounded(clip.times)], [clip.seen if handed else None])

    turns = [(seconds(first), seconds(lambda: second(True)), seconds(lambda: second(False))) for _ in range(repeats)]
    one, new, old = np.min(turns, axis=0)
    return float(one), float(new), float(old)


def samples(backend: Any, path: Path, repeats: int) -> tuple[float, float]:
    """Least seconds in which prediction makes the samples of a video, as it is and with a second look."""
    makers = [
        SampleMaker(Cropping("8", 224, backend.name), each, each, parsing=plain)
        for plain, each in ((False, backend), (True, Plain(backend)))
    ]
    turns = [[seconds(lambda m=m: list(m.windows(path, 3.0, 1.5))) for m in makers] for _ in range(repeats)]
    new, old = np.min(turns, axis=0)
    return float(new), float(old)


def main() -> None:
    """Print each clip's figures and geometric means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    for name in ("mediapipe", "lite"):
        try:
            backend = create_backend(name)
        except FclipError as error:
            print(f"{name}: not measured: {error}")
            continue
        ratios, gains = [], []
        for path in sorted((SAMPLES / "clips").glob("*")):
            one, new, old = stages(backend, path, repeats)
            predicted, before = samples(backend, path, repeats)
            video = open_source(path)
            length = video.timeline.end
            video.close()
            ratios.append((one + new) / (one + old))
            gains.append(before / predicted)
            print(
                f"{name} {path.name}: {one:.2f} s + {new:.2f} s, was {one:.2f} + {old:.2f}: x {ratios[-1]:.2f}; predict "
                f"{length / predicted:.1f} video s/s, was {length / before:.1f}"
            )
        means = [math.exp(float(np.mean(np.log(values)))) for values in (ratios, gains)]
        print(f"{name}: both stages x {means[0]:.2f}, predict x {means[1]:.2f} (geometric means)")


if __name__ == "__main__":
    main()
