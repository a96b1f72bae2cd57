"""Loading CLIP by name.

Names: "tiny" (bundled), ViT-B-16, ViT-B-32, ViT-L-14 (by default OpenAI's weights), and open_clip's others; CoCa and
text towers of Hugging Face are refused by name. The activation is the weights' (see activation.py).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fclip.catalogue import answers, hub_address, listed, published, require
from fclip.errors import FclipError, UsageError
from fclip.models.backbone.activation import (
    FARL_EXTRAS,
    OPENAI_BUFFERS,
    OPENAI_NAMES,
    activation_of,
    ask,
    said_by_file,
    with_activation,
)
from fclip.models.backbone.building import image_size_of, model_from_state, random_model, refusal, resize_images
from fclip.models.backbone.tiny import TINY_WEIGHTS, load_tiny_state, tiny_config
from fclip.models.weights import read_state_dict, weights_sha256

logger = logging.getLogger(__name__)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class LoadedClip:
    """A CLIP model in float32, eval mode and frozen, with what its input needs.

    `weights` is the source (None, "random", a tag or an absolute path); `sha256` is that of the loaded tensors;
    `activation`: gelu or quickgelu, what its MLPs are made with;
    `tokenizer(texts, context_length=None)` gives int64 ids (N, context), over-long texts cut, end token kept.
    """

    name: str
    model: Any
    sha256: str
    tokenizer: Any
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str | None = None
    activation: str | None = None


def _no_tokens(texts: list[str], context_length: int | None = None) -> Tensor:
    raise FclipError("this variant has no text tower, so it reads no text")


NO_CLIP = LoadedClip("none", None, "", _no_tokens, 0, CLIP_MEAN, CLIP_STD)  # of the variants that are not made from one


def load_clip(name: str, weights: str | Path | None = None, seed: int = 0, activation: str | None = None) -> LoadedClip:
    """Load a CLIP model by name; `-quickgelu` at its end, as open_clip names some, says the activation; `@SIZE` after
    it makes it read images of that side, with its position embedding resampled.

    `weights`: None = the bundled file of "tiny", else OpenAI's published weights (`fclip fetch ViT-B-16`), of other
    models open_clip's first, which open_clip fetches; "random" = seeded initialisation (tests, benchmarks); one of
    open_clip's tags; a name of fclip.catalogue, as FaRL; or a local file: .safetensors, a plain state dict, FaRL's
    file. `activation`: gelu or quickgelu, of a local file that does not say it. UsageError names the models there are,
    why one is refused, or asks for the activation; FclipError names the weights that are not there, and missing or
    unexpected tensors.
    """
    import open_clip  # here, as it takes seconds and not every model needs it

    from fclip.models.backbone.tokenizer import tower_tokenizer

    whole, config = name, clip_config(name)
    name, _, side = name.partition("@")
    listed_as = published(name) if weights in (None, "openai") else str(weights)
    if weights == "random":
        config = with_activation(config, None, activation, "random weights")
        model = random_model(config, seed)
    elif name == "tiny" and weights is None:
        model = model_from_state(config, load_tiny_state(TINY_WEIGHTS), "bundled tiny.safetensors")
    elif listed_as in OPENAI_NAMES or listed_as in listed():
        config = with_activation(config, "quickgelu", activation, listed_as)  # OpenAI's, or FaRL, trained as they were
        model = model_from_state(config, _without_extras(read_state_dict(require(listed_as)), listed_as), listed_as)
    elif weights is None or str(weights) in open_clip.list_pretrained_tags_by_model(name):
        model, config = _published_model(name, None if weights is None else str(weights), config, activation)
    else:
        state = read_state_dict(weights)
        said = said_by_file(name, config, Path(weights), set(state))
        if activation is None and said is None:
            raise ask(weights)
        config = with_activation(config, said, activation, str(weights))
        model = model_from_state(config, _without_extras(state, str(weights)), str(weights))
    model.requires_grad_(False).eval()
    sha256 = weights_sha256(model.state_dict())
    size = resize_images(model.visual, int(side)) if side else image_size_of(model.visual, config)
    mean, std = config.get("mean", CLIP_MEAN), config.get("std", CLIP_STD)
    tokenizer = tower_tokenizer(name, config["text_cfg"], model.context_length)
    source, made_with = weights_source(weights), activation_of(config)
    return LoadedClip(whole, model, sha256, tokenizer, size, tuple(mean), tuple(std), source, made_with)


def weights_source(weights: str | Path | None) -> str | None:
    """How a checkpoint names CLIP weights: None, a tag, or a file's absolute path."""
    return None if weights is None else str(Path(weights).resolve() if Path(weights).is_file() else weights)


def clip_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of `name`; UsageError if unknown or if it cannot be used."""
    name, at, side = name.partition("@")
    if at and not (side.isdecimal() and 16 <= int(side) <= 1024):
        raise UsageError(f"CLIP model {name}@{side}: the side of the images is 16 to 1024 pixels, as {name}@336")
    if name == "tiny":
        return tiny_config()
    import open_clip

    listed = f"{name}-quickgelu" if name in OPENAI_NAMES else name
    config = open_clip.get_model_config(listed) if listed in open_clip.list_models() else None
    if config is None:
        usable = [n for n in open_clip.list_models() if not refusal(open_clip.get_model_config(n))]
        raise UsageError(f"unknown CLIP model {name!r}; usable models: tiny, {', '.join(usable)}")
    if reason := refusal(config):
        raise UsageError(f"CLIP model {name!r} cannot be used: {reason}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    usual = open_clip.get_pretrained_cfg(name, "openai" if "openai" in tags else tags[0]) if tags else {}
    return {**config, **{key: usual[key] for key in ("mean", "std") if usual.get(key)}}


def _published_model(
    name: str, tag: str | None, config: dict[str, Any], activation: str | None
) -> tuple[Any, dict[str, Any]]:
    """Fetch published weights through open_clip; the tag, not the name, decides between QuickGELU and GELU."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        raise FclipError(f"open_clip has no published weights for {name}; give a local file as clip_weights")
    tag = tag or ("openai" if "openai" in tags else tags[0])
    facts = open_clip.get_pretrained_cfg(name, tag)
    config = with_activation(config, activation_of(facts), activation, f"{name} {tag}")
    config |= {k: facts[k] for k in ("mean", "std") if facts.get(k)}
    if cached := _cached_by_hub(facts.get("hf_hub", "")):
        return model_from_state(config, _without_extras(read_state_dict(cached), str(cached)), f"{name} {tag}"), config
    place = f"{hub_address()}/{facts['hf_hub']}" if facts.get("hf_hub") else facts["url"]
    try:
        if not answers(place):
            raise FclipError(f"{place.split('/')[2]} does not answer")
        model = open_clip.create_model(name, pretrained=tag, force_quick_gelu=config["quick_gelu"])
    except (RuntimeError, OSError, FclipError) as error:
        reason = str(error).split(". ")[0]
        raise FclipError(
            f"CLIP {name}: published weights {tag!r} could not be fetched ({reason}); give a local file "
            "with --clip-weights (clip_weights); --clip tiny works without"
        ) from None
    return model, config


def _cached_by_hub(source: str) -> Path | None:
    """The weights file of an open_clip model that is in the hub's cache: source is owner/name/ or owner/name/file."""
    from huggingface_hub import try_to_load_from_cache

    owner, _, rest = source.partition("/")
    repository, _, named = rest.partition("/")
    stems = (named,) if named else (f"open_clip_{kind}" for kind in ("model.safetensors", "pytorch_model.bin"))
    for file in stems if repository else ():
        if isinstance(found := try_to_load_from_cache(f"{owner}/{repository}", file), str):
            return Path(found)
    return None


def _without_extras(state: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    extras = [k for k in state if k in OPENAI_BUFFERS or k.startswith(FARL_EXTRAS)]
    if extras:
        logger.info("%s: left out %d tensors that are no part of CLIP: %s", path, len(extras), ", ".join(extras[:3]))
    return {k: v.float() for k, v in state.items() if k not in extras}
