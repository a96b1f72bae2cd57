"""Face back ends: FaceXFormer's frames per second and what lies around its backbone; MediaPipe and the library alone.

Weights are random (speed does not depend on them). On a CPU all figures are processor time of one thread, the best of
several turns (other work on the machine counts little). On a GPU frames per second are by the clock, in bfloat16.

    python -m tests.bench.bench_faces [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from safetensors.torch import save_file

from fclip.errors import FclipError
from fclip.faces.base import WeightsOptions, create_backend, milliseconds
from fclip.faces.facexformer.backend import FaceXFormerBackend, normalise
from fclip.faces.facexformer.network import FaceXFormer
from fclip.faces.maps import STYLES, landmark_images, parsing_images
from fclip.faces.mediapipe.backend import MediaPipeBackend, _quiet

CLIP = 16
SAMPLES = Path(os.environ.get("FCLIP_SAMPLES") or Path(__file__).resolve().parents[3] / "shared" / "samples")


def best(functions: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Least seconds of each function; they take turns."""
    times = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            times[name] = min(times[name], clock() - start)
    return times


def make_backend(device: str, folder: str) -> FaceXFormerBackend:
    """A back end with random weights; FaceXFormer's buffers and parameters as a new network has them."""
    torch.manual_seed(0)
    network = FaceXFormer()
    network.pe_layer.positional_encoding_gaussian_matrix.normal_()
    path = Path(folder) / "facexformer.safetensors"
    save_file(network.state_dict(), str(path))
    return FaceXFormerBackend(WeightsOptions(path), device)


def facexformer(device: str, batches: tuple[int, ...], repeats: int) -> None:
    """Frames per second at several batch sizes; the backbone's share; the back end against the network alone."""
    gpu = device == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        backend = make_backend(device, folder)
    network, rng = backend.network, np.random.default_rng(0)
    name = torch.cuda.get_device_name() if gpu else "one CPU thread"
    print(f"facexformer on {name}, {str(backend.dtype).removeprefix('torch.')}:", flush=True)

    def clock() -> float:
        if gpu:
            torch.cuda.synchronize()
        return time.perf_counter() if gpu else time.process_time()

    for batch in batches:
        backend.batch_size = batch
        frames = rng.integers(0, 256, (batch * (8 if gpu else 1), 224, 224, 3), dtype=np.uint8)
        clips = np.array_split(frames, max(1, len(frames) // CLIP))
        images = normalise(torch.from_numpy(frames[:batch]).to(device)).to(backend.dtype)
        with torch.inference_mode():
            times = best(
                {
                    "backbone": lambda images=images: network.backbone[0](images),
                    "network": lambda images=images: network(images),
                    "backend": lambda clips=clips: backend.analyze_many(clips, [None] * len(clips)),
                },
                repeats if gpu or batch < 32 else 1,
                clock,  # 32 on a CPU take a minute
            )
        times["backend"] /= len(frames) / batch
        print(
            f"  batch {batch:4}: {batch / times['backend']:8.2f} frames/s; backbone "
            f"{times['backbone'] / times['network']:.0%} of the network; back end "
            f"{times['backend'] / times['network'] - 1:+.1%} over the network alone",
            flush=True,
        )
    if gpu:
        print("  published by Py-Feat for its own network: 86.8 frames/s (RTX 3090), about 270 on a newer card")


def mediapipe(repeats: int) -> None:
    """Clips of 16 and 64 frames: ours against creating the landmarker and calling it on each frame."""
    import mediapipe as library
    from mediapipe.tasks.python import BaseOptions, vision

    path = SAMPLES / "clips" / "single_face.mp4"
    try:
        backend = create_backend("mediapipe")
    except FclipError as error:
        print(f"mediapipe: not measured: {error}")
        return
    assert isinstance(backend, MediaPipeBackend)
    if not path.is_file():
        print(f"mediapipe: not measured: {path} is not there")
        return
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = np.stack(decoded)[:64, 60:360, 140:440].copy()
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(backend.model)),
        running_mode=vision.RunningMode.VIDEO,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )

    def alone(frames: np.ndarray) -> None:
        with _quiet():
            created = vision.FaceLandmarker.create_from_options(options)
        with created as landmarker:
            for frame, stamp in zip(frames, milliseconds(None, len(frames)), strict=True):
                landmarker.detect_for_video(library.Image(image_format=library.ImageFormat.SRGB, data=frame), stamp)

    for clip in (frames[::4], frames):
        functions = {"ours": lambda clip=clip: backend.analyze(clip), "library": lambda clip=clip: alone(clip)}
        times = best(functions, 2 * repeats, time.process_time)
        print(
            f"mediapipe, clip of {len(clip)} frames: {len(clip) / times['ours']:.0f} frames/s of processor time, "
            f"{times['ours'] / times['library'] - 1:+.1%} over the library alone"
        )


def maps(device: str, repeats: int) -> None:
    """Drawing 16 clips of 16 frames at 224 x 224."""
    generator = torch.Generator().manual_seed(0)
    landmarks = torch.rand(16, CLIP, 68, 2, generator=generator).to(device)
    parsing = torch.randint(0, 11, (16, CLIP, 224, 224), dtype=torch.uint8, generator=generator).to(device)
    functions: dict[str, Callable[[], object]] = {
        style: lambda style=style: landmark_images(landmarks, 224, style) for style in STYLES
    }

    def clock() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    times = best(functions | {"parsing": lambda: parsing_images(parsing)}, repeats + 1, clock)
    print(f"maps of 256 frames on {device}: " + ", ".join(f"{k} {1000 * v:.0f} ms" for k, v in times.items()))


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    facexformer("cpu", (1, 8, 32), repeats)
    mediapipe(repeats)
    maps("cpu", repeats)
    if torch.cuda.is_available():
        facexformer("cuda", (32, 64, 128), repeats)
        maps("cuda", repeats)


if __name__ == "__main__":
    main()
