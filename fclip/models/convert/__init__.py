"""Public checkpoints, as their authors distribute them, into safetensors that fclip reads; nothing in them is run.

Kinds openai, farl, longclip, aim and facexformer give a weights file under public names; dfer-clip, emoclip and coop
(also CoCoOp) give an fclip-1 checkpoint that `load_model` builds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fclip
from fclip.errors import UsageError
from fclip.models.checkpoint import FORMAT
from fclip.models.convert import checkpoints, weights
from fclip.models.convert.archive import Archive, open_archive
from fclip.models.convert.source import Converted, Given
from fclip.tensors import write_tensors

WEIGHTS_FORMAT = "fclip-weights-1"
KINDS: dict[str, Callable[[Archive, Given], Converted]] = {
    "openai": weights.openai,
    "farl": weights.farl,
    "longclip": weights.longclip,
    "dfer-clip": checkpoints.dfer_clip,
    "aim": weights.aim,
    "emoclip": checkpoints.emoclip,
    "facexformer": weights.facexformer,
    "coop": checkpoints.coop,
    "cocoop": checkpoints.coop,  # told from CoOp by what the file holds
}


@dataclass(frozen=True)
class ConvertReport:
    """What became of the source's names: `taken`, `dropped` (ballast), `missing` (not in the file, not needed)."""

    taken: tuple[str, ...]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]
    metadata: dict[str, Any]


def convert(
    src: str | Path,
    out: str | Path,
    kind: str,
    classes: Sequence[str] | None = None,
    clip: str | None = None,
    clip_weights: str | Path | None = None,
) -> ConvertReport:
    """Convert the file `src` of the given kind (see KINDS) into the safetensors file `out`, and say what was taken.

    `classes` names a DFER-CLIP model's classes in order where it has neither 7 nor 11, or EmoCLIP's; `clip` and
    `clip_weights` name the CLIP that a CoOp prompt was learned on; the latter is noted in a checkpoint as the place of
    its CLIP's weights. Names and shapes must fit exactly. Raises UsageError
    for an unknown kind and FclipError, in one line, for a file that does not fit; then `out` is not written.
    """
    src, out = Path(src), Path(out)
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r} (--from); choose from {', '.join(KINDS)}")
    if out.exists() and src.exists() and out.samefile(src):
        raise UsageError(f"{out}: would replace its own source; give another output file")
    archive = open_archive(src)
    found = KINDS[kind](archive, Given(tuple(classes) if classes else None, clip, clip_weights))
    with src.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    metadata = {
        "format": FORMAT if "variant" in found.metadata else WEIGHTS_FORMAT,
        "fclip": fclip.__version__,
        **found.metadata,
        "converted": {"from": kind, "sha256": digest},
    }
    write_tensors(out, found.tensors, metadata)
    return ConvertReport(tuple(found.taken), tuple(found.dropped), tuple(found.missing), metadata)
