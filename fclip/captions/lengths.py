"""How long captions are, against FineCLIPER's average of about 35 tokens and what the text tower can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

TARGET = 35  # tokens; METHOD 2.5


def length_statistics(texts: Iterable[str], count_tokens: Callable[[str], int], limit: int) -> dict[str, Any]:
    """Mean, median, 95th percentile and maximum of the captions' tokens, the target, and the share over `limit`.

    count_tokens: the text tower's own count; limit: its positions (77 for CLIP, 248 for Long-CLIP).
    """
    lengths = np.array([count_tokens(text) for text in texts])
    if not len(lengths):
        return {"count": 0, "target": TARGET, "limit": limit}
    return {
        "count": len(lengths), "mean": float(lengths.mean()), "median": float(np.median(lengths)),
        "p95": float(np.quantile(lengths, 0.95)), "longest": int(lengths.max()), "target": TARGET, "limit": limit,
        "over_limit": float((lengths > limit).mean()),
    }  # fmt: skip
