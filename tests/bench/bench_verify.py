"""What it costs to compare packed shards with their hashes, as a share of the loading of one training epoch.

Processor time in one process and one thread. The first command that reads the files pays it, once; later ones, and later
epochs, pay a look at the file's size and times.

    python -m tests.bench.bench_verify [--clips 32] [--repeats 4]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from fclip.data.training.augment import Augmentation
from fclip.data.training.loader import ClipLoader
from fclip.runner import hashes
from fclip.runner.commit import Manifest, ShardRow, write_sealed
from fclip.runner.hashes import file_record
from fclip.runner.verify import verified
from tests.bench.bench_loader import BATCH, FRAMES, SIZE, real_clips, write_data


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shard, _ = write_data(Path(folder), real_clips(), options.clips)
        record = file_record(shard)
        row = ShardRow(shard.stem, options.clips, record.bytes, record.sha256)
        totals = {"ok": options.clips, "skipped": 0, "failed": 0}
        write_sealed(shard.with_name("manifest.json"), Manifest("pack", ".tar", "0" * 64, (row,), totals, True, {}))
        loader = ClipLoader(
            [shard],
            BATCH,
            train=True,
            image_size=SIZE,
            frames=FRAMES,
            augmentation=Augmentation(),
            wanted=("parsing", "landmarks", "caption"),
        )
        loading = min(measure(lambda: sum(1 for _ in loader.epoch(0))) for _ in range(options.repeats))
        hashes.TICK = 0  # the file was written this very moment
        first = min(measure(lambda: verify_anew(shard)) for _ in range(options.repeats))
        again = min(measure(lambda: verified(shard)) for _ in range(100))
    print(
        f"{options.clips} clips, {record.bytes / 1e6:.1f} MB: an epoch's loading {1000 * loading:.0f} ms of processor time"
    )
    print(f"verified the first time: {1000 * first:.2f} ms, {100 * first / loading:.2f} % of it")
    print(f"verified again: {1000 * again:.3f} ms, {100 * again / loading:.3f} % of it")


def verify_anew(path: Path) -> None:
    """Verify as a process does that has not seen the file."""
    hashes._MEMORIES.clear()
    verified(path)


def measure(work: object) -> float:
    """Processor seconds of a call."""
    started = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - started


if __name__ == "__main__":
    main()
