"""Converters of files that hold a network's weights: OpenAI's CLIP, FaRL, Long-CLIP, AIM, FaceXFormer."""

from __future__ import annotations

import re

from fclip.config import NoOptions
from fclip.errors import FclipError
from fclip.files import resource_json
from fclip.models.backbone.activation import FARL_EXTRAS, OPENAI_BUFFERS
from fclip.models.convert.archive import Archive
from fclip.models.convert.options import ClipOptions
from fclip.models.convert.source import (
    Converted,
    Shapes,
    Stored,
    clip_shapes,
    find_clip,
    find_state,
    read,
    require,
    under,
    visual_shapes,
)
from fclip.registry import register

AIM_ADAPTERS = {"T_Adapter": "temporal", "S_Adapter": "spatial", "MLP_Adapter": "mlp"}
AIM_FOURTH = {"T_Adapter_in": "temporal_in"}  # of models with num_tadapter = 2
AIM_LAYERS = {"D_fc1": "down", "D_fc2": "up"}


@register(ClipOptions)
def openai(archive: Archive, options: ClipOptions) -> Converted:
    """OpenAI's CLIP (a TorchScript archive, or its state dict): 302 tensors in their published precision."""
    state, ballast = find_state(archive)
    extras = [name for name in state if name in OPENAI_BUFFERS or name.endswith("attn_mask")]
    return _clip(archive, state, extras, ballast, activation=options.activation)


@register()
def farl(archive: Archive, options: NoOptions) -> Converted:
    """FaRL (Zheng et al., CVPR 2022): CLIP's two towers under OpenAI's names; its image-modelling head is left out."""
    state, ballast = find_state(archive)
    extras = [name for name in state if name.startswith(FARL_EXTRAS) or name in OPENAI_BUFFERS]
    return _clip(archive, state, extras, ballast)


@register()
def longclip(archive: Archive, options: NoOptions) -> Converted:
    """Long-CLIP (Zhang et al., ECCV 2024): CLIP with two positional tables of 248 rows; both are kept."""
    state, ballast = find_state(archive)
    extras = [name for name in state if name in OPENAI_BUFFERS]
    return _clip(archive, state, extras, ballast, tables=("positional_embedding", "positional_embedding_res"))


def _clip(
    archive: Archive,
    state: Stored,
    extras: list[str],
    ballast: list[str],
    tables: tuple[str, ...] = (),
    activation: str = "quickgelu",
) -> Converted:
    """Check a CLIP state dict against the model that its image tower belongs to; `tables` are of 248 rows."""
    kept = {name: tensor for name, tensor in state.items() if name not in extras}
    name = find_clip(under(kept, "visual."), archive.path)
    shapes = clip_shapes(name)
    shapes.update(dict.fromkeys(tables, (248, shapes["positional_embedding"][1])))
    require(kept, shapes, f"{archive.path} as {name}")
    return Converted(read(kept), {"clip": name, "activation": activation}, sorted(kept), extras + ballast)


@register()
def aim(archive: Archive, options: NoOptions) -> Converted:
    """AIM (Yang et al., ICLR 2023): adapters under fclip's names (`frames.*`), image tower under CLIP's (`visual.*`).

    AIM trains ln_post, has no projection (reported as missing), and its classifier is left out. The metadata say how
    many temporal adapters a block has.
    """
    state, ballast = find_state(archive)
    ballast += [name for name in state if name.startswith("cls_head.")]
    tower = {name.removeprefix("backbone."): tensor for name, tensor in state.items() if name not in ballast}
    if "temporal_embedding" not in tower:
        raise FclipError(f"{archive.path}: lacks temporal_embedding; this is no AIM checkpoint")
    name = find_clip(tower, archive.path)
    visual = visual_shapes(name)
    del visual["proj"]
    both = any(".T_Adapter_in." in key for key in tower)
    require(tower, {**visual, **_aim_shapes(tower, visual, both)}, f"{archive.path} as AIM on {name}")
    tensors = {_aim_name(key): tensor for key, tensor in tower.items()}
    metadata = {"clip": name, "frames": tower["temporal_embedding"].shape[1], "temporal_adapters": 1 + both}
    return Converted(read(tensors), metadata, sorted(tower), ballast, ["visual.proj"])


def _aim_shapes(tower: Stored, visual: Shapes, both: bool) -> Shapes:
    """Shapes of the temporal embedding and of three or four adapters per block, of the width that the first one has."""
    width = visual["conv1.weight"][0]
    layers = sum(name.endswith("attn.in_proj_weight") for name in visual)
    first = tower.get("transformer.resblocks.0.S_Adapter.D_fc1.weight")
    hidden = first.shape[0] if first is not None and len(first.shape) == 2 else width // 4
    shapes: Shapes = {"temporal_embedding": (1, max(tower["temporal_embedding"].shape[1:2], default=1), width)}
    for block in range(layers):
        for adapter in (*AIM_ADAPTERS, *(AIM_FOURTH if both else ())):
            prefix = f"transformer.resblocks.{block}.{adapter}"
            shapes |= {
                f"{prefix}.D_fc1.weight": (hidden, width),
                f"{prefix}.D_fc1.bias": (hidden,),
                f"{prefix}.D_fc2.weight": (width, hidden),
                f"{prefix}.D_fc2.bias": (width,),
            }
    return shapes


def _aim_name(name: str) -> str:
    if name == "temporal_embedding":
        return "frames.temporal_embedding"
    found = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(\w+_Adapter(?:_in)?)\.(D_fc\d)\.(\w+)", name)
    if not found:
        return f"visual.{name}"
    block, adapter, layer, kind = found.groups()
    return f"frames.blocks.{block}.{(AIM_ADAPTERS | AIM_FOURTH)[adapter]}.{AIM_LAYERS[layer]}.{kind}"


@register()
def facexformer(archive: Archive, options: NoOptions) -> Converted:
    """FaceXFormer (Narayan et al., 2024): the network under its own names, without optimizer state."""
    state, ballast = find_state(archive, ("state_dict_backbone",))
    listed = resource_json("facexformer_tensors.json")
    require(state, {name: tuple(shape) for name, shape in listed.items()}, f"{archive.path} as FaceXFormer")
    return Converted(read(state), {}, sorted(state), ballast)
