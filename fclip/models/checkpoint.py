"""The public checkpoint format `fclip-1`: trainable tensors only, and what they were trained on.

One .safetensors file. Its header has one entry, `fclip`: a JSON object with format ("fclip-1"), variant, clip,
clip_sha256, classes in order, frames, prompts, options, the modalities that it reads, and what training adds: dataset,
fold, seed, epoch, selection, metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import fclip
from fclip.errors import FclipError
from fclip.models.backbone.activation import as_loaded_before
from fclip.models.base import ExpressionModel
from fclip.models.build import create_model
from fclip.models.weights import check_finite
from fclip.records import CheckpointInfo
from fclip.runner.pointer import WEIGHTS, read_pointer, verify_checkpoint
from fclip.schema import parse_record
from fclip.tensors import read_header, read_tensors, write_tensors

FORMAT = "fclip-1"
BUILT_FROM = ("variant", "clip", "clip_sha256", "classes", "frames", "prompts", "options")
POINTERS = ("BEST", "LAST")


def model_metadata(model: ExpressionModel) -> dict[str, Any]:
    """What a checkpoint says about its model: all that `load_model` needs to build it again."""
    return {
        "format": FORMAT,
        "fclip": fclip.__version__,
        "variant": model.variant,
        "clip": model.clip_name,
        "clip_sha256": model.clip_sha256,
        "clip_weights": model.clip_weights,
        "clip_activation": model.clip_activation,
        "longclip_sha256": model.longclip_sha256,
        "longclip_weights": model.longclip_weights,
        "classes": list(model.classes),
        "frames": model.frames,
        "prompts": model.prompts,
        "options": model.options,
        "modalities": list(model.modalities),
    }


def save_checkpoint(path: str | Path, model: ExpressionModel, **metadata: Any) -> None:
    """Write the trainable tensors of `model` as one fclip-1 file, under a temporary name first.

    `metadata` adds plain JSON values: dataset, fold, seed, epoch, selection, metrics.
    """
    state = {name: tensor.cpu().contiguous() for name, tensor in model.trainable_state().items()}
    write_tensors(Path(path), state, {**model_metadata(model), **metadata})


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read an fclip-1 file: (tensors by public name, metadata). FclipError if it is no such file, or a
    tensor is not finite."""
    path = Path(path)
    if not path.is_file():
        raise FclipError(f"{path}: no such checkpoint")
    verify_checkpoint(path)
    metadata, _ = read_header(path)
    if metadata.get("format") != FORMAT:
        raise FclipError(f"{path}: not a checkpoint of format {FORMAT}, but of {ascii(metadata.get('format'))[:60]}")
    if missing := [name for name in BUILT_FROM if name not in metadata]:
        raise FclipError(f"{path}: its metadata lack {', '.join(missing)}")
    parse_record(metadata, CheckpointInfo, str(path))  # every value is of its type
    state = read_tensors(path)
    check_finite(state, str(path))
    return state, metadata


def read_info(path: str | Path) -> CheckpointInfo:
    """What an fclip-1 file says about itself, without reading its tensors. FclipError if it is no such file."""
    metadata, _ = read_header(path)
    if metadata.get("format") != FORMAT:
        raise FclipError(f"{path}: not a checkpoint of format {FORMAT}, but of {metadata.get('format')!r}")
    return parse_record(metadata, CheckpointInfo, str(path))


def find_checkpoint(path: str | Path) -> Path:
    """The weights file meant by `path`: a file, a checkpoint folder, or a run folder (its BEST, else its LAST)."""
    path = Path(path)
    if path.is_file() and path.name not in POINTERS:
        return path
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    pointers = [path] if path.is_file() else [path / name for name in POINTERS]
    pointer = next((p for p in pointers if p.is_file()), None)
    if pointer is None:
        raise FclipError(f"{path}: no checkpoint (a .safetensors file, or a run folder with BEST or LAST)")
    return read_pointer(pointer) / WEIGHTS


def load_model(
    run_or_file: str | Path,
    clip_weights: str | Path | None = None,
    longclip_weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> ExpressionModel:
    """Build the model of a checkpoint (file or run folder) and load it, in eval mode.

    CLIP weights come from the recorded source unless given (a file that is not there: from the default); their SHA-256
    must be the recorded one. `classes`, if given, must equal the checkpoint's. FclipError says what differs.
    """
    path = find_checkpoint(run_or_file)
    state, meta = load_checkpoint(path)
    if classes is not None and list(classes) != meta["classes"]:
        raise FclipError(f"{path}: trained on classes {meta['classes']}, but {list(classes)} are asked for")
    model = build_from(meta, meta["classes"], clip_weights, longclip_weights)
    check_metadata(model, meta, path)
    model.load_trainable_state(state)
    return model.eval()


def build_from(
    meta: dict[str, Any],
    classes: Sequence[str],
    clip_weights: str | Path | None = None,
    longclip_weights: str | Path | None = None,
) -> ExpressionModel:
    """The model of a checkpoint's metadata, for these classes, without the checkpoint's tensors.

    CLIP is made with the activation that it was trained with, whatever its weights say today.
    """
    recorded = meta.get("clip_weights")
    model = create_model(
        meta["variant"],
        meta["clip"],
        classes,
        meta["frames"],
        clip_weights or _still_there(recorded),
        longclip_weights or _still_there(meta.get("longclip_weights")),
        meta.get("clip_activation") or as_loaded_before(meta["clip"], recorded),
        **meta["options"],
    )
    if "clip_activation" not in meta and (tower := getattr(model, "caption_tower", None)):
        tower.copy_activation()
    return model


def _still_there(source: str | None) -> str | None:
    """The recorded source of frozen weights, or None (the default) if it is a file that this machine has not."""
    return source if source and (not Path(source).is_absolute() or Path(source).is_file()) else None


def check_metadata(model: ExpressionModel, meta: dict[str, Any], path: Path) -> None:
    """Raise FclipError unless frozen weights, class names and prompts of `model` are those of the checkpoint."""
    own = model_metadata(model)
    for key in (*BUILT_FROM[:-1], "longclip_sha256"):
        if own[key] != meta.get(key):
            raise FclipError(f"{path}: {key} differs: the checkpoint has {meta.get(key)}, the model {own[key]}")
