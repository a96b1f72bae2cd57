"""Making open_clip's models from their configurations: which ones, at random, or filled with a state dict."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fclip.errors import UsageError
from fclip.models.weights import check_state

CUSTOM_BLOCKS = (
    "block_type",
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
)  # options of open_clip that change what a block computes
CONSTRUCTOR = (
    "embed_dim",
    "vision_cfg",
    "text_cfg",
    "quick_gelu",
    "init_logit_scale",
    "init_logit_bias",
    "nonscalar_logit_scale",
)


def refusal(config: dict[str, Any]) -> str | None:
    """Why a model of this configuration cannot be used, or None. Looked up before any weight is built."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    reasons = [
        (text.get("hf_model_name"), "its text tower is {}, not open_clip's"),
        (config.get("multimodal_cfg") or text.get("embed_cls"), "it is CoCa, whose towers end in heads of their own"),
        (vision.get("attentional_pool"), "its image tower ends in attention pooling of open_clip's own"),
        (vision.get("patch_dropout"), "its image tower drops patches"),
        (isinstance(vision.get("image_size"), list), "its images are not square"),
        (text.get("pool_type", "argmax") not in ("argmax", "eos", "last"), "its text tower does not read one token"),
    ]
    reasons += [(tower.get(key), f"its blocks use {key}") for tower in (vision, text) for key in CUSTOM_BLOCKS]
    return next((reason.format(value) for value, reason in reasons if value), None)


def tower_refusal(visual: Any) -> str | None:
    """Why adapters cannot stand in an image tower, so that it can only be used as it is; None where they can."""
    if hasattr(visual, "transformer"):
        return None
    if not hasattr(visual, "trunk"):
        return "it is a ResNet, not a vision transformer"
    from timm.layers import AttentionPoolLatent

    from fclip.models.backbone.timm_vit import ATTENTIONS, BLOCKS, TRUNKS, projections

    trunk = visual.trunk
    if type(trunk) not in TRUNKS:
        return f"it is timm's {type(trunk).__name__}, not a vision transformer of blocks that are known"
    block, pool, found = trunk.blocks[0], trunk.attn_pool, projections(visual)
    if type(block) not in BLOCKS or type(block.attn) not in ATTENTIONS or block.attn.gate is not None:
        return f"its blocks are timm's {type(block).__name__}, in which adapters cannot stand"
    if not isinstance(pool, AttentionPoolLatent | None):
        return f"its pooling is timm's {type(pool).__name__}"
    return "its projection is not one matrix" if [type(each) for each in found] not in ([], [torch.nn.Linear]) else None


def construct(config: dict[str, Any]) -> Any:
    """open_clip's model of a configuration, initialised by open_clip, without published weights."""
    import open_clip

    given = {key: value for key, value in config.items() if key in CONSTRUCTOR}
    given["vision_cfg"] = {**config["vision_cfg"], "timm_model_pretrained": False}
    return (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**given)


def random_model(config: dict[str, Any], seed: int) -> Any:
    """The same with random weights of this seed; the generator of the process stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return construct(config)


def model_from_state(config: dict[str, Any], state: dict[str, Tensor], source: str) -> Any:
    """Build the model, without initialising it where that is possible, and fill it, strictly, with `state`.

    FclipError names missing, unexpected and misshapen tensors.
    """
    with torch.device("meta"):
        model = construct(config)
    state = _under_own_names(model, state)
    check_state(state, model.state_dict(), f"CLIP weights {source}")
    if _derives_its_buffers(model):
        model = model.to_empty(device="cpu")
        for module in model.modules():
            _derive_buffers(module)
    else:
        model = construct(config)
    model.load_state_dict(state)
    return model


def _under_own_names(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published state under the names of `model`: those of older files, and of MobileCLIP's own, differ."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    if hasattr(model, "text"):
        state = convert_state_dict(model, state)
        if "positional_embedding" in state:
            state = convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):
        own = model.state_dict().get(name)
        if own is not None and name in state:
            state[name] = state[name].reshape(own.shape)
    return state


def _derives_its_buffers(model: Any) -> bool:
    """Whether all that a state dict does not hold can be made again: attention masks, and what timm says it can."""
    for module in model.modules():
        own = {name for name, _ in module.named_buffers(recurse=False)} - set(module.state_dict())
        if own - {"attn_mask"} and not hasattr(module, "init_non_persistent_buffers"):
            return False
    return True


def _derive_buffers(module: Any) -> None:
    """Fill the buffers that no state dict holds."""
    if hasattr(module, "init_non_persistent_buffers"):
        module.init_non_persistent_buffers()
    if getattr(module, "attn_mask", None) is not None:
        module.attn_mask.fill_(float("-inf")).triu_(1)


def adapter_refusal(config: dict[str, Any]) -> str | None:
    """Why adapters cannot stand in the image tower of a configuration, or None, without its weights."""
    vision = config["vision_cfg"]
    if not vision.get("timm_model_name") and not isinstance(vision.get("layers"), list):
        return None
    from open_clip.model import _build_vision_tower

    with torch.device("meta"):
        return tower_refusal(_build_vision_tower(config["embed_dim"], {**vision, "timm_model_pretrained": False}))


def resize_images(visual: Any, size: int) -> int:
    """Make an image tower read images of this side, its position embedding resampled as timm does it; the side.

    UsageError where the tower cannot: it is no vision transformer, or its patches do not fit.
    """
    if reason := tower_refusal(visual):
        raise UsageError(f"image size {size}: only vision transformers read other sizes than their own, but {reason}")
    patch = visual.patch_size[0] if hasattr(visual, "patch_size") else visual.trunk.patch_embed.patch_size[0]
    if size % patch:
        raise UsageError(f"image size {size}: it must be a multiple of the patches' {patch} pixels")
    if hasattr(visual, "trunk"):
        visual.set_input_size(size)
        return size
    from timm.layers import resample_abs_pos_embed

    grid, table = (size // patch, size // patch), visual.positional_embedding
    moved = resample_abs_pos_embed(table.detach()[None], grid, visual.grid_size)[0]  # (1 + M, D)
    visual.positional_embedding = torch.nn.Parameter(moved, requires_grad=table.requires_grad)
    visual.image_size, visual.grid_size = (size, size), grid
    return size


def image_size_of(visual: Any, config: dict[str, Any]) -> int:
    """The side of the images: the trunk's own where timm built it (open_clip's configuration of one says another)."""
    patches = getattr(getattr(visual, "trunk", None), "patch_embed", None)
    size = getattr(patches, "img_size", None)
    return int(size[0] if size else config["vision_cfg"]["image_size"])
