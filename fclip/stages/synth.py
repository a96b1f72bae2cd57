"""`fclip synth`: the built-in data set of rendered faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fclip.config import CommonConfig, option
from fclip.errors import UsageError
from fclip.runner.report import StageReport


@dataclass(frozen=True)
class Config(CommonConfig):
    """Write a data set of rendered faces: real H.264 files, labels, five identity-disjoint folds.

    demo7 has DFEW's 7 classes, demo11 MAFW's 11 with human-style captions. It is for trying the whole pipeline and for
    tests; it says nothing about real faces.

    Example:  fclip synth --dataset demo7 --clips 350
    """

    dataset: Literal["demo7", "demo11"] | None = option("demo7", "which data set", output=True)
    seed: int = option(0, "seed of everything random", output=True)
    clips: int = option(350, "number of clips", output=True)
    out: Path | None = option(None, "output folder instead of <root>/<dataset>/source")
    workers: int = option(0, "worker processes; 0 = one per CPU core")


def run(config: Config) -> StageReport:
    """Render the data set into `<root>/<dataset>/source`; raises OutputDiffers if another one is there."""
    import os

    from fclip.config import config_dict
    from fclip.runner.commit import Manifest, write_sealed
    from fclip.runner.folder import OutputFolder, with_hash
    from fclip.runner.hashes import file_record
    from fclip.runner.progress import progress_bar
    from fclip.runner.verify import is_whole
    from fclip.synth.dataset import write_dataset

    name = config.dataset or "demo7"
    out = config.out or config.root / name / "source"
    if config.clips < 1:
        raise UsageError(f"--clips {config.clips}: at least 1")
    manifest = out / "manifest.json"
    with OutputFolder(out).claim(config_dict(config, output_only=True), config.overwrite) as found:
        if found and not config.overwrite and is_whole(out):
            os.utime(manifest)
            return StageReport("synth", out, {"clips": config.clips}, lines=["already there"])
        manifest.unlink(missing_ok=True)
        workers = config.workers or os.cpu_count() or 1
        with progress_bar(config.clips, "synth", "clip") as bar:
            summary = write_dataset(name, out, config.clips, config.seed, workers, bar.update)
        files = ("annotations.csv", "dataset.json", *(f"clips/{path.name}" for path in (out / "clips").glob("*.mp4")))
        hashed = {file: file_record(out / file) for file in files}
        totals = {"ok": config.clips, "skipped": 0, "failed": 0}
        identity = with_hash(config_dict(config, output_only=True))
        write_sealed(manifest, Manifest("synth", "", identity["config_hash"], (), totals, True, hashed))
    return StageReport("synth", out, {"clips": config.clips}, {"summary": summary})
