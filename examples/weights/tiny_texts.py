"""The texts that `tiny` learns: captions of rendered clips and of real faces, and the names of expressions."""

from __future__ import annotations

import re

import numpy as np
import torch

from fclip.captions.template.captioner import describe as describe_track
from fclip.records import BLENDSHAPES, FaceTrack
from fclip.synth.texts import describe

from .pool import Pool
from .real import DEGREES, SIZE, RealFaces

TEXTS = 3  # written per clip and style
PROMPT = "A person with an expression of {}."
PROMPTS = (PROMPT, "A photo of a face with an expression of {}.", "The face shows {}.", "{}.")
MORE_WORDS = "no less not without face facial photo video"  # rows that prompts of the trained variants need


def clip_texts(pool: Pool, index: int, rng: np.random.Generator) -> dict[str, list[str]]:
    """The texts that may go with a rendered clip, by style."""
    script = pool.scripts[index]
    return {style: [describe(script, rng, style) for _ in range(TEXTS)] for style in ("movement", "human")}


def face_texts(real: RealFaces, index: int) -> dict[str, list[str]]:
    """The texts that may go with a real face: fclip's template caption of the single picture, and its label."""
    row = slice(index, index + 1)
    signals = real.signals[row]
    track = FaceTrack(
        np.zeros((1, 1, 1), np.uint8),
        real.landmarks[row],
        np.ones(1, np.float32),
        signals[:, :BLENDSHAPES],
        signals[:, BLENDSHAPES:] * DEGREES,
    )
    text, _ = describe_track(track, np.zeros(1), (SIZE, SIZE))
    return {"movement": [text], "human": label_prompts(real.labels[index])}


def label_prompts(label: str) -> list[str]:
    """Texts that name a label and tell nothing else."""
    return [prompt.format(label) for prompt in PROMPTS]


def mirrored(text: str) -> str:
    """The text (or the name of an action unit) in the mirrored clip: left and right exchanged."""
    other = {"left": "right", "right": "left"}
    return re.sub(r"(?<![a-z])(left|right)(?![a-z])", lambda match: other[match[0]], text)


def part_of(text: str, random: torch.Generator) -> str:
    """A run of the text's sentences, drawn at random: shorter texts say more clearly what is seen, and cost less."""
    sentences = text.split(". ")
    first, last = sorted(torch.randint(0, len(sentences), (2,), generator=random).tolist())
    part = ". ".join(sentences[first : last + 1])
    return part if part.endswith(".") or last + 1 == len(sentences) else part + "."
