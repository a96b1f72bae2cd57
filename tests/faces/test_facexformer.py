"""FaceXFormer against the reference implementation's outputs, and its back end: batches, memory, coordinates, files."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fclip.catalogue import listed
from fclip.engine.fetching import fetch
from fclip.errors import ClipFailure, FclipError
from fclip.faces.base import BatchFaceBackend, WeightsOptions, analyze_clips, create_backend
from fclip.faces.facexformer.backend import FaceXFormerBackend, _is_out_of_memory, normalise
from fclip.faces.facexformer.checkpoint import load_network
from fclip.faces.facexformer.network import FaceXFormer
from fclip.records import FaceTrack
from fclip.tensors import read_tensors
from tests.goldens import Golden
from tests.hub_server import serve

HEADS = {
    "landmarks": "landmarks",
    "headpose": "pose",
    "attributes": "attribute",
    "visibility": "visibility",
    "age": "age",
    "gender": "gender",
    "race": "race",
}
INDEX = "backbone.0.1.0.attn.relative_position_index"


@pytest.fixture(scope="module")
def golden(parity: Path) -> Golden:
    return Golden(parity, "facexformer")


def state_of(golden: Golden, case: dict[str, Any]) -> dict[str, Tensor]:
    """All 505 tensors with the golden's values."""
    state = golden.state(case)
    index = torch.from_numpy(golden.outputs[f"{case['name']}.relative_position_index"]).long()
    return {row[0]: index.clone() if row[3] == "keep" else state[row[0]] for row in case["state_dict"]}


@pytest.fixture(scope="module")
def state(golden: Golden) -> dict[str, Tensor]:
    return state_of(golden, golden.cases[0])


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "facexformer.safetensors"
    save_file(state, str(path))
    yield path
    path.unlink()  # 368 MB


@pytest.fixture(scope="module")
def backend(weights: Path) -> FaceXFormerBackend:
    return create_backend("facexformer", weights=weights)  # type: ignore[return-value]


def _clip(count: int, height: int = 224, width: int = 224, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 7, 7, 3)).astype(np.uint8)
    return coarse.repeat(32, 1).repeat(32, 2)[:, :height, :width]


def test_network_is_the_published_one(state: dict[str, Tensor]) -> None:
    network = FaceXFormer()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert len(shapes) == 505 and shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert sum(p.numel() for p in network.parameters()) == 91_985_943
    assert torch.equal(network.state_dict()[INDEX], state[INDEX])


def test_golden(backend: FaceXFormerBackend, golden: Golden) -> None:
    """All outputs of all cases, the fused map and the four stages, to the tolerance that stands beside each."""
    for number, case in enumerate(golden.cases):
        network = backend.network if number == 0 else FaceXFormer().eval()
        if number:
            network.load_state_dict(state_of(golden, case))
        with torch.inference_mode():
            maps = network.backbone[0](golden.input(case, "images"))
            fused = network.fuse(maps)
            outputs = network.face_decoder(fused.flatten(1, 2), network.pe_layer(56))
        logits = outputs["segmentation"]
        found = {name: outputs[own] for name, own in HEADS.items()}
        found["seg_logits_subset"] = logits[:, :, ::8, ::8]
        found["seg_argmax"] = logits.argmax(1)
        found["fused_subset"] = fused.permute(0, 3, 1, 2)[:, ::8, ::8, ::8]
        found["seg_mean_per_class"] = logits.double().mean((2, 3))
        found["relative_position_index"] = network.state_dict()[INDEX]
        for stage, step in enumerate((8, 4, 2, 1)):
            found[f"stage{stage}_subset"] = maps[stage].permute(0, 3, 1, 2)[:, ::16, ::step, ::step]
        golden.check(case, found)
    golden.assert_all_read()


def test_batches_over_clips_equal_single_frames(backend: FaceXFormerBackend) -> None:
    """Two clips in batches of 2 that cross their border, against frame by frame; sizes other than the network's."""
    clips = [_clip(1, 200, 160), _clip(2, seed=1)]
    assert isinstance(backend, BatchFaceBackend)
    backend.batch_size = 2
    together = analyze_clips(backend, [*clips, np.zeros((0, 4, 4, 3), np.uint8)])
    assert isinstance(together.pop(), ClipFailure)
    for clip, track in zip(clips, together, strict=True):
        assert isinstance(track, FaceTrack) and track.pose is not None
        assert track.parsing.shape == clip.shape[:3] and track.landmarks.shape == (len(clip), 68, 2)
        backend.batch_size = 1
        alone = backend.analyze(clip)
        assert np.abs(track.landmarks - alone.landmarks).max() < 1e-5
        assert np.abs(track.pose - alone.pose).max() < 1e-3
        assert np.abs(track.confidence - alone.confidence).max() < 1e-4 and (track.confidence > 0).all()
        assert (track.parsing == alone.parsing).mean() > 0.999
    backend.batch_size = 32


def test_out_of_memory_halves_the_batch_and_says_so(
    backend: FaceXFormerBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that holds three images at most: 6 -> 3, results in order and complete."""
    seen: list[int] = []

    def scarce(images: Tensor) -> dict[str, Tensor]:
        seen.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        logits = torch.zeros(len(images), 11, 224, 224)
        logits[:, 1] = images.mean((1, 2, 3))[:, None, None] + 10
        return {
            "segmentation": logits,
            "landmarks": images.mean((1, 2, 3))[:, None].repeat(1, 136),
            "pose": torch.zeros(len(images), 3),
        }

    monkeypatch.setattr(backend, "network", scarce)
    monkeypatch.setattr(backend, "batch_size", 6)
    clip = _clip(8)
    with caplog.at_level(logging.WARNING):
        track = backend.analyze(clip)
    assert seen == [6, 3, 3, 2] and backend.batch_size == 3
    assert "out of memory at batch 6; going on with 3" in caplog.text
    means = normalise(torch.from_numpy(clip)).mean((1, 2, 3)).numpy()
    assert np.allclose(track.landmarks[:, 0, 0], (means + 1) / 2, atol=1e-5)

    monkeypatch.setattr(backend, "network", lambda images: scarce(images.repeat(9, 1, 1, 1)))
    with pytest.raises(FclipError, match="out of memory on cpu even for one image"):
        backend.analyze(clip[:1])
    assert _is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))


def test_another_runtime_error_is_not_hidden(backend: FaceXFormerBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(images: Tensor) -> dict[str, Tensor]:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(backend, "network", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        backend.analyze(_clip(1))


def test_bfloat16_is_close(weights: Path, backend: FaceXFormerBackend) -> None:
    """On random weights, which spread landmarks over the picture: they move by under 1 % of its side in the mean."""
    half = FaceXFormerBackend(WeightsOptions(weights), dtype=torch.bfloat16)
    assert half.fingerprint["dtype"] == "bfloat16" != backend.fingerprint["dtype"]
    assert half.fingerprint["weights"] == backend.fingerprint["weights"]
    clip = _clip(1)
    track, exact = half.analyze(clip), backend.analyze(clip)
    assert 0 < np.abs(track.landmarks - exact.landmarks).mean() < 0.01
    assert (track.parsing == exact.parsing).mean() > 0.95


def test_results_come_back_in_the_frames_coordinates(
    backend: FaceXFormerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector's box at known places: parsing and landmarks land in it; frames without a face stay empty."""

    class Listed:
        name, fingerprint = "listed", {}

        def detect(self, frames: np.ndarray, times: np.ndarray | None = None) -> list[np.ndarray]:
            face, nothing = np.array([[60, 40, 100, 80, 0.9]], np.float32), np.zeros((0, 5), np.float32)
            return [face, face, nothing, nothing][: len(frames)]

    def fake(images: Tensor) -> dict[str, Tensor]:
        logits = torch.zeros(len(images), 11, 224, 224)
        logits[:, 0], logits[:, 6, 56:168, 112:168] = 5, 10  # a nose in the middle rows, right of the centre
        landmarks = torch.tensor([0.0, 0.5]).repeat(len(images), 68)  # x: the centre, y: three quarters down
        return {"segmentation": logits, "landmarks": landmarks, "pose": torch.ones(len(images), 3)}

    monkeypatch.setattr(backend, "detector", Listed())
    monkeypatch.setattr(backend, "network", fake)
    track = backend.analyze(np.zeros((4, 120, 200, 3), np.uint8))
    # the crop is 60 wide, from (50, 30) to (110, 90)
    assert np.allclose(track.landmarks[0] * (200, 120), (80, 75), atol=1e-3)
    rows, columns = np.nonzero(track.parsing[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 74, 80, 94)
    assert (track.parsing[0] == 6).sum() == 30 * 15
    assert np.allclose(track.pose, np.rad2deg([[-1, 1, 1]] * 2 + [[0, 0, 0]] * 2), atol=1e-3)
    assert (track.confidence > 0.9).tolist() == [True, True, False, False]
    background = torch.zeros(1, 11, 224, 224)
    monkeypatch.setattr(backend, "network", lambda images: fake(images) | {"segmentation": background})
    with pytest.raises(ClipFailure, match="no face found in any of 1 frames"):
        backend.analyze(np.zeros((1, 120, 200, 3), np.uint8))


def test_fetched_from_the_hub(state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The public file's form, with optimizer state beside the network, becomes the file that the back end reads."""
    buffer = io.BytesIO()
    torch.save({"epoch": 3, "state_dict_backbone": state, "optimizer": {"state": {0: torch.zeros(3)}}}, buffer)
    monkeypatch.setenv("FCLIP_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(FclipError, match=r"facexformer.safetensors .*fclip fetch facexformer.*mediapipe or lite"):
        create_backend("facexformer")
    with serve({"kartiknarayan/facexformer": {"ckpts/model.pt": buffer.getvalue()}}, {}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        path = fetch(listed()["facexformer"]).path
    assert [p.name for p in tmp_path.iterdir()] == [path.name] == ["facexformer.safetensors"]
    assert read_tensors(path).keys() == state.keys()
    path.unlink()


def test_files_that_are_not_the_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    small = {name: tensor for name, tensor in state.items() if tensor.numel() < 100}
    files = {
        "short.safetensors": "tensors differ",
        "broken.safetensors": "not a readable .safetensors file",
        "model.pt": "fclip convert .*model.pt model.safetensors --from facexformer",
        "none.safetensors": "no such",
    }
    save_file(small, str(tmp_path / "short.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{not json")
    torch.save({"state_dict_backbone": small}, tmp_path / "model.pt")
    for name, message in files.items():
        with pytest.raises(FclipError, match=message) as error:
            load_network(tmp_path / name)
        assert "\n" not in str(error.value)
