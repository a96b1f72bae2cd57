"""Contrastive training of the bundled CLIP `tiny` from scratch on rendered clips and real faces, and their captions.

Symmetric InfoNCE (Radford et al., 2021) between a clip's feature, the mean over its frames, and a text of it. Of a
rendered clip that is a caption of facial movement or, rarely, one in an annotator's words, which may name the
expression; of a real face fclip's own template caption or its label. A small vision transformer learns little from
that alone in minutes, so its image tower starts with simpler tasks, see `Hints`. Three parts: the image tower on
rendered frames, both towers on rendered clips, both towers on rendered clips and real faces together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fclip.models.backbone.clip import LoadedClip, load_clip
from fclip.models.backbone.encode import encode_frames, encode_text
from fclip.synth.texts import describe

from .augment import chance
from .faces import rarity
from .fitting import fit
from .hints import Hints, good_start
from .lite import usual_signals
from .pool import Pool, class_names
from .real import RealFaces
from .tiny_crops import Crops, joined, real_crops, rendered_crops
from .tiny_texts import MORE_WORDS, PROMPT, clip_texts, face_texts, label_prompts, mirrored, part_of

IMAGE_STEPS, IMAGES = 1800, 32  # first part: steps, images of a batch
STEPS, CLIPS, FRAMES = 900, 56, 2  # second part: steps, clips, frames of each
REAL_STEPS, FACES = 3300, 48  # third part: steps, real faces of a batch beside the clips
HUMAN, REAL_HUMAN = 0.05, 0.06  # how often a text of a rendered clip may name its expression; with real faces
NAMED = 0.4  # how often the text of a real face is its label
RARITY, LEAST_COUNT = 0.7, 100  # power of `rarity`
LABEL_WEIGHT = 0.5  # of the labels of real faces, beside the other tasks
LR, REAL_LR = 1.5e-3, 1e-3  # of the second and the third part
FIRST_SCALE, LATER_SCALE, LAST_SCALE = 14.0, 53.0, 100.0  # of the cosines, rising in the second and the third part


class TinyTrainer:
    """Both towers, the tasks beside the contrast and all that batches are drawn from."""

    def __init__(
        self, pool: Pool, real: RealFaces | None, seed: int, texts: Any = None, start: dict[str, Tensor] | None = None
    ) -> None:
        """`texts`: those of the real faces, if they are known; `start`: a full state dict to go on from."""
        torch.manual_seed(seed)
        self.random = torch.Generator().manual_seed(seed)
        self.pool, self.real = pool, real
        self.loaded = load_clip("tiny", weights="random", seed=seed)
        self.model: Any = self.loaded.model.train().requires_grad_(True)
        self.clip_texts = [
            clip_texts(pool, row, np.random.default_rng([seed, row])) for row in range(len(pool.scripts))
        ]
        for row, script in enumerate(
            pool.scripts if real else ()
        ):  # beside people, label prompts tell the same of both
            self.clip_texts[row]["human"] += label_prompts(script.label)
        self.face_texts = texts or [face_texts(real, row) for row in range(len(real.labels) if real else 0)]
        styles = [*self.clip_texts, *self.face_texts]
        self.ids = keep_rows(
            self.model, self.loaded, [text for style in styles for group in style.values() for text in group]
        )
        self.names: list[str] = sorted(set(real.labels.tolist())) if real else []
        width, feature = self.model.visual.proj.shape
        self.hints = Hints(width, feature, usual_signals(real), len(self.names))
        if real is not None:
            self.weights = torch.from_numpy(rarity(real.labels, RARITY, LEAST_COUNT))
            self.targets = torch.tensor([self.names.index(label) for label in real.labels])
        crops = [self.rendered(600), *([self.faces(400)[1]] if real else [])]
        good_start(self.model.visual, self.hints, joined(*crops))
        if start is not None:
            go_on_from(self.model, start, self.ids)

    def rendered(self, count: int) -> Crops:
        """Crops of random rendered frames."""
        rows = torch.randint(0, len(self.pool.frames), (count,), generator=self.random)
        return rendered_crops(self.pool, rows, chance(count, 0.5, self.random), self.random)

    def faces(self, count: int) -> tuple[Tensor, Crops, Tensor]:
        """Random real faces: their rows, crops, and which are mirrored."""
        assert self.real is not None
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=self.random)
        flip = chance(count, 0.5, self.random)
        return chosen, real_crops(self.real, chosen, flip, self.random), flip

    def label_loss(self, features: Tensor, chosen: Tensor) -> Tensor:
        """Cross-entropy of the labels of real faces from their features (N, E)."""
        if not len(chosen):
            return features.sum() * 0
        return functional.cross_entropy(self.hints.labels(features), self.targets[chosen], label_smoothing=0.1)

    def look(self, _: float) -> Tensor:
        """Loss of a batch of the first part."""
        return self.hints(self.model.visual, self.rendered(IMAGES))[1]

    def match(self, share: float) -> Tensor:
        """Loss of a batch of the second or third part: the contrast of clips and texts, and half of the hints'."""
        crops, texts, shown, told = self.clips()
        per_clip = len(crops.points) // len(texts)
        chosen = torch.empty(0, dtype=torch.long)
        first = FIRST_SCALE
        if self.real is not None:
            first = LATER_SCALE
            chosen, faces, flip = self.faces(FACES)
            crops = joined(crops, faces)
            named = chance(FACES, NAMED, self.random).tolist()
            labels = [str(self.real.labels[row]) for row in chosen.tolist()]
            shown, told = shown + labels, told + [label * name for label, name in zip(labels, named, strict=True)]
            texts += [
                self.text(self.face_texts[row], name, mirror)
                for row, name, mirror in zip(chosen.tolist(), named, flip.tolist(), strict=True)
            ]
        features, hint = self.hints(self.model.visual, crops)
        split = len(features) - len(chosen)
        clips = torch.cat([features[:split].unflatten(0, (-1, per_clip)).mean(1), features[split:]])  # (B, E)
        tokens = torch.searchsorted(self.ids, self.loaded.tokenizer(texts))
        text = functional.normalize(encode_by_length(self.model, tokens), dim=-1)
        logits = first * (LAST_SCALE / first) ** share * functional.normalize(clips, dim=-1) @ text.T
        contrast = info_nce(logits, no_pairs(texts, shown, told))
        return contrast + 0.5 * hint + LABEL_WEIGHT * self.label_loss(features[split:], chosen)

    def clips(self) -> tuple[Crops, list[str], list[str], list[str]]:
        """Some frames of random rendered clips, a text of each clip, the labels that they show and that these tell."""
        per_clip = len(self.pool.frames) // len(self.pool.scripts)
        clips = torch.randperm(len(self.pool.scripts), generator=self.random)[:CLIPS]
        middle = 1 - (torch.arange(per_clip) - (per_clip - 1) / 2).abs() / per_clip  # the apex is drawn more often
        weight = (middle**2).expand(len(clips), -1)
        chosen = torch.multinomial(weight, min(FRAMES, per_clip), generator=self.random)  # (B, T)
        frames = clips[:, None] * per_clip + chosen
        human = chance(len(clips), HUMAN if self.real is None else REAL_HUMAN, self.random)
        flip = chance(len(clips), 0.5, self.random)
        texts = [
            self.text(self.clip_texts[clip], style, mirror)
            for clip, style, mirror in zip(clips.tolist(), human.tolist(), flip.tolist(), strict=True)
        ]
        shown = [self.pool.scripts[clip].label for clip in clips.tolist()]
        told = [label * tells for label, tells in zip(shown, human.tolist(), strict=True)]
        crops = rendered_crops(self.pool, frames.flatten(), flip.repeat_interleave(frames.shape[1]), self.random)
        return crops, texts, shown, told

    def text(self, styles: dict[str, list[str]], human: bool, mirror: bool) -> str:
        """A part of one of the texts, mirrored where the picture is."""
        group = styles["human" if human else "movement"]
        text = part_of(group[int(torch.randint(0, len(group), (1,), generator=self.random))], self.random)
        return mirrored(text) if mirror else text


def train_tiny(
    pool: Pool,
    real: RealFaces | None = None,
    seed: int = 0,
    image_steps: int = IMAGE_STEPS,
    steps: int = STEPS,
    real_steps: int = REAL_STEPS,
) -> tuple[dict[str, Tensor], Tensor]:
    """Train on a pool made with `share` (see make_pool) and on real faces, where given; returns the full CLIP state
    dict and the trained token ids.
    """
    trainer = TinyTrainer(pool, None, seed)
    visual = [*trainer.model.visual.parameters(), *trainer.hints.parameters()]
    fit("tiny, image tower", visual, image_steps, trainer.look, 3e-3, 0.05)
    _fit_both("tiny, both towers", trainer, steps, LR)
    if real is not None:
        trainer = TinyTrainer(pool, real, seed, start=full_state(trainer.model, trainer.ids))
        _fit_both("tiny, both towers, rendered and real", trainer, real_steps, REAL_LR)
    return full_state(trainer.model, trainer.ids), trainer.ids


def _fit_both(name: str, trainer: TinyTrainer, steps: int, lr: float) -> None:
    trainer.model.logit_scale.requires_grad_(False)  # follows the schedule
    fit(name, [*trainer.model.parameters(), *trainer.hints.parameters()], steps, trainer.match, lr, 0.05)


def keep_rows(model: Any, loaded: LoadedClip, texts: list[str]) -> Tensor:
    """Shrink the token embedding to the tokens that occur, in place; returns their ids, rising, (n,)."""
    words = [PROMPT.format(name) for name in class_names()] + [MORE_WORDS] + [mirrored(text) for text in texts]
    ids = torch.unique(loaded.tokenizer(sorted({*texts, *words})))
    rows = model.token_embedding.weight[ids].detach()
    model.token_embedding = nn.Embedding.from_pretrained(rows, freeze=False)
    return ids


def full_state(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """The state dict with the whole token embedding, rows never seen being zero."""
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    rows = state["token_embedding.weight"]
    state["token_embedding.weight"] = torch.zeros(model.vocab_size, rows.shape[1]).index_copy(0, ids, rows)
    state["logit_scale"] = torch.tensor(math.log(LAST_SCALE))
    return state


@torch.no_grad()
def go_on_from(model: Any, state: dict[str, Tensor], ids: Tensor) -> None:
    """Copy a full state dict into a model whose token embedding holds the rows `ids`; rows never trained stay."""
    rows = state["token_embedding.weight"][ids]
    known = rows.any(1)
    model.load_state_dict(
        {name: state.get(name, tensor) for name, tensor in model.state_dict().items()}
        | {"token_embedding.weight": torch.where(known[:, None], rows, model.token_embedding.weight)}
    )


def no_pairs(texts: list[str], shown: list[str], told: list[str]) -> Tensor:
    """Which of the (B, B) pairs of a picture and another's text are not to be told apart: where the texts are equal,
    and where the text tells (`told`, "" where it names none) the label that the picture shows. Symmetric.
    """
    same = torch.tensor([[mine == other for other in texts] for mine in texts])
    apart = torch.tensor([[word == label for word in told] for label in shown])
    return same | apart | apart.T


def encode_by_length(model: Any, tokens: Tensor) -> Tensor:
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
        features = encode_frames(model.visual, rendered_crops(pool, index, torch.zeros(len(index)) > 0, None).images)
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
