"""CLIP's tokenizer with OpenAI's own special words: what open_clip's differs in."""

from __future__ import annotations

from functools import cache

import regex
from open_clip.tokenizer import SimpleTokenizer

SPECIAL = ("<|startoftext|>", "<|endoftext|>")  # open_clip has <start_of_text> and <end_of_text> in their place


class ClipTokenizer(SimpleTokenizer):
    """Texts -> token ids exactly as openai/CLIP gives them, literal special words in a text included.

    `tokenizer(texts, context_length=None)` gives int64 ids (N, context); a text that is too long is cut and keeps its
    end token. `<end_of_text>` is a text like any other, so it does not end a caption.
    """

    def __init__(self, context_length: int = 77) -> None:
        super().__init__(context_length=context_length)
        for token, word in zip(self.all_special_ids, SPECIAL, strict=True):
            del self.encoder[self.decoder[token]]
            self.encoder[word], self.decoder[token] = token, word
        self.cache = {word: word for word in SPECIAL}
        special = "|".join(map(regex.escape, SPECIAL))
        self.pat = regex.compile(
            special + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
        )


@cache
def clip_tokenizer(context_length: int = 77) -> ClipTokenizer:
    """The tokenizer of a text tower of this context length."""
    return ClipTokenizer(context_length)
