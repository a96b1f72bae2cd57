"""How long captions are, against FineCLIPER's average of about 35 tokens and what the text towers can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

TARGET = 35  # tokens, FineCLIPER Sec. 3.3
LIMITS = {"CLIP": 77, "Long-CLIP": 248}  # positions of the text towers; what is longer they cut


def length_statistics(texts: Iterable[str], count_tokens: Callable[[str], int]) -> dict[str, Any]:
    """Mean, median, 95th percentile and maximum of the captions' tokens, the target, and the share over each limit.

    count_tokens: CLIP's count of a text, with the tokens that begin and end it.
    """
    lengths = np.array([count_tokens(text) for text in texts])
    if not len(lengths):
        return {"count": 0, "target": TARGET}
    return {
        "count": len(lengths),
        "mean": float(lengths.mean()),
        "median": float(np.median(lengths)),
        "p95": float(np.quantile(lengths, 0.95)),
        "longest": int(lengths.max()),
        "target": TARGET,
        "over_limit": {name: float((lengths > limit).mean()) for name, limit in LIMITS.items()},
    }


def length_summary(found: dict[str, Any]) -> str:
    """One line for people."""
    if not found["count"]:
        return "no captions"
    over = ", ".join(f"{100 * share:.1f} % over {name}'s {LIMITS[name]}" for name, share in found["over_limit"].items())
    return (
        f"{found['mean']:.1f} tokens on average (target {found['target']}), median {found['median']:.0f}, "
        f"95 % up to {found['p95']:.0f}, longest {found['longest']}; {over}"
    )
