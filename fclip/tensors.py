"""Weight files: safetensors, written whole or not at all, the same bytes for the same tensors and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from fclip.errors import FclipError
from fclip.files import atomic_write, parse_json
from fclip.schema import JsonObject

if TYPE_CHECKING:  # a header is read without torch
    from torch import Tensor


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, object] | None = None
) -> None:
    """Write tensors and JSON metadata as one .safetensors file.

    Its header has at most one entry, `fclip`, a JSON object (one, because safetensors writes several in any order).
    The file has the mode that the umask gives (safetensors makes it private). FclipError if it cannot be written.
    """
    from safetensors.torch import save_file

    header = {"fclip": json.dumps(dict(metadata), sort_keys=True)} if metadata is not None else None
    try:
        with atomic_write(path, apart=True) as temporary:  # safetensors writes to `.tmpXXXXXX` first
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(temporary), header)
            temporary.chmod(mode)
    except (OSError, SafetensorError) as error:
        raise FclipError(f"{path}: cannot be written ({error})") from None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a .safetensors file, on the CPU; FclipError for a missing or unreadable one."""
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except FileNotFoundError:
        raise FclipError(f"{path}: no such weights file") from None
    except (SafetensorError, OSError) as error:
        raise FclipError(f"{path}: not a readable .safetensors file ({error})") from None


def read_header(path: str | Path) -> tuple[JsonObject, tuple[str, ...]]:
    """The JSON metadata of a .safetensors file ({} without any) and its tensors' names, without reading the tensors.

    FclipError for a missing or unreadable file.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            text, names = (file.metadata() or {}).get("fclip", "{}"), tuple(file.keys())
    except FileNotFoundError:
        raise FclipError(f"{path}: no such weights file") from None
    except (SafetensorError, OSError) as error:
        raise FclipError(f"{path}: not a readable .safetensors file ({error})") from None
    metadata = parse_json(text, f"{path}: not a readable header")
    if not isinstance(metadata, dict):
        raise FclipError(f"{path}: its metadata are no JSON object; make the file again")
    return metadata, names
