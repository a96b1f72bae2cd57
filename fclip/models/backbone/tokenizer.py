"""The tokenizers of text towers: CLIP's, with OpenAI's own special words (open_clip has others), and the hub's."""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import regex
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor

from fclip.catalogue import hub_address
from fclip.errors import FclipError, UsageError

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

    def words(self, text: str) -> list[int]:
        """The ids of a text without what opens and closes it, however long it is."""
        ids = self.encode(text)
        return ids[: ids.index(self.eot_token_id)] if self.eot_token_id in ids else ids

    @property
    def frame(self) -> tuple[list[int], list[int], int]:
        """The ids that open a text, those that close it, and the one that fills the rest."""
        return [self.sot_token_id], [self.eot_token_id], 0


@cache
def clip_tokenizer(context_length: int = 77) -> ClipTokenizer:
    """The tokenizer of a text tower of this context length."""
    return ClipTokenizer(context_length)


class HubTokenizer:
    """A tokenizer of the Hugging Face hub, as open_clip uses it (SigLIP's, CLIPA's, MetaCLIP 2's).

    It is read when the first text comes, so that a model without texts needs none of it. FclipError if it is neither in
    the hub's cache nor to be fetched.
    """

    def __init__(self, clip: str, name: str, context_length: int, **options: Any) -> None:
        self.clip, self.name, self.context_length, self.options = clip, name, context_length, options

    @cached_property
    def hub(self) -> Any:
        """open_clip's HFTokenizer."""
        try:
            return HFTokenizer(self.name, self.context_length, **self.options)
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).split(". ")[0].splitlines()[0]
            raise FclipError(
                f"CLIP {self.clip}: its tokenizer {self.name} is not in the cache of Hugging Face and could not be "
                f"fetched ({reason}); run the command once where {hub_address()} answers"
            ) from None

    def __call__(self, texts: str | list[str], context_length: int | None = None) -> Tensor:
        ids: Tensor = self.hub(texts, context_length)
        return ids

    def words(self, text: str) -> list[int]:
        """The ids of a text without what opens and closes it, however long it is."""
        ids: list[int] = self.hub.tokenizer(self.hub.clean_fn(text), add_special_tokens=False).input_ids
        return ids

    @cached_property
    def frame(self) -> tuple[list[int], list[int], int]:
        """The ids that open a text, those that close it, and the one that fills the rest."""
        bare = self.words("a")
        whole: list[int] = self.hub.tokenizer(self.hub.clean_fn("a")).input_ids
        start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        opening, closing = whole[:start], whole[start + len(bare) :]
        if self.hub.strip_sep_token:
            closing = [0 if id == self.hub.tokenizer.sep_token_id else id for id in closing]
        return opening, closing, self.hub.tokenizer.pad_token_id


def tower_tokenizer(clip: str, text: dict[str, Any], context_length: int) -> ClipTokenizer | HubTokenizer:
    """The tokenizer of a text tower by its configuration in open_clip."""
    if name := text.get("hf_tokenizer_name"):
        return HubTokenizer(clip, name, context_length, **text.get("tokenizer_kwargs", {}))
    return clip_tokenizer(context_length)


def check_fits(tokenizer: Any, text: str, others: int = 0, length: int | None = None) -> None:
    """Raise UsageError for a text of a class that, with `others` tokens beside it, is longer than `length` tokens.

    length: the text tower's context if None. Tokenizers cut such a text without a word.
    """
    opening, closing, _ = tokenizer.frame
    tokens, fit = len(opening) + len(tokenizer.words(text)) + others + len(closing), length or tokenizer.context_length
    if tokens > fit:
        raise UsageError(
            f"prompt {text[:40]!r}... has {tokens} tokens, {fit} fit the text tower; shorten the class name, its "
            "description or the context"
        )
