"""Which activation the MLPs of CLIP's weights were trained with, GELU or QuickGELU: it belongs to the weights, and the
wrong one gives wrong features without any other sign.

Published weights are known. A local file says it in the header that `fclip convert` writes, in open_clip's
configuration beside it (its own name with .json, or the hub's open_clip_config.json), or by its layout (OpenAI's or
FaRL's).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fclip.catalogue import find, listed, published
from fclip.errors import UsageError
from fclip.files import read_json
from fclip.tensors import read_header

logger = logging.getLogger(__name__)

Activation = Literal["gelu", "quickgelu"]
OPENAI_NAMES = ("ViT-B-16", "ViT-B-32", "ViT-L-14", "ViT-L-14-336")  # models that OpenAI published
OPENAI_BUFFERS = {"input_resolution", "context_length", "vocab_size"}  # three scalars in OpenAI's files
FARL_EXTRAS = ("visual.lm_transformer.", "visual.ln_lm.", "visual.lm_head.", "visual.mask_token")
SIDECAR = "open_clip_config.json"  # as models of the hub have it


def activation_of(config: Mapping[str, Any]) -> Activation:
    """The activation of an open_clip configuration."""
    return "quickgelu" if config.get("quick_gelu") else "gelu"


def with_activation(config: dict[str, Any], said: str | None, given: str | None, what: str) -> dict[str, Any]:
    """The configuration with the activation that is `given`, else `said` by the weights, else its own.

    A line is logged where the two differ.
    """
    if given and said and given != said:
        logger.warning("%s: made with %s, as asked for, though its weights are of %s", what, given, said)
    chosen = given or said or activation_of(config)
    if chosen not in ("gelu", "quickgelu"):
        raise UsageError(f"activation {chosen!r}: it is gelu or quickgelu")
    return {**config, "quick_gelu": chosen == "quickgelu"}


def said_by_file(name: str, config: Mapping[str, Any], path: Path, tensors: set[str]) -> str | None:
    """What a local file of weights with these tensors says about its activation, or the model's name for it.

    None where neither does: `name` may mean either.
    """
    if found := _in_header(path) or _beside(path, config):
        return found
    known = [row for name in (*OPENAI_NAMES, "FaRL") if (row := find(listed()[name]))]
    if (
        tensors >= OPENAI_BUFFERS
        or any(tensor.startswith(FARL_EXTRAS) for tensor in tensors)
        or path.resolve() in [place.resolve() for place in known]
    ):
        return "quickgelu"
    return None if _has_twin(name) else activation_of(config)


def ask(path: Path | str) -> UsageError:
    """The line about a file that does not say it."""
    return UsageError(
        f"{path}: does not say whether its weights are of QuickGELU or GELU, and the wrong one gives wrong features; "
        "give --activation quickgelu (OpenAI's, MetaCLIP, DFN) or gelu (LAION-2B, DataComp)"
    )


def as_loaded_before(name: str, source: str | None) -> str | None:
    """What versions that did not store it took: a tag's own activation, else the model's usual one."""
    if name == "none":
        return None
    import open_clip

    from fclip.models.backbone.clip import clip_config

    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = source or next(iter(sorted(tags, key=lambda tag: tag != "openai")), None)
    return activation_of(open_clip.get_pretrained_cfg(name, tag) if tag in tags else clip_config(name))


def _has_twin(name: str) -> bool:
    """Whether open_clip has the model of that name with both activations, and the name is not that of QuickGELU."""
    import open_clip

    return published(name) == name and f"{name}-quickgelu" in open_clip.list_models()


def _in_header(path: Path) -> str | None:
    """What `fclip convert` wrote; earlier versions wrote the kind of the source alone."""
    if path.suffix != ".safetensors":
        return None
    metadata, _ = read_header(path)
    kind, said = metadata.get("converted"), metadata.get("activation")
    usual = "quickgelu" if isinstance(kind, dict) and kind.get("from") in ("openai", "farl") else None
    return said if isinstance(said, str) else usual


def _beside(path: Path, config: Mapping[str, Any]) -> str | None:
    """What a configuration of open_clip's beside the file says, if it is one, and of this model."""
    for place in (path.with_suffix(".json"), path.with_name(SIDECAR)):
        if not place.is_file() or (place.name == SIDECAR and not path.name.startswith("open_clip_")):
            continue
        found = read_json(place)
        model = found.get("model_cfg", found) if isinstance(found, dict) else {}
        if not isinstance(model, dict) or not {"quick_gelu", "embed_dim"} & model.keys():
            continue
        if model.get("embed_dim", config["embed_dim"]) == config["embed_dim"]:
            return activation_of(model)
    return None
