"""fclip: Dynamic Facial Expression Recognition with vision-language models (FineCLIPER, DFER-CLIP and baselines).

Importing fclip imports no torch; each name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is slow to import, and this comes before the command can wait for Ctrl-C
    from fclip.api import PackedDataset, Prediction, evaluate, open_packed, predict
    from fclip.models.build import create_model
    from fclip.models.checkpoint import load_model

__version__ = "0.1.0"
__all__ = [
    "PackedDataset",
    "Prediction",
    "__version__",
    "create_model",
    "evaluate",
    "load_model",
    "open_packed",
    "predict",
]
_PLACES = {"create_model": "fclip.models.build", "load_model": "fclip.models.checkpoint"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'fclip' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES.get(name, "fclip.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
