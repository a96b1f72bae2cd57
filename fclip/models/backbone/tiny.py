"""The bundled CLIP named "tiny": its configuration and its small weights file.

The file holds float16 tensors, and of the 49,408 token embeddings only the rows that training touched:
`token_embedding.ids` (n,) int64 and `token_embedding.rows` (n, 128). The other rows are zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fclip.errors import FclipError
from fclip.files import resource_json, resource_path

TINY_WEIGHTS = resource_path("tiny.safetensors")


def tiny_config() -> dict[str, Any]:
    """open_clip's model configuration of "tiny"."""
    config: dict[str, Any] = resource_json("tiny.json")
    return config


def save_tiny(path: Path | str, state: dict[str, Tensor], token_ids: Iterable[int]) -> None:
    """Write a CLIP state dict as the small file: float16, and the embedding rows of `token_ids` only."""
    kept = {k: v.to(torch.float16).contiguous() for k, v in state.items() if k != "token_embedding.weight"}
    ids = torch.tensor(sorted(set(token_ids)), dtype=torch.int64)
    rows = state["token_embedding.weight"][ids].to(torch.float16)
    kept |= {"token_embedding.ids": ids, "token_embedding.rows": rows}
    save_file(kept, str(path), {"format": "fclip-tiny"})


def load_tiny_state(path: Path | str = TINY_WEIGHTS) -> dict[str, Tensor]:
    """Read the small file back into a full float32 CLIP state dict (OpenAI names)."""
    if not Path(path).is_file():
        raise FclipError(f"{path}: the bundled weights of CLIP 'tiny' are missing; install fclip again")
    state = load_file(str(path))
    try:
        ids, rows = state.pop("token_embedding.ids"), state.pop("token_embedding.rows").float()
    except KeyError as error:
        raise FclipError(f"{path}: no tensor {error}; not a file written by save_tiny") from None
    text = tiny_config()["text_cfg"]
    table = torch.zeros(text["vocab_size"], text["width"])
    table[ids] = rows
    return {**{k: v.float() for k, v in state.items()}, "token_embedding.weight": table}
