"""The bundled face back end on rendered people it has never seen, on pictures without a face, and on real clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.weights.augment import pictures_without_face
from examples.weights.lite import lite_figures
from examples.weights.pool import HELD_OUT, Pool, class_names, make_pool
from fclip.errors import ClipFailure, FclipError
from fclip.faces.base import FaceBackend, FaceDetector, WeightsOptions, create_backend
from fclip.faces.boxes import intersection_over_union
from fclip.faces.landmarks import flip_landmarks, inter_ocular, landmark_box
from fclip.faces.linking import Track
from fclip.faces.lite.backend import WEIGHTS, LiteBackend, between, follow, looked_at
from fclip.faces.lite.network import FaceFinder, FaceReader, LiteNetworks, load_lite, save_lite, soft_argmax
from fclip.records import PARSING_CLASSES

NEW_PEOPLE = HELD_OUT + 50_000


@pytest.fixture(scope="module")
def backend() -> LiteBackend:
    return LiteBackend()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("pool"), 22, 2, NEW_PEOPLE, class_names())


def _truth(pool: Pool, row: int) -> np.ndarray:
    return landmark_box(pool.landmarks[row] * pool.frames.shape[1])


def test_figures_on_new_people(backend: LiteBackend, pool: Pool) -> None:
    figures = lite_figures(backend, pool, plain=100)
    assert figures["landmark_error"] < 0.04
    assert figures["parsing_iou"] > 0.79
    assert figures["faces_found"] > 0.95
    assert figures["false_faces"] < 0.05


def test_figures_on_tight_crops(backend: LiteBackend, tmp_path: Path) -> None:
    crops = make_pool(tmp_path, 11, 2, NEW_PEOPLE, class_names(), size=80, share=0.67)
    figures = lite_figures(backend, crops, plain=1)
    assert figures["landmark_error"] < 0.045
    assert figures["parsing_iou"] > 0.765
    assert figures["faces_found"] > 0.95


def test_protocols_and_fingerprint(backend: LiteBackend) -> None:
    assert isinstance(backend, FaceBackend)
    assert isinstance(backend, FaceDetector)
    assert isinstance(create_backend("lite"), LiteBackend)
    assert set(backend.fingerprint) == {"backend", "weights", "version"}
    assert len(backend.fingerprint["weights"]) == 64


def test_track_has_the_frames_shapes_and_types(backend: LiteBackend, pool: Pool) -> None:
    track = backend.analyze(pool.frames[:3])
    assert track.parsing.shape == (3, 160, 160)
    assert (track.parsing.dtype, track.landmarks.dtype, track.confidence.dtype) == (np.uint8, np.float32, np.float32)
    assert track.landmarks.shape == (3, 68, 2)
    assert track.parsing.max() < len(PARSING_CLASSES)
    assert ((track.confidence >= 0.5) & (track.confidence <= 1)).all()


@pytest.mark.parametrize("place", [(0, 0), (150, 40), (60, 130)])
def test_finds_a_face_anywhere_in_a_larger_frame(backend: LiteBackend, pool: Pool, place: tuple[int, int]) -> None:
    x, y = place
    for row in range(0, 16, 4):
        frame = np.full((1, 290, 310, 3), (90, 110, 120), np.uint8)
        frame[0, y : y + 160, x : x + 160] = pool.frames[row]
        boxes = backend.detect(frame)[0]
        truth = _truth(pool, row) + (x, y, x, y)
        assert len(boxes) == 1
        assert intersection_over_union(boxes, truth[None]).max() > 0.6


def test_finds_two_faces_and_follows_the_larger(backend: LiteBackend, pool: Pool) -> None:
    small = pool.frames[2].reshape(80, 2, 80, 2, 3).mean((1, 3))  # as decoders scale down
    frames = np.full((4, 160, 250, 3), 100, np.uint8)
    for index, frame in enumerate(frames):
        frame[:, :160] = pool.frames[0]
        frame[20 + 5 * index : 100 + 5 * index, 165:245] = small
    boxes = backend.detect(frames)
    assert [len(found) for found in boxes] == [2] * 4
    track = backend.analyze(frames)
    assert (track.landmarks[:, :, 0] < 160 / 250).all()


def test_a_frame_without_a_face_has_confidence_zero_and_nothing_else(backend: LiteBackend, pool: Pool) -> None:
    frames = pool.frames[:3].copy()
    frames[1] = 120
    track = backend.analyze(frames)
    assert track.confidence[1] == 0
    assert not track.landmarks[1].any()
    assert not track.parsing[1].any()
    assert (track.confidence[[0, 2]] > 0.5).all()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_no_face_is_one_failed_clip(backend: LiteBackend, value: int) -> None:
    frames = np.full((3, 60, 90, 3), value, np.uint8)
    assert [len(boxes) for boxes in backend.detect(frames)] == [0, 0, 0]
    with pytest.raises(ClipFailure, match="no face found in any of 3 frames"):
        backend.analyze(frames)


def test_same_input_same_bytes_and_no_memory_of_other_clips(backend: LiteBackend, pool: Pool) -> None:
    first = backend.analyze(pool.frames[:5])
    backend.analyze(pool.frames[20:30])
    again = backend.analyze(pool.frames[:5])
    assert first.landmarks.tobytes() == again.landmarks.tobytes()
    assert first.parsing.tobytes() == again.parsing.tobytes()
    alone = np.concatenate([boxes for frame in pool.frames[:5] for boxes in backend.detect(frame[None])])
    apart = np.concatenate(backend.detect(pool.frames[:5], np.arange(5.0)))  # too far apart to follow a face
    assert np.allclose(apart, alone, atol=1e-2)


def test_mirrored_frames_have_mirrored_landmarks(backend: LiteBackend, pool: Pool) -> None:
    frames = pool.frames[:12]
    plain = np.concatenate([backend.analyze(frame[None]).landmarks for frame in frames])
    mirror = np.concatenate([backend.analyze(frame[None, :, ::-1]).landmarks for frame in frames])
    difference = np.linalg.norm(flip_landmarks(mirror) - plain, axis=-1).mean(-1) / inter_ocular(plain)
    assert np.median(difference) < 0.03


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(1, 3), st.integers(0, 10**6))
def test_any_frames_give_a_track_or_a_failed_clip(height: int, width: int, count: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    backend = _shared_backend()
    boxes = backend.detect(noise)
    assert [found.shape[1:] for found in boxes] == [(5,)] * count
    try:
        track = backend.analyze(noise)
    except ClipFailure:
        return
    assert track.parsing.shape == (count, height, width)
    assert np.isfinite(track.landmarks).all()


_SHARED: list[LiteBackend] = []


def _shared_backend() -> LiteBackend:
    if not _SHARED:
        _SHARED.append(LiteBackend())
    return _SHARED[0]


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 3)), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_bad_frames_are_a_failed_clip(backend: LiteBackend, frames: np.ndarray) -> None:
    with pytest.raises(ClipFailure):
        backend.detect(frames)
    with pytest.raises(ClipFailure):
        backend.analyze(frames)


def test_procedural_pictures_have_no_face(backend: LiteBackend) -> None:
    pictures = pictures_without_face(60, 120, torch.Generator().manual_seed(77))
    frames = (pictures * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert sum(len(boxes) > 0 for boxes in backend.detect(frames)) <= 2


def test_bundled_file_is_small_and_round_trips(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tiny = WEIGHTS.with_name("tiny.safetensors")
    assert WEIGHTS.stat().st_size <= 4e6
    assert WEIGHTS.stat().st_size + tiny.stat().st_size <= 12e6
    state = load_file(WEIGHTS)
    networks = LiteNetworks()
    networks.load_state_dict(state, strict=False)
    save_lite(tmp_path / "copy.safetensors", networks, seed=0)
    copy = load_file(tmp_path / "copy.safetensors")
    assert copy.keys() == state.keys()
    assert all(torch.equal(tensor, copy[name]) for name, tensor in state.items())


def test_norms_in_the_convolutions_change_no_number(tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = LiteNetworks().train()
    images = torch.rand(4, 3, 96, 96) * 2 - 1
    with torch.no_grad():
        networks.reader(images)  # moves the norms' running statistics
    save_lite(tmp_path / "lite.safetensors", networks)
    rounded = {
        name: tensor.half().float() if tensor.ndim > 1 else tensor for name, tensor in networks.state_dict().items()
    }
    networks.load_state_dict(rounded)
    folded = load_lite(tmp_path / "lite.safetensors")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        for one, two in zip(networks.eval().reader(images), folded.reader(images), strict=True):
            assert torch.allclose(one, two, atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FclipError, match="bad.safetensors"):
        LiteBackend(WeightsOptions(path))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(FclipError, match="make weights"):
        LiteBackend(WeightsOptions(tmp_path / "other.safetensors"))


def test_network_shapes_and_soft_argmax() -> None:
    maps = torch.full((1, 1, 24, 24), -30.0)
    maps[0, 0, 5, 11] = 30.0
    step = 1.3 / 23
    assert torch.allclose(soft_argmax(maps)[0, 0], torch.tensor([-0.15 + 11 * step, -0.15 + 5 * step]), atol=1e-5)
    networks = LiteNetworks().eval()
    assert isinstance(networks.finder, FaceFinder)
    assert isinstance(networks.reader, FaceReader)
    with torch.inference_mode():
        assert networks.finder(torch.zeros(2, 3, 128, 128)).shape == (2, 4, 32, 32)
        landmarks, parsing, presence = networks.reader(torch.zeros(2, 3, 96, 96))
    assert (landmarks.shape, parsing.shape, presence.shape) == ((2, 68, 2), (2, 11, 96, 96), (2,))


def test_the_finder_looks_only_now_and_then_where_frames_follow_closely() -> None:
    frames = np.zeros((12, 8, 8, 3), np.uint8)
    assert looked_at(frames, None) == [0, 6, 11]
    assert looked_at(frames, np.arange(12) / 12.5) == [0, 3, 6, 9, 11]
    assert looked_at(frames, np.arange(12) * 0.5) == list(range(12))
    assert looked_at(frames[:1], np.zeros(1)) == [0]
    cuts = np.zeros(12, bool)
    cuts[4] = True
    assert looked_at(frames, None, cuts) == [0, 3, 4, 6, 11]


def test_between_two_looks_faces_move_evenly_or_are_looked_for() -> None:
    first = np.array([[0, 0, 10, 10, 0.9], [50, 50, 70, 70, 0.8]])
    last = np.array([[54, 50, 74, 70, 0.8], [2, 0, 12, 10, 0.7]])
    moved = between(first, last, 0.5)
    assert moved is not None
    assert moved.tolist() == [[1, 0, 11, 10], [52, 50, 72, 70]]
    assert between(first, last[:1], 0.5) is None
    assert between(first[:1], last[:1], 0.5) is None
    nothing = between(first[:0], last[:0], 0.5)
    assert nothing is not None
    assert nothing.shape == (0, 4)


def test_a_followed_face_is_looked_for_from_one_look_to_the_next() -> None:
    track = Track(1, [4, 8], [np.array([0.0, 0, 10, 10]), np.array([4.0, 0, 14, 10])], [1, 1])
    places = follow(track, [0, 3, 4, 8, 12], np.array([0] * 4 + [1] * 9))
    assert sorted(places) == [4, 5, 6, 7, 8, 9, 10, 11]
    assert places[6].tolist() == [2, 0, 12, 10]
    assert places[11].tolist() == [4, 0, 14, 10]


def test_following_a_moving_face_gives_what_looking_at_each_frame_gives(backend: LiteBackend, pool: Pool) -> None:
    frames = np.full((14, 220, 300, 3), (90, 110, 120), np.uint8)
    for index in range(14):  # moves by 5 pixels a frame and jumps in the middle of two looks
        left = 5 * index + (60 if 8 <= index < 10 else 0)
        frames[index, 30:190, left : left + 160] = pool.frames[0]
    followed, alone = backend.detect(frames), backend.detect(frames, np.arange(14) * 1.0)
    assert [len(boxes) for boxes in followed] == [len(boxes) for boxes in alone] == [1] * 14
    overlap = [intersection_over_union(a, b)[0, 0] for a, b in zip(followed, alone, strict=True)]
    assert min(overlap) > 0.85
    track, single = backend.analyze(frames), backend.analyze(frames, np.arange(14) * 1.0)
    assert (track.confidence > 0.5).all()
    scale = inter_ocular(single.landmarks * (300, 220))
    distance = np.linalg.norm((track.landmarks - single.landmarks) * (300, 220), axis=-1).mean(1)
    assert (distance / scale).max() < 0.03


def test_real_clip_of_one_face(backend: LiteBackend, samples: Path) -> None:
    from fclip.data.media.sampling import SamplingPlan
    from fclip.data.media.video import read_clip

    frames = read_clip(samples / "clips" / "single_face.mp4", SamplingPlan(12)).frames
    assert sum(len(boxes) > 0 for boxes in backend.detect(frames)) >= 11
    assert (backend.analyze(frames).confidence > 0.5).sum() >= 11
