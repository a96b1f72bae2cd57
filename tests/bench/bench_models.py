"""Training step of star-dagger against a straightforward rendering of the method: time and memory as ratios of one run.

The straightforward one (tests/models/plain_rendering.py) is what one writes first: nn.MultiheadAttention, texts padded
to 77 tokens and captions to 248, frames, parsing and landmarks through three separate passes, all tokens through the
last block. Loss and gradients of both are compared first. On the CPU, time is processor time (one thread; other
programs do not disturb it), and memory is (a) what autograd keeps for the backward pass, each storage once, without
parameters, and (b) the peak resident set above the loaded model, in a process of its own. On a GPU: ViT-B/16, 16
frames, bf16, batch 16 with checkpointing; clips per second and share of the matmul rate measured on this card.

    python -m tests.bench.bench_models [--clip tiny] [--batch 8] [--frames 8] [--steps 5]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fclip.models import create_model
from fclip.models.finecliper.model import FineCliper
from tests.models.plain_rendering import plain_loss

CLASSES = ["happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear"]
CAPTION = "Her eyes widen and both eyebrows rise, the mouth opens slightly, and the head tilts back a little."


def our_loss(model: FineCliper, batch: dict[str, Tensor]) -> Tensor:
    loss = model(batch).loss
    if loss is None:
        raise RuntimeError("no loss")
    return loss


STEPS: dict[str, Callable[[FineCliper, dict[str, Tensor]], Tensor]] = {"ours": our_loss, "plain": plain_loss}


def setting(clip: str, batch: int, frames: int, **options: Any) -> tuple[FineCliper, dict[str, Tensor]]:
    """star-dagger with adapters away from zero, and a batch with every modality."""
    torch.manual_seed(0)
    model = create_model("star-dagger", clip, CLASSES, frames, "random", **options)
    for parameter in model.adapters.parameters():
        torch.nn.init.normal_(parameter.data, std=0.02)
    size = model.preprocess.image_size
    data = {name: torch.randn(batch, frames, 3, size, size) for name in ("frames", "parsing", "landmarks")}
    data["captions"] = model.tokenizer([CAPTION] * batch, context_length=248)
    data["labels"] = torch.arange(batch) % len(CLASSES)
    return model.train(), data


def kept_bytes(model: FineCliper, data: dict[str, Tensor], step: Callable[..., Tensor]) -> int:
    """Bytes that autograd keeps between forward and backward, each storage once, without parameters and inputs."""
    known = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers(), *data.values()]}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = step(model, data)
    total = sum(kept.values())
    loss.backward()
    return total


def gradients(model: FineCliper, data: dict[str, Tensor], name: str) -> tuple[float, dict[str, Tensor]]:
    """Loss and the gradient of each trainable tensor."""
    model.zero_grad()
    loss = STEPS[name](model, data)
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def check_same(model: FineCliper, data: dict[str, Tensor]) -> None:
    """End the run unless both renderings give the same loss and the same gradients."""
    (loss, mine), (plain, theirs) = (gradients(model, data, name) for name in ("ours", "plain"))
    worst = max(float((mine[n] - theirs[n]).norm() / theirs[n].norm()) for n in theirs)
    if mine.keys() != theirs.keys() or abs(loss - plain) > 1e-3 * abs(plain) or worst > 1e-2:
        raise SystemExit(f"results differ: loss {loss} and {plain}, gradients by {worst:.2g}")
    print(f"  same results: loss {loss:.5f} and {plain:.5f}, largest relative gradient difference {worst:.1e}")


def seconds(model: FineCliper, data: dict[str, Tensor], steps: int) -> dict[str, float]:
    """Median processor seconds of a training step of each, taken in turns after one warm-up."""
    optimizer = torch.optim.SGD(model.parameter_groups(1e-9, 0.0), momentum=0.9)
    times: dict[str, list[float]] = {name: [] for name in STEPS}
    for turn in range(steps + 1):
        for name, step in STEPS.items():
            start = time.process_time()
            optimizer.zero_grad()
            step(model, data).backward()
            optimizer.step()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: sorted(values)[len(values) // 2] for name, values in times.items()}


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class PeakSampler(threading.Thread):
    """The largest resident set, sampled every millisecond (getrusage's peak is inherited from the parent process)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.done = 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.001):
            self.peak = max(self.peak, resident())

    def __enter__(self) -> PeakSampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.join()


def peak_of_process(name: str, clip: str, batch: int, frames: int, queue: Any) -> None:
    """In a process of its own: peak resident set during two training steps above that before them, in bytes."""
    torch.set_num_threads(1)
    model, data = setting(clip, batch, frames)
    before, sampler = resident(), PeakSampler()
    with sampler:
        for _ in range(2):
            model.zero_grad()
            STEPS[name](model, data).backward()
    queue.put(sampler.peak - before)


def peaks(clip: str, batch: int, frames: int) -> dict[str, int]:
    """Peak memory of each rendering."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for name in STEPS:
        queue = context.Queue()
        process = context.Process(target=peak_of_process, args=(name, clip, batch, frames, queue))
        process.start()
        found[name] = queue.get(timeout=600)
        process.join()
    return found


def bench_cpu(clip: str, batch: int, frames: int, steps: int) -> None:
    """Ours against the straightforward rendering, one thread."""
    torch.set_num_threads(1)
    print(f"star-dagger, CLIP {clip}, batch {batch}, {frames} frames, one thread")
    model, data = setting(clip, batch, frames)
    check_same(model, data)
    kept = {name: kept_bytes(model, data, step) for name, step in STEPS.items()}
    times, peak = seconds(model, data, steps), peaks(clip, batch, frames)
    print(f"  step: {times['plain'] / times['ours']:.2f} x faster ({times['ours']:.3f} s, not {times['plain']:.3f} s)")
    print(f"  kept for backward: {kept['ours'] / kept['plain']:.2f} x ({kept['ours'] / 2**20:.0f} MiB)")
    print(f"  peak resident above the model: {peak['ours'] / peak['plain']:.2f} x ({peak['ours'] / 2**20:.0f} MiB)")


def matmul_rate(size: int = 8192, repeats: int = 20) -> float:
    """bf16 matmul FLOP/s of this GPU."""
    a, b = torch.randn(2, size, size, device="cuda", dtype=torch.bfloat16)
    a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        a @ b
    torch.cuda.synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - start)


def bench_gpu(clip: str = "ViT-B-16", batch: int = 16, frames: int = 16, steps: int = 5) -> None:
    """Memory, clips per second and share of the matmul rate, with recomputed work counted as work."""
    model, data = setting(clip, batch, frames, checkpointing=True)
    model, data = model.cuda(), {name: tensor.cuda() for name, tensor in data.items()}
    optimizer = torch.optim.SGD(model.parameter_groups(1e-9, 0.0), momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = our_loss(model, data)
        loss.backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        step()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    duration = (time.perf_counter() - start) / steps
    rate = counter.get_total_flops() / duration
    card = torch.cuda.get_device_name()
    print(f"star-dagger, CLIP {clip}, batch {batch}, {frames} frames, bf16, checkpointing, {card}")
    print(
        f"  peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, {batch / duration:.1f} clips/s, "
        f"{rate / matmul_rate():.0%} of the matmul rate"
    )


def main() -> None:
    """Run what this machine can run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clip", default="tiny")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    bench_cpu(arguments.clip, arguments.batch, arguments.frames, arguments.steps)
    if torch.cuda.is_available():
        bench_gpu()
    else:
        print("no CUDA device: the GPU part was not run")


if __name__ == "__main__":
    main()
