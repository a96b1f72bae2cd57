"""Small models of every family, registered with timm and open_clip: the real classes, 32-pixel images, two blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

from small_clip import JOINT, SIZE, add_config
from timm.layers import LayerNorm
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vitamin import GeGluMlp

SMALL = {"img_size": SIZE, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 4}
TIMM = {"timm_model_pretrained": False, "image_size": SIZE}
LAST = {"context_length": 16, "no_causal_mask": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
TANH = {"act_kwargs": {"approximate": "tanh"}}
EVA02 = {"qkv_fused": False, "mlp_ratio": 8 / 3, "swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True}
ROPE = {"use_rot_pos_emb": True, "ref_feat_shape": (3, 3)}
PE = {"attn_type": "rope", "use_pre_transformer_norm": True, "rope_grid_offset": 1.0, "rope_grid_indexing": "xy"}
REGISTERS = {"class_token": False, "num_reg_tokens": 2, "use_abs_pos_emb": False, "init_values": 0.3}


def _add(name: str, network: type, **options: Any) -> None:
    """Make a small network known to timm by name, as its own are."""

    def make(pretrained: bool = False, num_classes: int = 0, global_pool: str | None = None, **_: Any) -> Any:
        pool = {"global_pool": global_pool} if global_pool else {}
        model = network(**{**SMALL, **options, "num_classes": num_classes, **pool})
        model.default_cfg = {}
        return model

    make.__name__ = name
    register_model(make)


_add("fclip_siglip", VisionTransformer, class_token=False, global_pool="map")
_add("fclip_vitamin", VisionTransformer, class_token=False, global_pool="avg", mlp_layer=GeGluMlp, init_values=0.5)
_add(
    "fclip_timm_clip",
    VisionTransformer,
    pre_norm=True,
    qk_norm=True,
    norm_layer=partial(LayerNorm, eps=1e-5),
    reg_tokens=1,
)
_add("fclip_eva01", Eva, qkv_fused=True, init_values=0.5)
_add("fclip_eva02", Eva, **EVA02, **ROPE)
_add("fclip_eva02_e", Eva, use_post_norm=True)
_add("fclip_pe", Eva, global_pool="map", attn_pool_num_heads=2, **PE, **ROPE)
_add("fclip_mixed", Eva, rope_type="mixed", use_rot_pos_emb=True, qkv_fused=True, **REGISTERS)


def _timm(name: str, pool: str = "", proj: str | None = "linear") -> dict[str, Any]:
    return {**TIMM, "timm_model_name": name, "timm_pool": pool, "timm_proj": proj}


TOWERS: dict[str, dict[str, Any]] = {
    "clip": {},
    "clipa": {"vision": {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}, "text": LAST},
    "average": {"vision": {"pool_type": "avg"}, "text": {"pool_type": "eos", "eos_id": 49407}},
    "siglip": {
        "vision": _timm("fclip_siglip", "map", "none"),
        "text": {**LAST, "proj_bias": True},
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "siglip2": {
        "vision": _timm("fclip_siglip", "map", "none"),
        "text": {**LAST, **TANH, "proj_type": "none", "width": 64},
        "embed_dim": 64,
        "custom_text": True,
    },
    "vitamin": {"vision": _timm("fclip_vitamin"), "custom_text": True},
    "timm-clip": {"vision": _timm("fclip_timm_clip", "token", None), "text": {"no_causal_mask": True}},
    "eva01": {"vision": _timm("fclip_eva01", "token", None), "custom_text": True},
    "eva02": {"vision": _timm("fclip_eva02", "token", None), "custom_text": True},
    "eva02-e": {"vision": _timm("fclip_eva02_e", "token", None), "custom_text": True},
    "pe": {"vision": _timm("fclip_pe", "map", None), "text": {"context_length": 24}, "custom_text": True},
    "mixed-rope": {"vision": _timm("fclip_mixed", "avg", None), "custom_text": True},
}


ENCODERS: dict[str, dict[str, Any]] = {
    "resnet": {"vision": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}},
    "convnext": {"vision": _timm("test_convnext")},
    "efficientnet": {"vision": _timm("test_efficientnet", "avg", "mlp"), "custom_text": True},
}


def add_tower(family: str) -> str:
    """Register the small model of a family with open_clip; its name."""
    changes = {**TOWERS, **ENCODERS}[family]
    if family.startswith("siglip"):
        changes = {**changes, "embed_dim": 64}
    return add_config(f"fclip-{family}", **{"embed_dim": JOINT, "quick_gelu": family == "clip", **changes})
