"""FaceXFormer's weights, read into a network."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from fclip.errors import FclipError
from fclip.faces.facexformer.network import FaceXFormer
from fclip.tensors import read_tensors


def load_network(path: str | Path) -> FaceXFormer:
    """The network with the weights of a .safetensors file, in float32 and eval mode on the CPU.

    Raises FclipError for a missing or unreadable file, and for tensors that are not FaceXFormer's.
    """
    path = Path(path)
    if path.is_file() and path.suffix != ".safetensors":
        raise FclipError(
            f"{path}: not a .safetensors file; convert it first: fclip convert {path} "
            f"{path.with_suffix('.safetensors').name} --from facexformer"
        )
    state = read_tensors(path)
    network = FaceXFormer()
    _check(state, network, path)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _check(state: dict[str, Tensor], network: FaceXFormer, path: Path) -> None:
    """Raise FclipError unless the tensors have exactly the network's names and shapes."""
    expected = network.state_dict()
    differing = sorted(expected.keys() ^ state.keys())
    if differing:
        raise FclipError(f"{path}: not FaceXFormer's weights: {len(differing)} tensors differ, such as {differing[0]}")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            found, wanted = tuple(state[name].shape), tuple(tensor.shape)
            raise FclipError(f"{path}: not FaceXFormer's weights: {name} has shape {found}, expected {wanted}")
