"""Make the bundled weights again: `python -m examples.weights [--real-faces DIR] [--lite] [--tiny] [--expressions]`.

Renders people whom no data set shows and takes the labelled pictures of people in DIR, if given, trains `lite` and
`tiny` from scratch on one CPU core, measures both on yet other people and writes lite.safetensors, tiny.safetensors
and weights.json, their model card. With DIR also the runs that answer `fclip predict FILE`, in expressions/.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .real import RealFaces

logger = logging.getLogger(__name__)

RESOURCES = Path(__file__).parents[2] / "fclip" / "resources"
LITE_CLIPS, LITE_FRAMES = 2000, 5  # clips rendered to train on, frames of each
TINY_CLIPS, TINY_FRAMES, TINY_SIZE, TINY_SHARE = 3000, 6, 112, 0.53
HELD_LITE, HELD_TINY = 100, 420  # clips of the held-out figures
LIMITS = (
    "Landmarks and labels of the real pictures are MediaPipe's and one rater's, errors included.",
    "The pictures show public figures (LFW, IMFDB); people, light and poses that they lack were not measured.",
    "An expression that is shown is not an emotion that is felt.",
)


def make_lite(
    out: Path, real: RealFaces | None = None, seed: int = 0, clips: int = LITE_CLIPS, **amounts: int
) -> dict[str, Any]:
    """Render, train, write `out`/lite.safetensors and return the held-out figures: whole frames, then tight crops."""
    from fclip.faces.base import WeightsOptions
    from fclip.faces.lite.backend import LiteBackend
    from fclip.faces.lite.network import save_lite

    from .faces import FaceSource
    from .lite import lite_figures, train_lite
    from .pool import HELD_OUT, TRAINING, class_names, make_pool
    from .real import SIZE

    with tempfile.TemporaryDirectory(prefix="fclip-lite-") as folder:
        work = Path(folder)
        logger.info("lite: rendering %d clips of %d frames", clips, LITE_FRAMES)
        pool = make_pool(work / "train", clips, LITE_FRAMES, TRAINING, class_names(), SIZE)
        networks = train_lite(FaceSource(pool, real), seed, **amounts)
        save_lite(
            out / "lite.safetensors", networks, seed=seed, clips=clips, real=0 if real is None else len(real.labels)
        )
        backend = LiteBackend(WeightsOptions(out / "lite.safetensors"))
        held = min(HELD_LITE, clips)
        frames = make_pool(work / "frames", held, 4, HELD_OUT, class_names())
        crops = make_pool(work / "crops", held, 4, HELD_OUT, class_names(), 80, 0.65)
        return {
            f"{kind}_{pool.frames.shape[1]}": lite_figures(backend, pool, plain=4 * held)
            for kind, pool in (("frames", frames), ("crops", crops))
        }


def make_tiny(
    out: Path, real: RealFaces | None = None, seed: int = 0, clips: int = TINY_CLIPS, **amounts: int
) -> dict[str, Any]:
    """Render, train, write `out`/tiny.safetensors and return the held-out figures on the seven classes."""
    from fclip.models.backbone.tiny import save_tiny

    from .pool import HELD_OUT, TRAINING, class_names, make_pool
    from .tiny import tiny_figures, train_tiny

    with tempfile.TemporaryDirectory(prefix="fclip-tiny-") as folder:
        work = Path(folder)
        logger.info("tiny: rendering %d clips of %d frames", clips, TINY_FRAMES)
        pool = make_pool(work / "train", clips, TINY_FRAMES, TRAINING, class_names(), TINY_SIZE, TINY_SHARE)
        state, ids = train_tiny(pool, real, seed, **amounts)
        save_tiny(out / "tiny.safetensors", state, ids.tolist())
        seven = list(class_names("demo7"))
        held = make_pool(work / "held", min(HELD_TINY, clips), 8, HELD_OUT, seven, TINY_SIZE, TINY_SHARE)
        return tiny_figures(load_written(out), held, seven)


def load_written(out: Path) -> Any:
    """The CLIP of `out`/tiny.safetensors, as stored: rounded to float16."""
    from safetensors.torch import save_file

    from fclip.models.backbone.clip import load_clip
    from fclip.models.backbone.tiny import load_tiny_state

    with tempfile.TemporaryDirectory(prefix="fclip-tiny-") as folder:
        save_file(load_tiny_state(out / "tiny.safetensors"), Path(folder) / "full.safetensors")
        return load_clip("tiny", weights=Path(folder) / "full.safetensors")


def measure(out: Path, folder: Path | None, train: RealFaces | None) -> dict[str, Any]:
    """Figures of the weights in `out` on real people: the test part of `folder` and the clips beside the checkout."""
    from fclip.faces.base import WeightsOptions
    from fclip.faces.lite.backend import LiteBackend

    from .measure import lite_on_faces, measure_real, tiny_on_faces
    from .real import load_real

    found: dict[str, Any] = {}
    if folder is not None and train is not None:
        test = load_real(folder, test=True)
        found["lite"] = lite_on_faces(LiteBackend(WeightsOptions(out / "lite.safetensors")), test)
        found["tiny"] = tiny_on_faces(load_written(out), train, test)
    if (clips := measure_real(out)) is not None:
        found["lite_clips"] = clips
    return found


def training_data(clips: int, folder: Path | None, real: RealFaces | None) -> dict[str, Any]:
    """What a network was trained on, for the model card: rendered clips, and real pictures with their source."""
    card: dict[str, Any] = {"rendered_clips": clips, "real": None}
    if folder is not None and real is not None:
        about = folder / "about.json"  # name, source and licence of the pictures, if the folder says it
        card["real"] = json.loads(about.read_text()) if about.is_file() else {}
        card["real"] |= {"pictures": len(real.labels), "identities": len(set(real.identities.tolist()))}
    return card


def main(arguments: list[str] | None = None) -> None:
    """Train what was asked for (both by default), print the figures and keep them in weights.json."""
    parser = argparse.ArgumentParser(prog="python -m examples.weights", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument(
        "--real-faces", type=Path, help="folder with labels.csv and pictures; without: rendered faces only"
    )
    parser.add_argument("--lite", action="store_true", help="only the face networks")
    parser.add_argument("--tiny", action="store_true", help="only the small CLIP")
    parser.add_argument("--expressions", action="store_true", help="only the runs behind `fclip predict FILE`")
    parser.add_argument("--measure", action="store_true", help="only measure the weights in --out on real people")
    parser.add_argument("--out", type=Path, default=RESOURCES, help="folder to write to (default: the package's own)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    options.out.mkdir(parents=True, exist_ok=True)
    everything = not (options.lite or options.tiny or options.expressions or options.measure)
    networks = everything or options.lite or options.tiny or options.measure
    real = None
    if options.real_faces is None:
        logger.info("no folder of real faces given (REAL_FACES=DIR): training on rendered faces only")
    elif networks:
        from .real import load_real

        real = load_real(options.real_faces)
    path = options.out / "weights.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    training = figures.setdefault("training", {})
    if options.lite or everything:
        figures["lite"] = make_lite(options.out, real, options.seed)
        training["lite"] = training_data(LITE_CLIPS, options.real_faces, real)
    if options.tiny or everything:
        figures["tiny"] = make_tiny(options.out, real, options.seed)
        training["tiny"] = training_data(TINY_CLIPS, options.real_faces, real)
    if options.real_faces is not None and (options.expressions or everything):
        from .expressions import make_expressions

        with tempfile.TemporaryDirectory(prefix="fclip-expressions-") as work:
            figures["expressions"] = make_expressions(options.out, options.real_faces, Path(work))
    if networks:
        figures["real"] = figures.get("real", {}) | measure(options.out, options.real_faces, real)
    figures["limits"] = list(LIMITS)
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
