"""`fclip doctor`: what is installed here, what runs on what, which weights are there, how much disk there is."""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from fclip import __version__
from fclip.catalogue import find, listed, search_folders
from fclip.config import CommonConfig
from fclip.files import readable_size
from fclip.runner.report import StageReport

LIBRARIES = ("torch", "open_clip_torch", "transformers", "av", "webdataset", "h5py", "safetensors", "numpy")
SYSTEM = {"mediapipe": ("libGL.so.1", "libEGL.so.1", "libGLESv2.so.2")}  # package: system libraries that it loads
CLIP_BYTES = 0.26e6  # of a clip in each of frames/ and packed/, measured on real clips: 16 frames of 224 x 224


@dataclass(frozen=True)
class Config(CommonConfig):
    """Say what works here: versions, devices, video decoder, extras, system libraries, weights, disk, file formats.

    Exit code 1 when the main job, from videos to a trained model with what fclip brings, cannot run. With --dataset
    the disk that its clips will need is estimated.

    Example:  fclip doctor
              fclip doctor --dataset dfew --root /data/fclip
    """


def run(config: Config) -> StageReport:
    """Look at everything; nothing is written."""
    report = StageReport("doctor", values={"problems": [], "hints": []})
    problems: list[str] = report.values["problems"]
    for name, lines in (
        ("versions", _versions(problems)),
        ("devices", _devices(problems)),
        ("decoder", _decoder(problems)),
        ("extras", _extras()),
        ("weights", _weights(problems)),
        ("disk", _disk(config)),
        ("formats", _formats()),
    ):
        report.values[name] = lines
        report.lines += [f"{name}:", *(f"  {line}" for line in lines)]
    report.counts = {"problems": len(problems)}
    report.lines += [f"PROBLEM: {problem}" for problem in problems] or ["all that the main job needs is there"]
    report.exit_code = 1 if problems else 0
    return report


def _versions(problems: list[str]) -> list[str]:
    lines = [f"fclip {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    for name in LIBRARIES:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            problems.append(f"{name} is not installed: install fclip again")
    return lines


def _devices(problems: list[str]) -> list[str]:
    try:
        from fclip.engine.batches.devices import devices_and_uses

        return devices_and_uses()
    except (ImportError, OSError, RuntimeError) as error:
        problems.append(f"torch cannot be loaded: {error}")
        return []


def _decoder(problems: list[str]) -> list[str]:
    try:
        import av

        libraries = ", ".join(f"{n} {'.'.join(map(str, v))}" for n, v in sorted(av.library_versions.items()) if v)
        found = [name for name in ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg") if name in av.codecs_available]
        if "h264" not in found:
            problems.append("the video decoder reads no H.264; install PyAV anew: pip install --force-reinstall av")
        return [f"PyAV with FFmpeg's {libraries}", f"reads {', '.join(found)}"]
    except (ImportError, OSError) as error:
        problems.append(f"PyAV cannot be loaded: {error}")
        return []


def extras() -> dict[str, list[str]]:
    """The extras of fclip and the packages of each, as the installed package declares them."""
    found: dict[str, list[str]] = {}
    for line in requires("fclip") or []:
        if match := re.search(r"extra == ['\"]([\w-]+)['\"]", line):
            package = re.match(r"[\w.-]+", line)
            found.setdefault(match[1], []).append(package[0] if package else line)
    return found


def _extras() -> list[str]:
    lines = []
    for extra, packages in extras().items():
        missing = [name for name in packages if find_spec(name.replace("-", "_")) is None]
        state = f"not installed: pip install 'fclip[{extra}]'" if missing else "installed"
        lacking = ", ".join(name for name in SYSTEM.get(extra, ()) if not missing and not _loads(name))
        lines.append(f"{extra}: {state}{f', but the system lacks {lacking}' if lacking else ''}")
    return lines


def _loads(library: str) -> bool:
    import ctypes

    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _weights(problems: list[str]) -> list[str]:
    from fclip.files import resource_path

    bundled = ("tiny.safetensors", "lite.safetensors", "expressions/lite.safetensors")
    for name in bundled:
        if not resource_path(name).is_file():
            problems.append(f"{name} is not in this copy of fclip: install it again")
    lines = [f"bundled: {', '.join(bundled)}"]
    for row in listed().values():
        place = find(row)
        lines.append(f"{row.name}: {place}" if place else f"{row.name}: missing ({row.size}); fclip fetch {row.name}")
    return [*lines, f"looked for in {', '.join(map(str, search_folders()))}"]


def _disk(config: Config) -> list[str]:
    folder = config.root.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    lines = [f"{readable_size(free)} free for {config.root}"]
    if config.dataset and (clips := _clips(config.root / config.dataset, config.dataset)):
        needed = int(2 * CLIP_BYTES * clips)
        short = "" if needed < free else ", MORE THAN IS FREE"
        lines.append(
            f"{config.dataset}: {clips:,} clips, about {readable_size(needed)} for frames/ and packed/ "
            f"(16 frames of 224 x 224){short}"
        )
    elif config.dataset:
        lines.append(f"{config.dataset}: number of clips not known before fclip preprocess; about 0.5 MB a clip")
    return lines


def _clips(folder: Path, dataset: str) -> int | None:
    """How many clips a data set has: by its workspace, else by what its release says of itself."""
    from fclip.errors import FclipError
    from fclip.files import resource_json, resource_path
    from fclip.runner.verify import read_manifest

    try:
        manifest = read_manifest(folder / "frames") if (folder / "frames").is_dir() else None
    except FclipError:
        manifest = None
    if manifest:
        return manifest.totals["ok"]
    if not resource_path(f"datasets/{dataset}.json").is_file():
        return None
    counts = resource_json(f"datasets/{dataset}.json").get("counts", {})
    total = counts.get("single", {}).get("total")
    return int(total) if total else None


def _formats() -> list[str]:
    """The versions of what fclip writes, for a note or a bug report."""
    from fclip.stages.caption import CaptionStage
    from fclip.stages.face_analyze import FacesStage
    from fclip.stages.pack import PackStage
    from fclip.stages.preprocess import FramesStage
    from fclip.stages.refine import RefineStage

    stages = (FramesStage, FacesStage, CaptionStage, RefineStage, PackStage)
    return [", ".join(f"{stage.name} {stage.version}" for stage in stages), "checkpoints fclip-1"]
