"""What `fclip train --clip list` shows: open_clip's image-text models, their size and licence, and which variants take
them.

resources/backbones.json holds what is counted (on the meta device, so without weights); a test counts again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from fclip.files import resource_json

FAMILIES = (  # what is in a model's name -> its family; the first that fits
    ("SigLIP2", "SigLIP 2"),
    ("SigLIP", "SigLIP"),
    ("siglip", "SigLIP"),
    ("CLIPA", "CLIPA"),
    ("worldwide", "MetaCLIP 2"),
    ("EVA", "EVA-CLIP"),
    ("PE-Core", "PE-Core"),
    ("ViTamin", "ViTamin"),
    ("MobileCLIP", "MobileCLIP"),
    ("convnext", "ConvNeXt"),
    ("RN", "ResNet"),
    ("coca", "CoCa"),
    ("ViT", "CLIP"),
)
LICENCES = (  # (family or "", what the tag of the weights begins with, licence), as timm and the model cards state it
    ("", "openai", "MIT"),
    ("", "metaclip", "CC BY-NC 4.0"),
    ("", "dfn", "Apple, research"),
    ("MobileCLIP", "", "Apple, research"),
    ("SigLIP", "webli", "Apache 2.0"),
    ("SigLIP 2", "webli", "Apache 2.0"),
    ("PE-Core", "meta", "Apache 2.0"),
    ("CLIPA", "", "Apache 2.0"),
    ("", "v1", "CC BY-NC 4.0"),
    ("", "laion", "MIT"),
    ("", "merged2b", "MIT"),
    ("", "frozen_laion", "MIT"),
    ("", "datacomp", "MIT"),
)
FRAMES = 16


def family_of(name: str) -> str:
    """The family of a model by its name."""
    return next((family for part, family in FAMILIES if part in name), "other")


def licence_of(name: str, tag: str | None) -> str:
    """The licence of published weights; "-" without any, "see its card" where it is not known."""
    family = family_of(name)
    if tag is None:
        return "-"
    fits = (text for of, start, text in LICENCES if of in ("", family) and tag.startswith(start))
    return next(fits, "see its card")


def taken_by(facts: dict[str, Any]) -> str:
    """Which variants take a model of these facts, in words."""
    if not facts:
        return "not counted"
    if reason := facts.get("refused"):
        return f"none: {reason}"
    return "frozen features only" if "frozen" in facts else "all"


def clip_rows(measured: tuple[str, ...] = (), device: str = "cpu") -> Iterator[dict[str, Any]]:
    """A row of each model by family: name, parameters in millions, image size, text length, variants, licence, ms.

    `measured` names the models whose milliseconds a clip are measured, the only ones then shown.
    """
    import open_clip

    rows: dict[str, dict[str, Any]] = resource_json("backbones.json")
    families = list(dict.fromkeys(family for _, family in FAMILIES)) + ["other"]
    for name in sorted(measured or rows, key=lambda name: (families.index(family_of(name)), name)):
        known, _, size = name.partition("@")
        facts = rows.get(known, {})
        tags = open_clip.list_pretrained_tags_by_model(known)
        tag = "openai" if "openai" in tags else next(iter(tags), None)
        ms = round(milliseconds(name, device)) if measured else None  # first: it refuses a name that there is not
        yield {
            "family": family_of(name),
            "name": name,
            "million": round((facts["image"] + facts["text"]) / 1e6) if "image" in facts else None,
            "image_size": int(size) if size else facts.get("image_size"),
            "text_length": facts.get("text_length"),
            "variants": taken_by(facts),
            "licence": licence_of(name, tag),
            "ms": ms,
        }


def milliseconds(name: str, device: str) -> float:
    """Milliseconds that the image tower takes for the 16 frames of a clip on a device: random weights, median of 3."""
    import torch

    from fclip.models.backbone.clip import load_clip
    from fclip.models.backbone.encode import encode_frames

    clip = load_clip(name, "random")
    visual = clip.model.visual.to(device)
    images = torch.randn(FRAMES, 3, clip.image_size, clip.image_size, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            encode_frames(visual, images).cpu()  # waits for the device
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def listing_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as a table of text, with the line that says what is measured and how."""
    columns = {
        "family": "family",
        "name": "model",
        "million": "M param.",
        "image_size": "image px",
        "text_length": "text tokens",
        "variants": "variants",
        "licence": "licence of the weights",
        "ms": "ms a clip",
    }
    cells = [columns, *({key: "-" if row[key] is None else str(row[key]) for key in columns} for row in rows)]
    widths = {key: max(len(line[key]) for line in cells) for key in columns}
    lines = ["  ".join(f"{line[key]:{widths[key]}}" for key in columns).rstrip() for line in cells]
    return [
        *lines,
        "frozen features only: linear-probe, signals-probe, zeroshot-clip, coop, cocoop, emoclip, dfer-clip",
        f"ms a clip, {FRAMES} frames through the image tower on --device, random weights: --clip list:ViT-B-32,RN50",
    ]
