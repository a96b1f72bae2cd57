"""`fclip convert`: public checkpoints -> safetensors that fclip reads, without executing what they carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fclip.config import CommonConfig, option, options_of
from fclip.errors import UsageError
from fclip.registry import CONVERTERS
from fclip.runner.report import StageReport

SHOWN = 6  # names of each list that are printed


@dataclass(frozen=True)
class Config(CommonConfig):
    """Turn a checkpoint as it is distributed (pickle, TorchScript archive, wrapper) into safetensors.

    Nothing in the file is executed; keys and shapes are checked strictly. `--from list` shows the kinds.

    Example:  fclip convert ViT-B-16.pt ViT-B-16.safetensors --from openai
    """

    files: tuple[str, ...] = option((), "SRC OUT: the file as distributed, the file to write", positional=True)
    kind: str | None = option(
        None,
        "what SRC is: openai, farl, longclip, dfer-clip, facexformer ...; list = show them",
        flag="--from",
        registry=CONVERTERS,
    )
    options: Any = options_of("kind")


def run(config: Config) -> StageReport:
    """Convert SRC to OUT and say what was taken, dropped and missing."""
    from pathlib import Path

    from fclip.models.convert import convert
    from fclip.seeing.sources import refuse_inputs

    if len(config.files) != 2 or not config.kind:
        raise UsageError("write it as: fclip convert SRC OUT --from KIND")
    source, out = map(Path, config.files)
    refuse_inputs([out], [source])
    if out.exists() and not config.overwrite:
        raise UsageError(f"{out}: exists already; use --overwrite or another name")
    found = convert(source, out, config.kind, **vars(config.options))
    names = {"taken": sorted(found.taken), "dropped": sorted(found.dropped), "missing": sorted(found.missing)}
    counts = {what: len(listed) for what, listed in names.items()}
    lines = [
        f"{what}: {', '.join(listed[:SHOWN]) or 'nothing'}{' ... (--json lists all)' if len(listed) > SHOWN else ''}"
        for what, listed in names.items()
    ]
    return StageReport("convert", out, counts, {"metadata": found.metadata, **names}, lines)
