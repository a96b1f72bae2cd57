"""A small CLIP for tests, registered with open_clip: 32-pixel images, 4 patches, 2 layers and 2 heads per tower."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from fclip.models import create_model
from fclip.models.finecliper.model import FineCliper

CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")
FRAMES, SIZE, PATCHES, WIDTH, JOINT = 3, 32, 4, 128, 32
SMALL = "fclip-small"
VARIANTS = ("base", "star", "dagger", "star-dagger")
CONFIG: dict[str, Any] = {
    "embed_dim": JOINT,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": WIDTH, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def add_config(name: str, **changes: Any) -> str:
    """Register CONFIG as model `name`, with top-level keys or entries of `vision` and `text` changed."""
    config = {**CONFIG, **{k: v for k, v in changes.items() if k not in ("vision", "text")}}
    for tower in ("vision", "text"):
        config[f"{tower}_cfg"] = {**CONFIG[f"{tower}_cfg"], **changes.get(tower, {})}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.json")
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)  # read at once
    return name


add_config(SMALL)


def build(variant: str = "star-dagger", trained: bool = False, seed: int = 0, **options: Any) -> FineCliper:
    """The variant on the small CLIP; `trained` fills every adapter with noise, as training would."""
    torch.manual_seed(seed)
    model = create_model(
        variant, classes=CLASSES, frames=FRAMES, **{"clip": SMALL, "clip_weights": "random", **options}
    )
    if trained:
        with torch.no_grad():
            for parameter in model.adapters.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def make_batch(model: FineCliper, clips: int = 2, seed: int = 0, labels: bool = True) -> dict[str, Tensor]:
    """A random batch with every modality of `model`."""
    generator = torch.Generator().manual_seed(seed)
    size = model.preprocess.image_size
    batch = {
        name: torch.randn(clips, model.frames, 3, size, size, generator=generator)
        for name in model.modalities
        if name != "caption"
    }
    if "caption" in model.modalities:
        texts = ["her eyes widen slowly, and both eyebrows rise", "his lips are pressed together", "she smiles"]
        batch["captions"] = model.tokenizer([texts[i % 3] for i in range(clips)], context_length=model.caption_context)
    if labels:
        batch["labels"] = torch.arange(clips) % len(model.classes)
    return batch
