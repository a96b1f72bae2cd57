"""What a prediction rests on: the run that comes with fclip, and one line about any model behind an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fclip.errors import FclipError
from fclip.files import read_json, resource_path, sha256_file
from fclip.models.checkpoint import find_checkpoint
from fclip.records import RENDERED

CAVEAT = "expression shown, not emotion felt"


def bundled_run(detector: str) -> Path:
    """The checkpoint that answers where none is named: the one made with this detector, else the one with lite."""
    places = [resource_path(f"expressions/{name}.safetensors") for name in (detector, "lite", "mediapipe")]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise FclipError("this copy of fclip holds no run of its own; name one with --checkpoint, or --classes a,b,c")
    return found


def basis(meta: Mapping[str, Any], checkpoint: Path | None, classes: Sequence[str], clip: str) -> str:
    """One line: model, training data, held-out UAR where it was measured, and what an answer does not say.

    meta: what the checkpoint says, {} for plain CLIP; classes: candidates given in place of its own.
    """
    if not meta:
        return f"plain CLIP {clip}, zero-shot, trained on no labelled face; {CAVEAT}"
    card = meta.get("card") or {}
    data = card.get("data") or _data(str(meta.get("dataset")))
    model = meta["variant"] + (f" on {meta['clip']}" if meta["clip"] != "none" else "")
    return f"{model}, trained on {data}; {_held_out(card, checkpoint, bool(classes))}; {CAVEAT}"


def _data(dataset: str) -> str:
    """The training data, and what that means where it shows no people."""
    rendered = ": RENDERED faces only, so real faces are outside of what it knows" if dataset in RENDERED else ""
    return dataset + rendered


def _held_out(card: Mapping[str, Any], checkpoint: Path | None, other_classes: bool) -> str:
    """The UAR on clips that training did not see: the card's, or that of `fclip eval` of this very checkpoint."""
    if other_classes:
        return "not trained for these classes"
    if "uar" in card:
        low, high = card["uar_interval"]
        return f"held-out UAR {card['uar']:.0f} % [{low:.0f}, {high:.0f}] on {card['test']}"
    result = checkpoint / "eval" / "results.json" if checkpoint else None
    if checkpoint and result and result.is_file():
        values = read_json(result)
        if values.get("checkpoint_sha256") == sha256_file(find_checkpoint(checkpoint)):
            return f"held-out UAR {100 * values['uar']:.1f} % (fold {values['fold']})"
    return "held-out UAR not measured (fclip eval)"
