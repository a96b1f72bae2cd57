"""Packed clips into a model: python read_packed.py fclip-data/demo7/packed."""

import sys

import torch

import fclip

clips = fclip.open_packed(sys.argv[1], fold="1", size=80)
model = fclip.create_model("base", clip="tiny", classes=clips.classes, frames=len(clips[0]["frames"])).eval()
mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.preprocess.mean, model.preprocess.std))
rows = []
for clip in clips:
    frames = (clip["frames"].permute(0, 3, 1, 2) / 255 - mean) / std  # (T, 3, S, S)
    with torch.inference_mode():
        shares = model(frames[None]).logits.softmax(-1)[0].tolist()  # (C,)
    named = {f"p:{name}": share for name, share in zip(model.classes, shares, strict=True)}
    rows.append({"key": clip["key"], "true": clip["label"], **named})
result = fclip.evaluate(rows)
print(f"untrained {model}: UAR {100 * result.uar:.1f} % on {len(clips)} clips")
