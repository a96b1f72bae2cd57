"""fclip: Dynamic Facial Expression Recognition with vision-language models (FineCLIPER, DFER-CLIP and baselines).

Importing fclip imports no torch; the model functions are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is slow to import, and this comes before the command can wait for Ctrl-C
    from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "create_model", "load_model"]


def __getattr__(name: str) -> Any:
    if name in ("create_model", "load_model"):
        from fclip import models

        return getattr(models, name)
    raise AttributeError(f"module 'fclip' has no attribute {name!r}")
