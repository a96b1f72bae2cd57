"""Converters of trained models into fclip-1 checkpoints: DFER-CLIP, EmoCLIP, CoOp and CoCoOp."""

from __future__ import annotations

import re
from typing import Any

import torch

from fclip.errors import FclipError, UsageError
from fclip.models.backbone.clip import load_clip, weights_source
from fclip.models.baselines.descriptions import class_texts, read_descriptions
from fclip.models.baselines.temporal import TemporalTransformer
from fclip.models.convert.archive import Archive
from fclip.models.convert.options import PositionOptions, PromptOptions, TrainedOptions
from fclip.models.convert.source import (
    Converted,
    Stored,
    WrongNames,
    clip_shapes,
    find_clip,
    find_state,
    module_shapes,
    read,
    require,
    under,
    visual_shapes,
)
from fclip.models.convert.words import recover_texts
from fclip.models.weights import weights_sha256
from fclip.records import check_class_names
from fclip.registry import register

TEMPORAL_NAMES = (  # of the released code -> ours
    (r"^cls_token$", "class_token"),
    (r"^pos_embedding$", "positions"),
    (r"^temporal_transformer\.layers\.(\d+)\.", r"blocks.\1."),
    (r"\.0\.fn\.norm\.", ".norm_attention."),
    (r"\.0\.fn\.fn\.to_qkv\.", ".qkv."),
    (r"\.0\.fn\.fn\.to_out\.0\.", ".out."),
    (r"\.1\.fn\.norm\.", ".norm_mlp."),
    (r"\.1\.fn\.fn\.net\.0\.", ".up."),
    (r"\.1\.fn\.fn\.net\.3\.", ".down."),
)
HEADS = 8  # of the temporal transformers of both papers; not visible in the shapes


@register(PositionOptions)
def dfer_clip(archive: Archive, given: PositionOptions) -> Converted:
    """DFER-CLIP's checkpoint: image tower, temporal transformer and context; the class texts from `token_suffix`.

    The file has no class names: 7 or 11 classes are in the paper's order (happiness, sadness, ...), others must be
    given. Nor does it say where the text stands: `given.position`. Its text tower is stock CLIP, of which only the
    SHA-256 is kept. Released models see pixels in [0, 1].
    """
    state, ballast = find_state(archive)
    parts = {
        prefix: under(state, prefix)
        for prefix in ("image_encoder.", "temporal_net.", "prompt_learner.", "text_encoder.", "clip_model_.")
    }
    _refuse_others(archive, state, tuple(parts))
    name = find_clip(parts["image_encoder."], archive.path)
    what = f"{archive.path} as DFER-CLIP on {name}"
    shapes = clip_shapes(name)
    require(parts["image_encoder."], visual_shapes(name), f"{what}, image_encoder")
    require(parts["clip_model_."], shapes, f"{what}, clip_model_")
    prompt = _check_prompt(parts["prompt_learner."], shapes, what)
    temporal = _temporal(parts["temporal_net."], shapes["text_projection"][1], what)
    clip_text = read({k: t for k, t in parts["clip_model_."].items() if not k.startswith("visual.")}, torch.float32)
    texts, ids = recover_texts(prompt["token_suffix"].read(), clip_text["token_embedding.weight"], archive.path)
    classes = _classes(archive, given, len(texts))
    kept = {
        **{f"image_encoder.{k}": t for k, t in parts["image_encoder."].items()},
        **{f"temporal_net.{k}": t for k, t in temporal.items()},
        "prompt_learner.ctx": prompt["ctx"],
    }
    options = {
        "context": prompt["ctx"].shape[-2],
        "class_specific": len(prompt["ctx"].shape) == 3,
        "position": _position(archive, prompt, given),
        "temporal_layers": sum(k.endswith(".qkv.weight") for k in temporal),
        "text_mode": "description",
        "descriptions": dict(zip(classes, texts, strict=True)),
        "normalize": "none",
        "resize": "squash",
    }
    metadata = _metadata("dfer-clip", name, weights_sha256(clip_text), classes, temporal, texts, options, given)
    epoch = archive.tree.get("epoch") if isinstance(archive.tree, dict) else None
    metadata |= {"prompt_ids": ids, "epoch": epoch if isinstance(epoch, int) else None}
    taken = sorted(k for k in state if k.startswith(("image_encoder.", "temporal_net.")) or k == "prompt_learner.ctx")
    return Converted(read(kept, torch.float32), metadata, taken, sorted(state.keys() - set(taken)) + ballast)


@register(TrainedOptions)
def emoclip(archive: Archive, given: TrainedOptions) -> Converted:
    """EmoCLIP's zero-shot model: temporal transformer and scale. Any classes; the built-in eleven unless given."""
    state, ballast = find_state(archive)
    parts = {prefix: under(state, prefix) for prefix in ("backbone.", "temporal.")}
    _refuse_others(archive, state, (*parts, "logit_scale"))
    name = find_clip(under(parts["backbone."], "visual."), archive.path)
    what = f"{archive.path} as EmoCLIP on {name}"
    shapes = clip_shapes(name)
    require(parts["backbone."], shapes, f"{what}, backbone")
    temporal = _temporal(parts["temporal."], shapes["text_projection"][1], what)
    require({k: t for k, t in state.items() if k == "logit_scale"}, {"logit_scale": ()}, what)
    classes = list(check_class_names(given.classes, "--classes", UsageError) or read_descriptions(None))
    texts = class_texts(classes, "description")
    options = {
        "objective": "captions",
        "temporal_layers": sum(k.endswith(".qkv.weight") for k in temporal),
        "head_width": temporal["blocks.0.out.weight"].shape[1] // HEADS,
        "mlp_width": temporal["blocks.0.up.weight"].shape[0],
        "text_mode": "description",
        "descriptions": dict(zip(classes, texts, strict=True)),
    }
    sha256 = weights_sha256(read(parts["backbone."], torch.float32))
    metadata = _metadata("emoclip", name, sha256, classes, {}, texts, options, given)
    kept = {**{f"temporal.{k}": t for k, t in temporal.items()}, "logit_scale": state["logit_scale"]}
    taken = sorted(k for k in state if not k.startswith("backbone."))
    return Converted(read(kept, torch.float32), metadata, taken, sorted(state.keys() - set(taken)) + ballast)


@register(PromptOptions)
def coop(archive: Archive, given: PromptOptions) -> Converted:
    """CoOp's or CoCoOp's prompt learner; its class names are recovered with the token embedding of the CLIP it was on.

    The file does not say which CLIP: ViT-B-16 unless `given.clip`; the exact match of its token rows proves it.
    """
    state, ballast = find_state(archive)
    frozen = [k for k in state if k.startswith(("image_encoder.", "text_encoder.")) or k in ("logit_scale", "dtype")]
    prompt = {k.removeprefix("prompt_learner."): t for k, t in state.items() if k not in frozen}
    clip = load_clip(given.clip or "ViT-B-16", given.clip_weights, activation="quickgelu")
    what = f"{archive.path} as CoOp on {clip.name}"
    shapes = {k: tuple(t.shape) for k, t in clip.model.state_dict().items()}
    meta = {k: t for k, t in prompt.items() if k.startswith("meta_net.")}
    _check_prompt({k: t for k, t in prompt.items() if k not in meta}, shapes, what)
    if meta:
        require(meta, _meta_shapes(*shapes["text_projection"][::-1]), what)
    table = clip.model.token_embedding.weight
    texts, ids = recover_texts(prompt["token_suffix"].read(), table, archive.path)
    texts = [text.removesuffix(".").strip() for text in texts]
    if given.classes and list(given.classes) != texts:
        raise FclipError(f"{archive.path}: was trained on classes {texts}, not {list(given.classes)}")
    options: dict[str, Any] = {"context": prompt["ctx"].shape[-2], "init": ""}
    if meta and given.position not in (None, "end"):
        raise UsageError(f"{archive.path}: CoCoOp's text always stands at the end; leave out --position")
    if not meta:
        options |= {"class_specific": len(prompt["ctx"].shape) == 3, "position": _position(archive, prompt, given)}
    metadata = _metadata("cocoop" if meta else "coop", clip.name, clip.sha256, texts, {}, texts, options, given)
    metadata["prompt_ids"] = ids
    kept = {f"prompt_learner.{k}": t for k, t in {"ctx": prompt["ctx"], **meta}.items()}
    taken = sorted(k for k in state if k.removeprefix("prompt_learner.") in ("ctx", *meta))
    return Converted(read(kept, torch.float32), metadata, taken, sorted(state.keys() - set(taken)) + ballast)


def _metadata(
    variant: str,
    clip: str,
    sha256: str,
    classes: list[str],
    temporal: Stored,
    texts: list[str],
    options: dict[str, Any],
    given: TrainedOptions,
) -> dict[str, Any]:
    """What fclip-1 says about a model; the frame count is that of the temporal transformer's positions, else 16."""
    frames = temporal["positions"].shape[1] - 1 if "positions" in temporal else 16
    return {
        "variant": variant,
        "clip": clip,
        "clip_sha256": sha256,
        "clip_weights": weights_source(given.clip_weights),
        "clip_activation": "quickgelu",  # all were trained on OpenAI's
        "longclip_sha256": None,
        "longclip_weights": None,
        "classes": classes,
        "frames": frames,
        "prompts": {"class": texts},
        "options": options,
        "modalities": ["frames", "caption"] if options.get("objective") == "captions" else ["frames"],
    }


def _refuse_others(archive: Archive, state: Stored, known: tuple[str, ...]) -> None:
    other = sorted(name for name in state if not name.startswith(known))
    if other:
        raise WrongNames(f"{archive.path}: has {len(other)} tensor(s) of another model: {', '.join(other[:3]):.200}")


def _check_prompt(prompt: Stored, shapes: dict[str, tuple[int, ...]], what: str) -> Stored:
    """Check ctx (K, W) or (C, K, W) and its token buffers (C, 1, W), (C, length-1-K, W) against each other."""
    length, width = shapes["positional_embedding"]
    suffix, ctx = prompt.get("token_suffix"), prompt.get("ctx")
    if suffix is None or ctx is None or len(suffix.shape) != 3 or len(ctx.shape) not in (2, 3):
        raise FclipError(f"{what}: lacks a prompt learner's ctx and token_suffix")
    classes, context = suffix.shape[0], ctx.shape[-2]
    require(
        prompt,
        {
            "ctx": (classes, context, width) if len(ctx.shape) == 3 else (context, width),
            "token_prefix": (classes, 1, width),
            "token_suffix": (classes, length - 1 - context, width),
        },
        what,
    )
    return prompt


def _position(archive: Archive, prompt: Stored, given: PositionOptions) -> str:
    """Where the text stands, as given: all positions have the same tensors. UsageError where it is not given.

    Without any context vector all positions are the same prompt.
    """
    if given.position is None and prompt["ctx"].shape[-2] > 0:
        raise UsageError(
            f"{archive.path}: does not say where the text stands among the learned context, and a wrong guess gives "
            "wrong logits; give --position end (all released DFER-CLIP files, CoOp's default), middle or front"
        )
    return given.position or "end"


def _temporal(state: Stored, width: int, what: str) -> Stored:
    """The temporal transformer under our names, checked against the module that will hold it."""
    renamed: Stored = {}
    for name, tensor in state.items():
        for pattern, ours in TEMPORAL_NAMES:
            name = re.sub(pattern, ours, name)
        renamed[name] = tensor
    depth = sum(name.endswith(".qkv.weight") for name in renamed)
    first = [renamed.get(name) for name in ("positions", "blocks.0.out.weight", "blocks.0.up.weight")]
    if any(tensor is None or len(tensor.shape) < 2 for tensor in first):
        raise FclipError(f"{what}: lacks the temporal transformer's positions and blocks")
    positions, inner, mlp_width = (tensor.shape[axis] for tensor, axis in zip(first, (1, 1, 0), strict=True) if tensor)
    with torch.device("meta"):
        module = TemporalTransformer(width, positions, depth, HEADS, inner // HEADS, mlp_width)
    require(renamed, module_shapes(module), f"{what}, temporal transformer (our names)")
    return renamed


def _meta_shapes(width_in: int, width_out: int) -> dict[str, tuple[int, ...]]:
    hidden = width_in // 16
    return {
        "meta_net.linear1.weight": (hidden, width_in),
        "meta_net.linear1.bias": (hidden,),
        "meta_net.linear2.weight": (width_out, hidden),
        "meta_net.linear2.bias": (width_out,),
    }


def _classes(archive: Archive, given: TrainedOptions, count: int) -> list[str]:
    """The names given, or the published order for 7 and 11 classes."""
    published = list(read_descriptions(None))
    check_class_names(given.classes, "--classes", UsageError)
    names = list(given.classes) if given.classes else published[:count] if count in (7, len(published)) else None
    if names is None:
        raise FclipError(f"{archive.path}: has {count} classes and no names for them; give them in order (--classes)")
    if len(names) != count:
        raise FclipError(f"{archive.path}: has {count} classes, but {len(names)} names are given")
    return names
