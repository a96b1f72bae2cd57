"""Learned prompts of CoOp (Zhou et al., IJCV 2022), CoCoOp (CVPR 2022) and DFER-CLIP: K context vectors around a text.

The context vectors stand where K placeholder tokens were tokenised; all else is CLIP's frozen text tower. Only the
tokens up to the longest prompt are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fclip.errors import UsageError
from fclip.models.backbone.encode import text_tower
from fclip.models.backbone.tokenizer import check_fits
from fclip.models.baselines.options import TextPosition


def place_context(
    tokenizer: Any,
    texts: Sequence[str],
    context: int,
    position: TextPosition,
    ending: str,
    length: int,
) -> tuple[Tensor, Tensor]:
    """Token ids (C, length) of the prompts with placeholders, and the placeholders' positions `slots` (C, K).

    "end": context, text; "middle": half the context, text, the other half; "front": text, context; `ending` (CoOp's
    full stop) comes last. Raises UsageError for a text that does not fit into `length` tokens.
    """
    before = {"end": context, "middle": context // 2, "front": 0}[position]
    opening, closing, pad = tokenizer.frame
    placeholder, tail = tokenizer.words("X")[0], tokenizer.words(ending)
    ids = torch.full((len(texts), length), pad, dtype=torch.long)
    slots = torch.zeros(len(texts), context, dtype=torch.long)
    for row, text in enumerate(texts):
        words = tokenizer.words(text)
        hidden = [placeholder] * context
        prompt = [*opening, *hidden[:before], *words, *hidden[before:], *tail, *closing]
        check_fits(tokenizer, text, len(hidden) + len(tail), length)
        ids[row, : len(prompt)] = torch.tensor(prompt)
        start = len(opening)
        after = [start + len(words) + k for k in range(before, context)]
        slots[row] = torch.tensor([start + k for k in range(before)] + after)
    return ids, slots


class PromptLearner(nn.Module):
    """Context vectors `ctx` (K, W), or (C, K, W) if class-specific, and the token ids of the prompts around them.

    `init` names words whose embeddings the context starts from (as many tokens as K); else N(0, 0.02). K = 0 gives the
    fixed prompts, with nothing to learn.
    """

    ids: Tensor
    slots: Tensor

    def __init__(
        self,
        clip: Any,
        tokenizer: Any,
        texts: Sequence[str],
        context: int,
        class_specific: bool = False,
        position: TextPosition = "end",
        ending: str = "",
        init: str = "",
    ) -> None:
        super().__init__()
        tower = text_tower(clip)
        ids, slots = place_context(tokenizer, texts, context, position, ending, tower.context)
        self.register_buffer("ids", tower.cut(ids), persistent=False)
        self.register_buffer("slots", slots, persistent=False)
        values = torch.randn(len(texts) if class_specific else 1, context, tower.width) * 0.02
        if init:
            words = tokenizer.words(init)
            if len(words) != context:
                raise UsageError(f"context of {context} vectors cannot start from the {len(words)} tokens of {init!r}")
            values[:] = tower.module.token_embedding.weight.detach()[words]
        self._features: tuple[Any, Tensor] | None = None
        self.ctx = nn.Parameter(values if class_specific else values[0], requires_grad=context > 0)

    def embed(self, clip: Any, shift: Tensor | None = None) -> Tensor:
        """Prompts as token embeddings with positions (C, L, W); with `shift` (B, W) per image, (B*C, L, W)."""
        tower = text_tower(clip)
        words = tower.module.token_embedding(self.ids)  # (C, L, W)
        context = self.ctx.expand(len(self.ids), -1, -1)  # (C, K, W)
        slots = self.slots
        if shift is not None:  # CoCoOp: every context vector moves with the image
            images = len(shift)
            context = (context + shift[:, None, None]).flatten(0, 1)  # (B*C, K, W)
            words, slots = words.repeat(images, 1, 1), slots.repeat(images, 1)
        index = slots[..., None].expand(-1, -1, words.shape[-1])
        return words.scatter(1, index, context.to(words.dtype)) + tower.positions[: words.shape[1]]

    def _reused(self, encode: Callable[[], Tensor]) -> Tensor:
        """Encode, but in eval mode without gradients only once for the same context, device and precision."""
        if self.training or torch.is_grad_enabled():
            return encode()
        kind = self.ctx.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.ctx.dtype
        key = (self.ctx._version, self.ctx.device, precision)  # the version counts changes in place
        if self._features is None or self._features[0] != key:
            self._features = (key, encode())
        return self._features[1]

    def forward(self, clip: Any, shift: Tensor | None = None) -> Tensor:
        """Text features, not normalised: (C, E), or (B, C, E) with a `shift` (B, W) per image."""
        tower = text_tower(clip)
        end = tower.end(self.ids)
        if shift is None:
            return self._reused(lambda: tower.project(tower.encode(self.embed(clip), end)))
        features = tower.project(tower.encode(self.embed(clip, shift), end.repeat(len(shift))))
        return features.unflatten(0, (len(shift), -1))  # (B, C, E)
