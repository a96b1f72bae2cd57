"""From an opened checkpoint to the one state dict in it, and strict checks of its names and shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from fclip.errors import FclipError
from fclip.models.backbone.activation import OPENAI_NAMES
from fclip.models.backbone.clip import clip_config
from fclip.models.convert.archive import Archive
from fclip.models.convert.pickles import StoredTensor

_WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params"),
    *("ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "params_ema", "shadow_params"),
)
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.", "network.", "ema_model.")
_INSIDE = r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."

Stored = dict[str, StoredTensor]
Shapes = dict[str, tuple[int, ...]]
INTEGERS = "relative_position_index"  # the one table of integers among all these models


@dataclass
class Converted:
    """The result of one kind's converter: tensors to write by name, and what became of the file's own names."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    taken: list[str]
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class WrongNames(FclipError):
    """The names in a file are not those of the model; `convert` adds how they begin."""


def find_state(archive: Archive, wrappers: Iterable[str] = ()) -> tuple[Stored, list[str]]:
    """The state dict of a checkpoint and the wrappers' other fields, which are ballast (optimizer, recorder, epoch).

    Looks under `wrappers` and the names that training loops use (state_dict, model_state_dict, model, ema ...), in any
    nesting; what such loops put before all names is cut (`module.`, `_orig_mod.`, `model.`, `backbone.`), and what
    torch.compile and FSDP put between them. Raises FclipError if there is no dict of tensors.
    """
    tree, ballast = archive.tree, []
    while (name := _wrapper(tree, (*wrappers, *_WRAPPERS))) is not None:
        ballast += [str(other) for other in tree if other != name]
        tree = tree[name]
    if not isinstance(tree, dict) or not tree or not all(isinstance(name, str) for name in tree):
        raise FclipError(f"{archive.path}: holds no state dict (a dict of tensors by name)")
    odd = [name for name, value in tree.items() if not isinstance(value, StoredTensor)]
    if odd:
        raise FclipError(f"{archive.path}: {odd[0]:.60} is no tensor; this is not the state dict of a known model")
    return _plain_names(tree), ballast


def _wrapper(tree: Any, names: Iterable[str]) -> str | None:
    """The first of these names under which a dict has another one; None for a state dict."""
    return next((name for name in names if isinstance(tree, dict) and isinstance(tree.get(name), dict)), None)


def _plain_names(state: Stored) -> Stored:
    """The tensors without what wrappers of modules put into all their names."""
    shorter = {re.sub(_INSIDE, "", name): tensor for name, tensor in state.items()}
    if len(shorter) == len(state):
        state = shorter
    while prefix := next((p for p in _PREFIXES if all(n.startswith(p) and n != p for n in state)), None):
        state = under(state, prefix)
    return state


def name_beginnings(archive: Archive) -> str:
    """How the names in a checkpoint begin, with their numbers: "model. (302), criterion. (1)"."""
    state, _ = find_state(archive)
    counts = Counter(name.split(".")[0] + ("." if "." in name else "") for name in state)
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common(8)) + (" ..." if len(counts) > 8 else "")


def under(state: Stored, prefix: str) -> Stored:
    """The tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def require(state: Mapping[str, StoredTensor], shapes: Shapes, what: str) -> None:
    """Raise FclipError unless `state` has exactly these names and shapes; the message says what differs first."""
    for problem, names in (("lacks", shapes.keys() - state.keys()), ("has unexpected", state.keys() - shapes.keys())):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise WrongNames(f"{what}: {problem} {len(names)} tensor(s): {shown:.200}")
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise FclipError(f"{what}: {name} has shape {state[name].shape}, expected {shape}")
        if state[name].dtype.is_floating_point == name.endswith(INTEGERS):
            raise FclipError(f"{what}: {name} has type {state[name].dtype}")


def read(state: Stored, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Fetch the tensors from the file, as they are or as `dtype`."""
    return {name: tensor.read() if dtype is None else tensor.read().to(dtype) for name, tensor in state.items()}


def module_shapes(module: nn.Module) -> Shapes:
    """Names and shapes of a module's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def clip_shapes(name: str) -> Shapes:
    """Names and shapes of CLIP's state dict (OpenAI's names), from open_clip's own module without any memory."""
    config = clip_config(name)
    with torch.device("meta"):
        model = open_clip.CLIP(**{k: config[k] for k in ("embed_dim", "vision_cfg", "text_cfg")})
    return module_shapes(model)


def visual_shapes(name: str) -> Shapes:
    """Names and shapes of the image tower, without `visual.`."""
    return {k.removeprefix("visual."): shape for k, shape in clip_shapes(name).items() if k.startswith("visual.")}


def find_clip(visual: Mapping[str, StoredTensor], where: Path) -> str:
    """The name of the CLIP whose image tower has these shapes (names as under `visual.`). FclipError if none has."""
    keys = ("conv1.weight", "positional_embedding", "class_embedding")
    for name in ("tiny", *OPENAI_NAMES):
        vision = clip_config(name)["vision_cfg"]
        width, patch = vision["width"], vision["patch_size"]
        tokens = (vision["image_size"] // patch) ** 2 + 1
        if [visual[k].shape for k in keys if k in visual] == [(width, 3, patch, patch), (tokens, width), (width,)]:
            return name
    raise WrongNames(f"{where}: holds no image tower of a known CLIP ({', '.join(OPENAI_NAMES)}); wrong --from?")
