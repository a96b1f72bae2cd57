"""Contrastive training of the bundled CLIP `tiny` from scratch on rendered clips and their captions.

Symmetric InfoNCE (Radford et al., 2021) between a clip's feature, the mean over its frames as in METHOD 2.3, and a
text of the clip: a caption of facial movement or, rarely, one in an annotator's words, which may name the expression.
It sees no label and no label prompt. A small vision transformer learns little from that alone in minutes, so its image
tower starts with simpler tasks, see `Hints`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fclip.faces.boxes import MARGIN
from fclip.files import resource_json
from fclip.models.backbone.attention import plain_block, readout_block
from fclip.models.backbone.clip import (
    CLIP_MEAN,
    CLIP_STD,
    LoadedClip,
    embed_images,
    encode_frames,
    encode_text,
    load_clip,
)
from fclip.records import LANDMARKS, PARSING_CLASSES
from fclip.synth.actions import UNITS
from fclip.synth.augment import Square, chance, degrade, relight, uniform
from fclip.synth.fitting import fit
from fclip.synth.pool import Pool, class_names
from fclip.synth.texts import describe

IMAGE_STEPS, IMAGES = 2400, 48  # first part, the image tower alone: optimiser steps, images in a batch
STEPS, CLIPS, FRAMES = 900, 64, 2  # second part, both towers: optimiser steps, clips in a batch, frames of each
TEXTS = 3  # written per clip and style
HUMAN = 0.05  # how often a text is in an annotator's words; more makes zero-shot as good as training on labels
PROMPT = "A person with an expression of {}."
MORE_WORDS = "no less not without face facial photo video"  # rows that prompts of the trained variants need
FIRST_SCALE, LAST_SCALE = 14.0, 100.0  # of the cosines, rising during training; 1 / 0.01 is what the method uses


def train_tiny(
    pool: Pool, seed: int = 0, image_steps: int = IMAGE_STEPS, steps: int = STEPS
) -> tuple[dict[str, Tensor], Tensor]:
    """Train on a pool made with `share` (see make_pool); returns the full CLIP state dict and the trained token ids."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    loaded = load_clip("tiny", weights="random", seed=seed)
    model = loaded.model.train().requires_grad_(True)
    texts = [clip_texts(pool, index, np.random.default_rng([seed, index])) for index in range(len(pool.scripts))]
    ids = _keep_rows(model, loaded, [text for styles in texts for group in styles.values() for text in group])
    hints = Hints(model.visual.class_embedding.shape[0])
    _good_start(model.visual, hints, crops(pool, *_draw(pool, 1000, random), random))

    def look(_: float) -> Tensor:
        return hints(model.visual, crops(pool, *_draw(pool, IMAGES, random), random))[1]

    def match(share: float) -> Tensor:
        scale = FIRST_SCALE * (LAST_SCALE / FIRST_SCALE) ** share
        return _contrast(model, hints, loaded, ids, _batch(pool, texts, random), scale)

    visual = [*model.visual.parameters(), *hints.parameters()]
    fit("tiny, image tower", visual, image_steps, look, 3e-3, 0.05)
    model.logit_scale.requires_grad_(False)  # follows the schedule
    fit("tiny, both towers", [*model.parameters(), *hints.parameters()], steps, match, 1.5e-3, 0.05)
    return _full_state(model, ids), ids


class Hints(nn.Module):
    """Tasks beside the contrast, thrown away afterwards, which show the image tower early where to look: the 68
    landmarks and the action units from the class token, and from each patch's token the parsing of its 4 x 4 parts.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.points = nn.Linear(width, 2 * LANDMARKS)
        self.units = nn.Linear(width, len(UNITS))
        self.classes = nn.Linear(width, len(PARSING_CLASSES) * 16)

    def forward(self, visual: Any, batch: Crops) -> tuple[Tensor, Tensor]:
        """Image features (N, E), as encode_frames gives them, and the loss of the tasks."""
        *blocks, last = visual.transformer.resblocks
        x = visual.ln_pre(embed_images(visual, batch.images))  # (N, 26, D)
        for block in blocks:
            x = plain_block(block, x)
        token = visual.ln_post(readout_block(last, x, torch.zeros(len(x), dtype=torch.long)))  # (N, D)
        logits = self.classes(x[:, 1:]).unflatten(2, (len(PARSING_CLASSES), 4, 4)).unflatten(1, (5, 5))
        logits = logits.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # (N, 11, 20, 20)
        parsing = functional.cross_entropy(logits, batch.labels)
        points = 100 * self.points(token).view(batch.points.shape)
        distance = functional.smooth_l1_loss(points, 100 * (batch.points - 0.5), beta=3.0)
        units = functional.mse_loss(self.units(token), batch.units)
        return token @ visual.proj, parsing + distance / 10 + 10 * units


@torch.no_grad()
def _good_start(visual: Any, hints: Hints, batch: Crops) -> None:
    """Start where learning is fast: patches decorrelated (a principal component each, the strong ones damped), smooth
    positions (sines and cosines), landmarks at their mean places.
    """
    patches = functional.unfold(batch.images, 16, stride=16).transpose(1, 2).flatten(0, 1)  # (N*25, 768)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    width = visual.conv1.out_channels
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    visual.conv1.weight.copy_((vectors / values.sqrt()).T.view_as(visual.conv1.weight))
    steps = torch.arange(5)[:, None] * 1.5 / 30 ** torch.linspace(0, 1, width // 4)  # (5, D/4)
    waves = torch.cat([steps.sin(), steps.cos()], 1) / 2  # (5, D/2)
    rows, columns = waves[:, None].expand(-1, 5, -1), waves[None].expand(5, -1, -1)
    visual.positional_embedding[1:] = torch.cat([rows, columns], 2).flatten(0, 1)
    hints.points.weight.mul_(0.1)
    hints.points.bias.copy_((batch.points.mean(0) - 0.5).flatten())


def clip_texts(pool: Pool, index: int, rng: np.random.Generator) -> dict[str, list[str]]:
    """The texts that may go with a clip, by style."""
    script = pool.scripts[index]
    return {style: [describe(script, rng, style) for _ in range(TEXTS)] for style in ("movement", "human")}


def mirrored(text: str) -> str:
    """The text (or the name of an action unit) in the mirrored clip: left and right exchanged."""
    other = {"left": "right", "right": "left"}
    return re.sub(r"(?<![a-z])(left|right)(?![a-z])", lambda match: other[match[0]], text)


def _part(text: str, random: torch.Generator) -> str:
    """A run of the text's sentences, drawn at random: shorter texts say more clearly what is seen, and cost less."""
    sentences = text.split(". ")
    first, last = sorted(torch.randint(0, len(sentences), (2,), generator=random).tolist())
    part = ". ".join(sentences[first : last + 1])
    return part if part.endswith(".") or last + 1 == len(sentences) else part + "."


def _keep_rows(model: Any, loaded: LoadedClip, texts: list[str]) -> Tensor:
    """Shrink the token embedding to the tokens that occur, in place; returns their ids, rising, (n,)."""
    words = [PROMPT.format(name) for name in class_names()] + [MORE_WORDS] + [mirrored(text) for text in texts]
    ids = torch.unique(loaded.tokenizer(sorted({*texts, *words})))
    rows = model.token_embedding.weight[ids].detach()
    model.token_embedding = nn.Embedding.from_pretrained(rows, freeze=False)
    return ids


def _full_state(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """The state dict with the whole token embedding, rows never seen being zero."""
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    rows = state["token_embedding.weight"]
    state["token_embedding.weight"] = torch.zeros(model.vocab_size, rows.shape[1]).index_copy(0, ids, rows)
    state["logit_scale"] = torch.tensor(math.log(LAST_SCALE))
    return state


@dataclass
class Crops:
    """Face crops as `preprocess` makes them: images (N, 3, 80, 80) normalised, landmarks (N, 68, 2) in [0, 1], parsing
    (N, 20, 20) int64, action units (N, 25).
    """

    images: Tensor
    points: Tensor
    labels: Tensor
    units: Tensor


def _draw(pool: Pool, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random frames of a pool, (count,), and which of them to mirror."""
    return torch.randint(0, len(pool.frames), (count,), generator=random), chance(count, 0.5, random)


def crops(pool: Pool, index: Tensor, flip: Tensor, random: torch.Generator | None) -> Crops:
    """Cut the frames at `index` (N,) around the face, mirrored where `flip`.

    With `random`, place, size, light and sharpness vary; without, the square lies exactly around the landmarks.
    """
    images = torch.from_numpy(pool.frames[index.numpy()]).permute(0, 3, 1, 2).float() / 255
    points = torch.from_numpy(pool.landmarks[index.numpy()]) * images.shape[-1]
    low, high = points.amin(1), points.amax(1)
    centre, side, angle = (low + high) / 2, MARGIN * (high - low).amax(1), torch.zeros(len(images))
    if random is not None:
        count = len(images)
        centre = centre + uniform(2 * count, -0.06, 0.06, random).view(-1, 2) * side[:, None]
        side, angle = side * uniform(count, -0.15, 0.2, random).exp(), 0.06 * torch.randn(count, generator=random)
    square = Square(centre, side, angle, flip)
    images, points = square.cut(images, 80), square.points(points)
    labels = square.cut_labels(torch.from_numpy(pool.parsing[index.numpy()]), 20).clamp(min=0)
    mirror = flip[:, None, None]
    points = torch.where(mirror, points[:, resource_json("mirror.json")["landmarks"]], points)
    labels = torch.where(mirror, torch.tensor(resource_json("mirror.json")["parsing"])[labels], labels)
    units = torch.from_numpy(pool.units[index.numpy()])
    units = torch.where(flip[:, None], units[:, [UNITS.index(mirrored(name)) for name in UNITS]], units)
    if random is not None:
        images = degrade(relight(images, random), random)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return Crops((images - mean) / std, points, labels, units)


def _batch(pool: Pool, texts: list[dict[str, list[str]]], random: torch.Generator) -> tuple[Crops, list[str], Tensor]:
    """Some frames of B clips, a text of each, and which pairs of a clip and a text (B, B) are no negatives, the texts
    being the same.
    """
    per_clip = len(pool.frames) // len(pool.scripts)
    clips = torch.randperm(len(pool.scripts), generator=random)[:CLIPS]
    middle = 1 - (torch.arange(per_clip) - (per_clip - 1) / 2).abs() / per_clip  # the apex is drawn more often
    weight = (middle**2).expand(len(clips), -1)
    frames = clips[:, None] * per_clip + torch.multinomial(weight, min(FRAMES, per_clip), generator=random)  # (B, T)
    flip = chance(len(clips), 0.5, random)
    human = chance(len(clips), HUMAN, random)
    chosen = []
    for clip, style, mirror in zip(clips.tolist(), human.tolist(), flip.tolist(), strict=True):
        group = texts[clip]["human" if style else "movement"]
        text = _part(group[int(torch.randint(0, len(group), (1,), generator=random))], random)
        chosen.append(mirrored(text) if mirror else text)
    same = [[mine == text for text in chosen] for mine in chosen]
    batch = crops(pool, frames.flatten(), flip.repeat_interleave(frames.shape[1]), random)
    return batch, chosen, torch.tensor(same)


def _contrast(
    model: Any, hints: Hints, loaded: LoadedClip, ids: Tensor, batch: tuple[Crops, list[str], Tensor], scale: float
) -> Tensor:
    """The contrastive loss of clips and texts, and half of the hints'."""
    pictures, texts, same = batch
    features, hint = hints(model.visual, pictures)
    clip = functional.normalize(features.view(len(texts), -1, features.shape[1]).mean(1), dim=-1)  # (B, E)
    text = functional.normalize(_encode_by_length(model, torch.searchsorted(ids, loaded.tokenizer(texts))), dim=-1)
    return info_nce(scale * clip @ text.T, same) + 0.5 * hint


def _encode_by_length(model: Any, tokens: Tensor) -> Tensor:
    """Text features (N, E) of tokens (N, L), computed in four groups of texts of like length to save time."""
    order = tokens.argmax(-1).argsort(stable=True)
    features = torch.cat([encode_text(model, tokens[group]) for group in order.chunk(4)])
    return features[order.argsort()]


def info_nce(logits: Tensor, same: Tensor) -> Tensor:
    """Symmetric InfoNCE on (B, B) logits, the diagonal being the pairs; other pairs marked in `same` are left out."""
    target = torch.arange(len(logits))
    left_out = same & ~torch.eye(len(logits), dtype=torch.bool)
    logits = logits.masked_fill(left_out, float("-inf"))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


@torch.inference_mode()
def clip_features(model: Any, pool: Pool) -> Tensor:
    """Mean image feature of each clip of a pool, (clips, E)."""
    per_clip = len(pool.frames) // len(pool.scripts)
    rows = []
    for start in range(0, len(pool.frames), 40 * per_clip):
        index = torch.arange(start, min(start + 40 * per_clip, len(pool.frames)))
        features = encode_frames(model.visual, crops(pool, index, torch.zeros(len(index)) > 0, None).images)
        rows.append(features.view(-1, per_clip, features.shape[1]).mean(1))
    return torch.cat(rows)


@torch.inference_mode()
def tiny_figures(loaded: LoadedClip, pool: Pool, classes: list[str]) -> dict[str, float]:
    """Figures on held-out people's clips, in percent: zero-shot accuracy with label prompts; retrieval of the right
    one of 20 movement captions; accuracy of a logistic regression on frozen features, halves of the pool swapped.
    """
    from sklearn.linear_model import LogisticRegression

    labels = np.array([classes.index(script.label) for script in pool.scripts])
    features = functional.normalize(clip_features(loaded.model, pool), dim=-1)
    prompts = encode_text(loaded.model, loaded.tokenizer([PROMPT.format(name) for name in classes]))
    guesses = (features @ functional.normalize(prompts, dim=-1).T).argmax(1).numpy()
    captions = [describe(script, np.random.default_rng(index), "movement") for index, script in enumerate(pool.scripts)]
    texts = functional.normalize(encode_text(loaded.model, loaded.tokenizer(captions)), dim=-1)
    hits = [
        int((features[row] @ texts[row // 20 * 20 : row // 20 * 20 + 20].T).argmax()) == row % 20
        for row in range(len(labels) // 20 * 20)
    ]
    half, right = len(labels) // 2, 0
    for train, test in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        probe = LogisticRegression(C=30.0, max_iter=2000).fit(features[train].numpy(), labels[train])
        right += int((probe.predict(features[test].numpy()) == labels[test]).sum())
    return {
        "clips": len(labels),
        "zero_shot_accuracy": 100 * float((guesses == labels).mean()),
        "caption_of_20": 100 * float(np.mean(hits)) if hits else 0.0,
        "linear_probe_accuracy": 100 * right / len(labels),
    }
