"""State dicts: reading those of others safely, checking names and shapes, a hash independent of the format."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from fclip.errors import FclipError
from fclip.tensors import read_tensors


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a .safetensors file or a plain `torch.save` state dict, also one under "state_dict".

    A `module.` prefix (DataParallel) is dropped; nothing but tensors is unpickled. FclipError for a missing or
    unreadable file and for a TorchScript archive, which is code as well as data: `fclip convert` takes its tensors
    out.
    """
    path = Path(path)
    if not path.is_file():
        raise FclipError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        tensors = read_tensors(path)
        check_finite(tensors, str(path))
        return tensors
    if is_torchscript(path):
        raise FclipError(
            f"{path}: a TorchScript archive carries code; turn it into plain weights first: "
            f"fclip convert {path} {path.with_suffix('.safetensors').name} --from openai"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about old pickle protocols; what cannot be read raises
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle raise anything: it is this one message
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FclipError(f"{path}: not a plain state dict ({reason}); see fclip convert --help") from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise FclipError(f"{path}: not a dict of tensors; see fclip convert --help")
    check_finite(state, str(path))
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def is_torchscript(path: Path) -> bool:
    """Whether the file is a zip archive with TorchScript code in it (as OpenAI's .pt files are)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name or name.endswith("/constants.pkl") for name in archive.namelist())


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Raise FclipError unless `state` has exactly the names and shapes of `expected`; it says which differ."""
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    for kind, names in (("lacks", missing), ("has unexpected", unexpected)):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise FclipError(f"{what} {kind} {len(names)} tensor(s): {shown}")
    for name, tensor in expected.items():
        got, wanted = tuple(state[name].shape), tuple(tensor.shape)
        if got != wanted:
            raise FclipError(f"{what}: {name} has shape {got}, expected {wanted}")


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raise FclipError naming the first tensor that holds nan or an infinite value; masks may."""
    for name, tensor in sorted(state.items()):
        if not tensor.is_floating_point() or name.endswith("mask"):
            continue
        if not torch.isfinite(tensor.sum(dtype=torch.float32)) and not torch.isfinite(tensor).all():
            raise FclipError(f"{where}: tensor {name} holds NaN or infinite values; such weights cannot be used")


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the sorted tensors' names, shapes and bytes: equal for equal values, whatever the file was.

    Tensors are hashed one by one, in threads, then their digests together: hashing is the slow part of loading.
    """

    def digest(name: str) -> bytes:
        tensor = state[name].detach().cpu().contiguous()
        hashed = hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return hashed.digest()

    with ThreadPoolExecutor(4) as pool:
        return hashlib.sha256(b"".join(pool.map(digest, sorted(state)))).hexdigest()
