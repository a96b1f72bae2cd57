"""Make the bundled weights again: `python -m fclip.synth.weights [--lite] [--tiny] [--out DIR] [--seed N]`.

Renders people whom no data set shows, trains `lite` and `tiny` from scratch on one CPU core, measures both on yet other
people and writes lite.safetensors, tiny.safetensors and weights.json, the figures that the README gives.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fclip.errors import FclipError

if TYPE_CHECKING:
    from fclip.faces.base import FaceDetector
    from fclip.faces.lite.backend import LiteBackend

logger = logging.getLogger(__name__)

RESOURCES = Path(__file__).parent.parent / "resources"
LITE_CLIPS, LITE_FRAMES, LITE_SIZE = 2000, 5, 192  # clips rendered to train on, frames of each, their pixels
TINY_CLIPS, TINY_FRAMES, TINY_SIZE, TINY_SHARE = 3000, 6, 112, 0.53
HELD_LITE, HELD_TINY = 100, 420  # clips of the held-out figures
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"  # real clips beside a checkout; FCLIP_SAMPLES says else
REAL = ("images/*.*", "clips/*.mpg", "clips/*.mp4")  # pictures and videos with faces in them
NOTE = "frames with a face and its landmarks after MediaPipe; difference as a share of the inter-ocular distance"


def make_lite(out: Path, seed: int = 0, clips: int = LITE_CLIPS, **amounts: int) -> dict[str, Any]:
    """Render, train, write `out`/lite.safetensors and return the held-out figures: whole frames, then tight crops."""
    from fclip.faces.base import WeightsOptions
    from fclip.faces.lite.backend import LiteBackend
    from fclip.faces.lite.network import save_lite
    from fclip.synth.pool import HELD_OUT, TRAINING, class_names, make_pool
    from fclip.synth.train_lite import lite_figures, train_lite

    with tempfile.TemporaryDirectory(prefix="fclip-lite-") as folder:
        work = Path(folder)
        logger.info("lite: rendering %d clips of %d frames", clips, LITE_FRAMES)
        pool = make_pool(work / "train", clips, LITE_FRAMES, TRAINING, class_names(), LITE_SIZE)
        networks = train_lite(pool, seed, **amounts)
        save_lite(out / "lite.safetensors", networks, seed=seed, clips=clips)
        backend = LiteBackend(WeightsOptions(out / "lite.safetensors"))
        held = min(HELD_LITE, clips)
        frames = make_pool(work / "frames", held, 4, HELD_OUT, class_names())
        crops = make_pool(work / "crops", held, 4, HELD_OUT, class_names(), 80, 0.65)
        return {
            f"{kind}_{pool.frames.shape[1]}": lite_figures(backend, pool, plain=4 * held)
            for kind, pool in (("frames", frames), ("crops", crops))
        }


def make_tiny(out: Path, seed: int = 0, clips: int = TINY_CLIPS, **amounts: int) -> dict[str, Any]:
    """Render, train, write `out`/tiny.safetensors and return the held-out figures on the seven classes."""
    from safetensors.torch import save_file

    from fclip.models.backbone.clip import load_clip
    from fclip.models.backbone.tiny import load_tiny_state, save_tiny
    from fclip.synth.pool import HELD_OUT, TRAINING, class_names, make_pool
    from fclip.synth.train_tiny import tiny_figures, train_tiny

    with tempfile.TemporaryDirectory(prefix="fclip-tiny-") as folder:
        work = Path(folder)
        logger.info("tiny: rendering %d clips of %d frames", clips, TINY_FRAMES)
        pool = make_pool(work / "train", clips, TINY_FRAMES, TRAINING, class_names(), TINY_SIZE, TINY_SHARE)
        state, ids = train_tiny(pool, seed, **amounts)
        save_tiny(out / "tiny.safetensors", state, ids.tolist())
        seven = list(class_names("demo7"))
        held = make_pool(work / "held", min(HELD_TINY, clips), 8, HELD_OUT, seven, TINY_SIZE, TINY_SHARE)
        save_file(load_tiny_state(out / "tiny.safetensors"), work / "full.safetensors")  # as stored: rounded to float16
        return tiny_figures(load_clip("tiny", weights=work / "full.safetensors"), held, seven)


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
    from fclip.errors import ClipFailure
    from fclip.faces.boxes import intersection_over_union
    from fclip.faces.landmarks import inter_ocular

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


def main(arguments: list[str] | None = None) -> None:
    """Train what was asked for (both by default), print the figures and keep them in weights.json."""
    parser = argparse.ArgumentParser(prog="python -m fclip.synth.weights", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--lite", action="store_true", help="only the face networks")
    parser.add_argument("--tiny", action="store_true", help="only the small CLIP")
    parser.add_argument("--real", action="store_true", help="only measure the lite weights in --out on real samples")
    parser.add_argument("--out", type=Path, default=RESOURCES, help="folder to write to (default: the package's own)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "weights.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    everything = not (options.lite or options.tiny or options.real)
    if options.lite or everything:
        figures["lite"] = make_lite(options.out, options.seed)
    if options.tiny or everything:
        figures["tiny"] = make_tiny(options.out, options.seed)
    if options.lite or options.real or everything:
        figures["lite_real"] = measure_real(options.out) or figures.get("lite_real")
    path.write_text(json.dumps(_rounded(figures), indent=1) + "\n")
    print(path.read_text(), end="")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)  # one core is assumed everywhere, and keeps sums in the same order
    main()
