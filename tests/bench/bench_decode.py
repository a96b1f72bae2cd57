"""Reading video: against PyAV alone, sparse reading of long videos, memory for 10 seconds and for 10 minutes.

PyAV alone means: open the file and decode, on one thread, the frames that must be decoded (up to the last one wanted),
with no conversion to RGB and no list of time stamps. fclip's side does all that `preprocess --crop none` needs of the
decoder: packet scan, sampling plan, 16 frames as RGB at 224 x 224. The whole stage, with hashing, JPEG and shard, stands
beside it, and its clips per second by the clock with one and two workers.

    python -m tests.bench.bench_decode [--minutes 10] [--repeats 5]
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fclip.data.media.sampling import SamplingPlan
from fclip.data.media.video import open_source, read_clip
from fclip.records import Clip
from fclip.runner.stage import ShardTask
from fclip.seeing.preparation import Cropping
from fclip.seeing.windows import SampleMaker
from fclip.stages import preprocess

PLAN = SamplingPlan(16)
SIZE = (224, 224)


def make_video(path: Path, seconds: int, preset: str, size: tuple[int, int], copies: int = 1) -> Path:
    """An H.264 file of a drifting noise picture; `copies` repeats the packets, so that long files cost no encoding."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (size[1] // 4 + 64, size[0] // 4 + 64, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    rate = 25
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": preset, "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        packets = []
        for index in range(seconds * rate):
            shift = 128 + int(100 * np.sin(index / 12))
            frame = np.ascontiguousarray(texture[shift : shift + size[1], shift : shift + size[0]])
            packets += stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
        packets += stream.encode()
        kept = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        base = Fraction(packets[0].time_base)
        step = int(seconds / base)
        for copy in range(copies):
            for data, pts, dts, key in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, base
                packet.pts, packet.dts, packet.is_keyframe = pts + copy * step, dts + copy * step, key
                container.mux(packet)
    return path


def best(function: Callable[[], object], repeats: int) -> float:
    """Least processor seconds of several calls (other work on the machine does not count)."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def decode_until(path: Path, last: int | None) -> int:
    """PyAV alone: decode frames 0 to `last` on one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for count, _ in enumerate(container.decode(stream)):
            if count == last:
                break
    return count


def preprocess_clip(path: str | Path, out: Path) -> None:
    """All that `fclip preprocess --crop none` does with one clip, in this process."""
    stage = preprocess.FramesStage(preprocess.Config(dataset="bench"))
    payload = [dataclasses.asdict(Clip("clip", str(path), "neutral", "train")) | {"bytes": 0}]
    result = stage.process(ShardTask("train-00000", payload=payload), out)
    if not result.ok:
        raise SystemExit(f"{path}: {result.failed}")


def compare(path: Path, repeats: int) -> tuple[float, float]:
    """fclip's speed of reading 16 frames, and of the whole stage, as shares of PyAV's of decoding up to the last one."""
    source = open_source(path)
    last = int(PLAN.indices(source.timeline)[-1])
    source.close()
    alone = best(lambda: decode_until(path, last), repeats)
    ours = best(lambda: read_clip(path, PLAN, size=SIZE), repeats)
    with tempfile.TemporaryDirectory() as folder:
        stage = best(lambda: preprocess_clip(path, Path(folder) / "clip.tar"), repeats)
    print(
        f"  {path.name:28s} PyAV {alone * 1e3:7.1f} ms   fclip {ours * 1e3:7.1f} ms   speed x {alone / ours:.2f}"
        f"   whole stage {stage * 1e3:7.1f} ms   x {alone / stage:.2f}"
    )
    return alone / ours, alone / stage


def compare_workers(clip: Path, root: Path, clips: int = 96) -> None:
    """Clips per second of `fclip preprocess --crop none` by the clock, with one worker process and with two.

    From the first finished shard to the last, so that the start (libraries, processes) does not count.
    """
    source = root / "many" / "neutral"
    source.mkdir(parents=True)
    for number in range(clips):
        (source / f"clip{number}.mp4").hardlink_to(clip)
    rates = []
    for workers in (1, 2):
        command = [sys.executable, "-m", "fclip", "preprocess", "--dataset", "folder", "--source", str(source.parent)]
        command += ["--root", str(root / f"w{workers}"), "--shard-size", "8", "--workers", str(workers)]
        subprocess.run(command, check=True, capture_output=True)
        ends = sorted(path.stat().st_mtime for path in (root / f"w{workers}").rglob("*.tar"))
        rates.append(8 * (len(ends) - workers) / (ends[-1] - ends[workers - 1]))
    print(f"{clips} clips like {clip.name}: 1 worker {rates[0]:.1f} clips/s, 2 workers x {rates[1] / rates[0]:.2f}")


def peak_memory(job: str, path: Path) -> float:
    """Peak resident set, in MiB above that of the imports, of one job in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (job, str(path)))


def _measure(job: str, path: str) -> float:
    import webdataset  # noqa: F401  what the job imports anyway

    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the recorded peak back
    if job == "preprocess":
        with tempfile.TemporaryDirectory() as folder:
            preprocess_clip(path, Path(folder) / "clip.tar")
    else:
        for _ in SampleMaker(Cropping()).windows(Path(path), 4.0, 2.0):
            pass
    return _resident("VmHWM") - before


def _resident(which: str) -> float:
    """Resident set of this process, now (VmRSS) or at its peak (VmHWM), in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) / 1024


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        short = make_video(root / "10s_320x240.mp4", 10, "medium", (320, 240))
        clips = [make_video(root / "3s_640x360.mp4", 3, "medium", (640, 360)), short]
        real = Path(os.environ.get("FCLIP_SAMPLES", "../shared/samples")) / "clips"
        clips += sorted(real.glob("*.m*")) if real.is_dir() else []
        print("16 frames at 224 x 224 against PyAV decoding alone, one thread each:")
        ratios = np.array([compare(path, args.repeats) for path in clips])  # (clips, 2)
        for name, found in zip(("reading", "whole stage"), ratios.T, strict=True):
            print(f"  {name}: geometric mean x {np.exp(np.log(found).mean()):.2f}, least x {found.min():.2f}")
        long = make_video(root / "long.mp4", 10, "ultrafast", (320, 240), copies=args.minutes * 6)
        everything = best(lambda: decode_until(long, None), 1)
        sparse = best(lambda: read_clip(long, PLAN, size=SIZE), args.repeats)
        ratio = everything / sparse
        print(f"{args.minutes} minutes, 16 frames: {sparse * 1e3:.0f} ms; decoding everything takes x {ratio:.1f}")
        compare_workers(clips[0], root)
        for job in ("preprocess", "windows"):
            small, large = peak_memory(job, short), peak_memory(job, long)
            print(f"peak memory of {job}: {small:.0f} MiB for 10 s, {large:.0f} MiB for {args.minutes} minutes")


if __name__ == "__main__":
    main()
