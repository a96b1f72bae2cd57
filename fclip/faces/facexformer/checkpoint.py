"""FaceXFormer's weights: where they are found, and how they are read into a network."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from fclip.errors import FclipError
from fclip.faces.facexformer.network import FaceXFormer
from fclip.faces.weights import FACEXFORMER_FILE
from fclip.files import cache_folder, find_file, search_folders
from fclip.tensors import read_tensors, write_tensors

HUB_REPOSITORY, HUB_FILE, HUB_KEY = "kartiknarayan/facexformer", "ckpts/model.pt", "state_dict_backbone"

log = logging.getLogger(__name__)


def find_weights() -> Path:
    """The converted weights in FCLIP_MODELS or the cache; else fetched from the model's hub page once and converted.

    Raises FclipError that names the file, how to make it, and the back ends that do without.
    """
    path = find_file(FACEXFORMER_FILE)
    if path is not None:
        return path
    try:
        return _fetch()
    except (ImportError, OSError, ValueError, RuntimeError, FclipError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise FclipError(
            f"facexformer: no {FACEXFORMER_FILE} in {' or '.join(map(str, search_folders()))}, and the hub did not "
            f"give it ({reason}); download {HUB_FILE} from huggingface.co/{HUB_REPOSITORY} and run: fclip convert "
            f"model.pt {cache_folder() / FACEXFORMER_FILE} --from facexformer; or use --backend mediapipe or lite"
        ) from error


def _fetch() -> Path:
    """Download the public checkpoint (1.1 GB) and keep the network's tensors of it (368 MB) in the cache."""
    from huggingface_hub import hf_hub_download

    log.info("fetching %s of %s from the hub", HUB_FILE, HUB_REPOSITORY)
    source = Path(hf_hub_download(HUB_REPOSITORY, HUB_FILE))
    return convert_checkpoint(source, cache_folder() / FACEXFORMER_FILE)


def convert_checkpoint(source: Path, target: Path) -> Path:
    """Write the network's tensors of a public `model.pt` to `target`, a .safetensors file; only tensors are unpickled.

    Raises FclipError when the file cannot be read so or is another model.
    """
    try:
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
        state = content[HUB_KEY]
    except Exception as error:  # whatever a foreign pickle does, it is this one message
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FclipError(f"{source}: not a plain checkpoint with {HUB_KEY} ({reason}); try fclip convert") from error
    _check(state, FaceXFormer(), source)
    write_tensors(target, state)
    return target


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
