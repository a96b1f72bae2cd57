"""Training on cached frame features against encoding the frames in every step, as ratios of one run.

Both go through the same loader function, trainer and optimizer; the cache's first filling is timed on its own and is
part of the second figure.

    python -m tests.bench features
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from fclip.engine.batches.loading import clip_loader
from fclip.engine.batches.prepare import InputPreparer
from fclip.models import create_model
from fclip.models.base import ExpressionModel
from tests.data.storage_files import packed_shard

EPOCHS = 50  # of the recipe of linear-probe and coop
CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


def epoch_seconds(model: ExpressionModel, loader: Any) -> float:
    """Seconds of one epoch of training steps."""
    prepare = InputPreparer(model, torch.device("cpu"))
    optimizer = torch.optim.SGD(model.parameter_groups(1e-3, 0.0), momentum=0.9)
    start = time.perf_counter()
    for batch in loader.epoch(0):
        for _, inputs in prepare.groups(batch):
            optimizer.zero_grad()
            model(inputs).loss.backward()
            optimizer.step()
    return time.perf_counter() - start


def bench(variant: str, clip: str, clips: int, frames: int, size: int, epochs: int) -> None:
    batch = min(16, clips)
    torch.manual_seed(0)
    model = create_model(variant, clip, CLASSES, frames, "random").train()
    folder = Path(tempfile.mkdtemp())
    try:
        shard = packed_shard(
            folder / "part1-00000.tar",
            [f"k{n}" for n in range(clips)],
            CLASSES,
            False,
            count=frames,
            height=size,
            width=size,
        )
        start = time.perf_counter()
        cached = clip_loader([shard], model, batch, train=True, features=folder / "features")
        fill = time.perf_counter() - start
        plain = clip_loader([shard], model, batch, train=True)
        times: dict[str, list[float]] = {"cached": [], "plain": []}
        for _ in range(epochs):  # in turns
            times["cached"].append(epoch_seconds(model, cached))
            times["plain"].append(epoch_seconds(model, plain))
        start = time.perf_counter()
        clip_loader([shard], model, batch, train=True, features=folder / "features")
        opened = time.perf_counter() - start
    finally:
        shutil.rmtree(folder)
    fast, slow = min(times["cached"]), min(times["plain"])
    print(f"{variant}, CLIP {clip}, {clips} clips of {frames} frames, {torch.get_num_threads()} thread(s)")
    print(f"  an epoch: {slow / fast:.0f} x faster ({fast:.4f} s against {slow:.2f} s)")
    whole = EPOCHS * slow / (fill + EPOCHS * fast)
    print(
        f"  {EPOCHS} epochs with filling the cache ({fill:.2f} s): {whole:.1f} x faster; opening it again {opened:.3f} s",
        flush=True,
    )


def main() -> None:
    logging.disable(logging.WARNING)
    bench("linear-probe", "tiny", clips=64, frames=8, size=80, epochs=3)
    bench("linear-probe", "ViT-B-32", clips=2, frames=16, size=224, epochs=1)


if __name__ == "__main__":
    main()
