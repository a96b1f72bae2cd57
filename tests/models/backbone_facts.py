"""What open_clip's models come to, counted on the meta device: the source of fclip/resources/backbones.json.

python -m tests.models.backbone_facts        writes that file and the table of docs/backbones.md anew
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch

from fclip.models.backbone.building import construct, image_size_of, refusal, tower_refusal
from fclip.models.backbone.clip import LoadedClip, clip_config
from fclip.models.backbone.encode import text_tower
from fclip.models.backbone.listing import family_of
from fclip.models.base import ModelSpec
from fclip.models.finecliper.options import Options
from fclip.registry import VARIANTS

REPO = Path(__file__).resolve().parents[2]
FILE = REPO / "fclip" / "resources" / "backbones.json"
DOCS = REPO / "docs" / "backbones.md"
ADAPTED = ("base", "star", "dagger", "star-dagger")
CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


def facts(name: str) -> dict[str, Any]:
    """Of one model of open_clip: parameters of its towers, what it reads, and what FineCLIPER trains on it."""
    config = open_clip.get_model_config(name)
    if reason := refusal(config):
        return {"refused": reason}
    with torch.device("meta"):
        model = construct(clip_config(name)).requires_grad_(False)
    image = sum(parameter.numel() for parameter in model.visual.parameters())
    row = {
        "image": image,
        "text": sum(parameter.numel() for parameter in model.parameters()) - image,
        "image_size": image_size_of(model.visual, config),
        "text_length": text_tower(model).context,
    }
    if reason := tower_refusal(model.visual):
        return {**row, "frozen": reason}

    def tokens(texts: list[str], context_length: int | None = None) -> torch.Tensor:
        return torch.zeros(len(texts), row["text_length"], dtype=torch.long, device="cpu")

    clip = LoadedClip(name, model, "", tokens, row["image_size"], (0, 0, 0), (1, 1, 1))
    for variant in ADAPTED:
        with torch.device("meta"):
            built = VARIANTS.find(variant)(ModelSpec(variant, clip, CLASSES, 16, Options()))
        row[variant] = sum(tensor.numel() for tensor in built.trainable_state().values())
    return row


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The table of docs/backbones.md."""
    lines = ["| model | image tower | text tower | px | tokens | base | star | dagger | star-dagger |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for name, row in sorted(rows.items(), key=lambda each: (family_of(each[0]), each[0])):
        if "refused" in row:
            continue
        counts = [f"{row[variant]:,}" if variant in row else "-" for variant in ADAPTED]
        size = [f"{row['image']:,}", f"{row['text']:,}", str(row["image_size"]), str(row["text_length"])]
        lines.append(f"| {' | '.join([name, *size, *counts])} |")
    return lines


def main() -> None:
    """Count all models."""
    rows = {}
    for name in open_clip.list_models():
        rows[name] = facts(name)
        print(name, rows[name], flush=True)
    write(rows)


def write(rows: dict[str, dict[str, Any]]) -> None:
    """Both files."""
    FILE.write_text("{\n" + ",\n".join(f" {json.dumps(n)}: {json.dumps(r)}" for n, r in rows.items()) + "\n}\n")
    text = DOCS.read_text()
    DOCS.write_text(text[: text.index("| model |")] + "\n".join(table(rows)) + "\n")


if __name__ == "__main__":
    main()
