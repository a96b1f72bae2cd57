"""Where things lie: <root>/<dataset>/<stage>, <root>/runs; names the command that makes what is missing."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from fclip.config import CommonConfig, ShardConfig
from fclip.errors import FclipError, MissingOutput, UsageError
from fclip.runner.folder import CONFIG
from fclip.runner.verify import STAGE_FOLDERS, read_manifest

DEFAULT_MAX_FAILED = 0.05
BUILT_IN = ("demo7", "demo11")  # their source lies in the workspace: fclip synth makes it


def find_dataset(config: CommonConfig) -> str:
    """The data set's name: --dataset, or the only one in the root; UsageError when that is not clear."""
    if config.dataset:
        return config.dataset
    names = sorted(
        folder.name
        for folder in (config.root.iterdir() if config.root.is_dir() else [])
        if folder.is_dir() and any((folder / stage).is_dir() for stage in STAGE_FOLDERS)
    )
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(
            f"{config.root}: holds no data set; name one with --dataset, or make one: fclip synth{_root(config)}"
        )
    raise UsageError(f"{config.root}: holds several data sets ({', '.join(names)}); choose one with --dataset")


def dataset_folder(config: CommonConfig) -> Path:
    """<root>/<dataset>."""
    return config.root / find_dataset(config)


def stage_input(config: ShardConfig, stage: str) -> Path:
    """Folder that a stage reads: --in, or the workspace's; MissingOutput names the command that makes it."""
    folder = config.input or dataset_folder(config) / stage
    return require_folder(folder, stage, config)


def require_folder(folder: str | Path, stage: str, config: CommonConfig) -> Path:
    """`folder` if it is there, else MissingOutput with the command that makes it; of a packed folder's URL the copy."""
    from fclip.runner.remote import local_folder

    folder = local_folder(folder)
    if not folder.is_dir():
        raise MissingOutput(folder, first_command(config, STAGE_FOLDERS[stage]))
    return folder


def first_command(config: CommonConfig, wanted: str) -> str:
    """What to run first so that `wanted` can run in the end: the command of the first stage that has no output yet.

    A data set whose source does not lie in the workspace begins with preprocess, and needs its --source.
    """
    try:
        dataset = find_dataset(config)
    except UsageError:
        if _several(config):
            return wanted  # which one is meant is for the user to say
        return f"synth{_root(config)}"
    folder, steps = config.root / dataset, list(STAGE_FOLDERS.items())
    if dataset not in BUILT_IN:
        steps = steps[1:]
    names = [command for _, command in steps]
    steps = steps[: names.index(wanted) + 1] if wanted in names else steps
    first = next((command for stage, command in steps if not (folder / stage).is_dir()), wanted)
    if first == "eval" and not any((config.root / "runs").glob("*/LAST")):
        first = "train"
    named = f" --dataset {dataset}" if config.dataset else ""
    source = " --source FOLDER" if first == "preprocess" and dataset not in BUILT_IN else ""
    return f"{first}{_root(config)}{named}{source}"


def place_options(config: CommonConfig, out: Path | None) -> str:
    """The options with which the next command works in the same place: --root and --dataset, where they are needed."""
    dataset = config.dataset if _several(config) else None
    if dataset and out is not None and out.parent.parent == config.root and out.name in STAGE_FOLDERS:
        dataset = out.parent.name  # it may have a name of its own
    return f"{_root(config)}{f' --dataset {dataset}' if dataset else ''}"


def _several(config: CommonConfig) -> bool:
    """Whether the workspace holds more than one data set."""
    folders = {path.parent for stage in STAGE_FOLDERS for path in config.root.glob(f"*/{stage}")}
    return len(folders) > 1


def _root(config: CommonConfig) -> str:
    """--root as the next command needs it: not where it is as usual, or in the environment."""
    usual = config.root in (CommonConfig.root, Path(os.environ.get("FCLIP_ROOT", CommonConfig.root)))
    return "" if usual else f" --root {config.root}"


def stage_output(config: ShardConfig, stage: str) -> Path:
    """Folder that a stage writes: --out, or the workspace's."""
    return config.out or dataset_folder(config) / stage


def list_shards(
    folder: Path, suffix: str, stage: str, max_failed: float | None = None
) -> list[tuple[Path, int | None]]:
    """The finished shards of a stage folder in order, each with its number of samples where known.

    Reads the manifest, so that a stage that was cut off, or lost more clips than its own --max-failed and `max_failed`
    (that of the command at work; None: it has no such option) allow, is noticed. A folder without config.json (another
    program made it) is taken as it is: every file with the suffix.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        totals = manifest.totals
        limit = DEFAULT_MAX_FAILED if max_failed is None else max_failed
        if not manifest.accepted and totals["failed"] > limit * sum(totals.values()):
            made = f"fclip {STAGE_FOLDERS[stage]}"
            raise FclipError(too_many_failed(folder, totals, limit, made, here=max_failed is not None))
        return [(folder / f"{row.stem}{suffix}", row.samples) for row in manifest.shards if row.samples]
    shards: list[tuple[Path, int | None]] = [(path, None) for path in sorted(folder.glob(f"*{suffix}"))]
    if (folder / CONFIG).is_file():
        raise FclipError(f"{folder}: unfinished; run fclip {STAGE_FOLDERS[stage]} again, it goes on where it stopped")
    if not shards:
        raise MissingOutput(folder, STAGE_FOLDERS[stage])
    return shards


def too_many_failed(folder: Path, totals: Mapping[str, int], limit: float, command: str = "", here: bool = True) -> str:
    """The sentence about a stage that lost too many clips.

    `command` made the folder, where it is not that at work; `here`: the command at work has the option, too.
    """
    failed, total = totals["failed"], sum(totals.values())
    share = math.ceil(100 * failed / total) / 100
    option = f"--max-failed {share:g}"
    accepts = f"{option} accepts that" + (f" (also: {command} {option})" if command else "")
    return (
        f"{folder}: {failed} of {total} clips failed, more than --max-failed {limit:g}; their reasons are in "
        f"*.failed.jsonl there; {accepts if here else f'{command} {option} accepts that'}"
    )


def features_folder(config: CommonConfig, dataset: str) -> Path:
    """<root>/<dataset>/features: cached features of frozen encoders; may be deleted at any time."""
    return config.root / dataset / "features"


def run_folder(config: CommonConfig, dataset: str, variant: str, fold: str, seed: int) -> Path:
    """<root>/runs/<dataset>-<variant>-fold<k>-seed<s>."""
    return config.root / "runs" / f"{dataset}-{variant}-fold{fold}-seed{seed}"
