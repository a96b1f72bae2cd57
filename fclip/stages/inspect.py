"""`fclip inspect`: what is in a shard, cache, captions file, checkpoint or stage folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fclip.config import CommonConfig, option
from fclip.errors import FclipError, UsageError
from fclip.runner.report import StageReport


@dataclass(frozen=True)
class Config(CommonConfig):
    """Show what is in shards, face caches, caption files and checkpoints, as a table.

    A folder stands for the files in it. --verify reads every file on record in a folder and below anew (a stage's, or
    a whole workspace) and says which are not what was written. --sheet draws clips of a shard with label, landmarks,
    parsing and caption.

    Example:  fclip inspect fclip-data/demo7/packed
              fclip inspect --verify fclip-data
              fclip inspect fclip-data/demo7/packed/part1-00000.tar --sheet sheet.png
    """

    paths: tuple[str, ...] = option((), "files or folders", positional=True)
    verify: bool = option(False, "compare all files with the hashes on record; exit code 1 if one differs")
    sheet: Path | None = option(None, "also write a contact sheet of clips with label, landmarks, parsing and caption")


def run(config: Config) -> StageReport:
    """Describe every path; with --sheet, draw the clips of the first shards among them."""
    from fclip.data.storage.inspect import contact_sheet, describe
    from fclip.files import atomic_write

    if not config.paths:
        raise UsageError("name at least one file or folder")
    if config.verify:
        return _verify([Path(name) for name in config.paths])
    report = StageReport("inspect", counts={"paths": len(config.paths)})
    for name in config.paths:
        path = Path(name)
        if not path.exists():
            raise FclipError(f"{path}: no such file or folder")
        rows = describe(path)
        report.values.setdefault("rows", {})[name] = rows
        report.lines += [name, *(f"  {line}" for line in _tables(rows))]
    if config.sheet:
        shards = [path for path in map(Path, config.paths) if path.suffix == ".tar" or any(path.glob("*.tar"))]
        if not shards:
            raise UsageError("--sheet draws clips: name a shard (.tar), or a folder of them such as packed/")
        with atomic_write(config.sheet) as temp:
            contact_sheet(shards[0]).save(temp, format="PNG")
        report.lines.append(f"contact sheet: {config.sheet}")
    return report


def _verify(paths: list[Path]) -> StageReport:
    """Compare the files below these folders with what is on record."""
    from fclip.runner.verify import verify_tree

    report = StageReport("inspect", counts={"verified": 0, "changed": 0})
    for path in paths:
        if not path.is_dir():
            raise UsageError(f"{path}: --verify takes a folder: a stage's output, a run, or a whole workspace")
        for checked in verify_tree(path):
            report.counts["changed" if checked.problem else "verified"] += 1
            if checked.problem:
                report.lines.append(checked.problem)
    if not sum(report.counts.values()):
        raise FclipError(f"{', '.join(map(str, paths))}: nothing there is on record; name what fclip has written")
    report.exit_code = 1 if report.counts["changed"] else 0
    return report


def _tables(rows: list[dict[str, Any]]) -> list[str]:
    """A table for each kind of file, below what all its rows share; one file alone has a line for each fact."""
    from fclip.runner.report import format_table

    lines: list[str] = []
    for kind in dict.fromkeys(str(row.get("kind", "damaged")) for row in rows):
        members = [row for row in rows if str(row.get("kind", "damaged")) == kind]
        names = list(dict.fromkeys(name for row in members for name in row if name != "kind"))
        shared = [name for name in names if len({str(row.get(name, "")) for row in members}) == 1]
        clips = sum(row.get("clips", 0) for row in members)
        lines.append(f"{len(members)} x {kind}" + (f", {clips} clips" if clips else "") if len(members) > 1 else kind)
        lines += [f"  {name}: {members[0][name]}" for name in shared]
        columns = [name for name in names if name not in shared]
        if columns:
            table = [columns, *([str(row.get(name, "")) for name in columns] for row in members)]
            lines += [f"  {line}" for line in format_table(table)]
    return lines
