"""Class texts recovered from a prompt learner's `token_suffix`: each of its rows is a row of CLIP's token embedding."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from fclip.errors import FclipError
from fclip.models.backbone.tokenizer import clip_tokenizer

END = 49407  # CLIP's end token


def recover_texts(suffix: Tensor, table: Tensor, where: Path) -> tuple[list[str], list[list[int]]]:
    """The text of each class and its token ids, from rows (C, S, W) and the token embedding (V, W), by exact equality.

    The ids end before the end token. Raises FclipError where a row is no row of the table, or stands for two tokens.
    """
    texts, all_ids = [], []
    tokens = _tokens_by_row(table.to(suffix.dtype))
    remedy = "it was trained on another CLIP (--clip, --clip-weights)"
    for rows in suffix:
        ids: list[int] = []
        for row in _rows(rows):
            found = tokens.get(row, [])
            if END in found:
                break
            if len(found) != 1:
                fit = "no single row" if found else "no row"
                raise FclipError(f"{where}: token_suffix has a row that is {fit} of the token embedding; {remedy}")
            ids.append(found[0])
        else:
            raise FclipError(f"{where}: token_suffix has no end token; {remedy}")
        texts.append(_text_of(ids, where))
        all_ids.append(ids)
    return texts, all_ids


def _rows(matrix: Tensor) -> list[bytes]:
    content = matrix.detach().contiguous().view(torch.uint8).numpy()
    return [row.tobytes() for row in content]


def _tokens_by_row(table: Tensor) -> dict[bytes, list[int]]:
    tokens: dict[bytes, list[int]] = {}
    for token, row in enumerate(_rows(table)):
        tokens.setdefault(row, []).append(token)
    return tokens


def _text_of(ids: list[int], where: Path) -> str:
    """A text that is tokenised into exactly these ids: with natural spacing if that holds, else as decoded."""
    decoded = clip_tokenizer().decode(ids).strip()
    natural = re.sub(r" (?=[.,;:!?)])| ?(?=')|(?<=\() | (?=-)|(?<=-) ", "", decoded)
    for text in (natural, re.sub(r" (?=[.,;:!?])", "", decoded), decoded):
        if clip_tokenizer().encode(text) == ids:
            return text
    raise FclipError(f"{where}: the tokens of the class text {decoded[:60]!r} cannot be written as a text")
