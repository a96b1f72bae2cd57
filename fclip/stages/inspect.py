"""`fclip inspect`: what is in a shard, cache, captions file, checkpoint or stage folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fclip.config import CommonConfig, option
from fclip.errors import FclipError, UsageError
from fclip.stages.result import StageReport


@dataclass(frozen=True)
class Config(CommonConfig):
    """Show what is in shards, face caches, caption files and checkpoints, as a table.

    Example:  fclip inspect fclip-data/demo7/packed
              fclip inspect fclip-data/demo7/packed/part1-00000.tar --sheet sheet.png
    """

    paths: tuple[str, ...] = option((), "files or folders", positional=True)
    sheet: Path | None = option(None, "also write a contact sheet of clips with label, landmarks, parsing and caption")


def run(config: Config) -> StageReport:
    """Describe every path; with --sheet, draw the clips of the first."""
    from fclip.data.files import atomic_write
    from fclip.data.inspect import contact_sheet, describe

    if not config.paths:
        raise UsageError("name at least one file or folder")
    report = StageReport("inspect", counts={"paths": len(config.paths)})
    for name in config.paths:
        path = Path(name)
        if not path.exists():
            raise FclipError(f"{path}: no such file or folder")
        rows = describe(path)
        report.values.setdefault("rows", {})[name] = rows
        report.lines += [name, *("  " + "  ".join(f"{k}={v}" for k, v in row.items()) for row in rows)]
    if config.sheet:
        with atomic_write(config.sheet) as temp:
            contact_sheet(Path(config.paths[0])).save(temp, format="PNG")
        report.lines.append(f"contact sheet: {config.sheet}")
    return report
