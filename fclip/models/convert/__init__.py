"""Public checkpoints, as their authors distribute them, into safetensors that fclip reads; nothing in them is run.

Kinds openai, farl, longclip, aim and facexformer give a weights file under public names; dfer-clip, emoclip and coop
(also CoCoOp) give an fclip-1 checkpoint that `load_model` builds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fclip
from fclip.errors import FclipError, UsageError
from fclip.registry import CONVERTERS

WEIGHTS_FORMAT = "fclip-weights-1"


@dataclass(frozen=True)
class ConvertReport:
    """What became of the source's names: `taken`, `dropped` (ballast), `missing` (not in the file, not needed)."""

    taken: tuple[str, ...]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]
    metadata: dict[str, Any]


def convert(src: str | Path, out: str | Path, kind: str, **options: Any) -> ConvertReport:
    """Convert the file `src` of the given kind (a name in CONVERTERS) into the safetensors file `out`.

    `options` are the converter's own, a function (archive, options) -> Converted: the classes in order where a file
    does not tell them; the CLIP that a prompt was learned on, which is noted in the checkpoint. Names and shapes must
    fit exactly. Raises UsageError for an unknown kind or option and FclipError, in one line, for a file that does not
    fit; then `out` is not written.
    """
    from fclip.models.checkpoint import FORMAT
    from fclip.models.convert.archive import open_archive
    from fclip.models.convert.source import WrongNames, name_beginnings
    from fclip.tensors import write_tensors

    src, out = Path(src), Path(out)
    values = CONVERTERS.make_options(kind, options)
    if out.exists() and src.exists() and out.samefile(src):
        raise UsageError(f"{out}: would replace its own source; give another output file")
    archive = open_archive(src)
    try:
        found = CONVERTERS.find(kind)(archive, values)
    except WrongNames as error:
        raise FclipError(f"{error}; the names in the file begin with {name_beginnings(archive)}") from error
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
