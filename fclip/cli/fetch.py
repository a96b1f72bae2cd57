"""`fclip fetch`: weights files into a folder that can be copied to a machine without network; what is there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from fclip.catalogue import Weights, entry, find, listed, search_folders, weights_folder
from fclip.config import CommonConfig, close_names, option
from fclip.errors import UsageError
from fclip.runner.report import StageReport


@dataclass(frozen=True)
class Config(CommonConfig):
    """Bring the weights that commands need: CLIP, Long-CLIP, FaRL, FaceXFormer, MediaPipe, video language models.

    They go into the folder FCLIP_WEIGHTS, by default ~/.cache/fclip. Copied to a machine without network, with
    FCLIP_WEIGHTS naming it there, it is all that these commands need. --for takes a command as you would type it and
    brings what that needs. Any model of the Hugging Face hub can be named as owner/name or owner/name@revision.

    Example:  fclip fetch --list
              fclip fetch ViT-B-16 mediapipe
              fclip fetch --for "train --variant star-dagger"
    """

    names: tuple[str, ...] = option((), "what to bring; --list shows the names", positional=True)
    needed: str | None = option(None, 'a command whose weights to bring: "train --variant star-dagger"', flag="--for")
    list: bool = option(False, "show what there is, and where it lies here")


def run(config: Config) -> StageReport:
    """Fetch what was named and is not there; with --list, show the catalogue."""
    from fclip.engine.fetching import fetch

    if config.list:
        return show()
    if not config.names and config.needed is None:
        raise UsageError('name what to fetch, or a command: fclip fetch ViT-B-16, fclip fetch --for "train"')
    names = [*config.names, *(weights_of(config.needed) if config.needed is not None else [])]
    rows = list(dict.fromkeys(_known(name) for name in names))
    report = StageReport("fetch", weights_folder(), counts={"fetched": 0, "there": 0}, values={"files": []})
    for row in rows:
        place = None if config.overwrite else find(row)
        if place:
            report.counts["there"] += 1
            report.lines.append(f"{row.name}: is there already: {place}")
            continue
        found = fetch(row)
        report.counts["fetched"] += 1
        facts = {"name": row.name, "path": str(found.path), "licence": found.licence, "sha256": found.sha256}
        report.values["files"].append(facts)
        report.lines.append(f"{row.name}: {found.path}, licence {found.licence}")
        report.lines += [f"  sha256 {digest}  {file}" for file, digest in found.sha256.items()]
    if config.needed is not None and not rows:
        report.lines.append(f"fclip {config.needed}: needs no weights that fclip does not bring")
    return report


def _known(name: str) -> Weights:
    """The entry of that name; UsageError with the close matches."""
    row = entry(name)
    if row is None:
        close = close_names(name, listed())
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(listed())}"
        raise UsageError(f"no weights of the name {name!r}; {hint} Or owner/name of a model of the hub")
    return row


def weights_of(line: str) -> list[str]:
    """The names of the weights that a command line asks for; UsageError where it is no command."""
    from fclip.cli.app import parse

    words = shlex.split(line)
    return parse(words[1:] if words[:1] == ["fclip"] else words).weights()


def show() -> StageReport:
    """The catalogue: what lies where, and what is missing."""
    report = StageReport("fetch", counts={"there": 0, "missing": 0}, values={"weights": []})
    for row in listed().values():
        place = find(row)
        report.counts["there" if place else "missing"] += 1
        facts = {"name": row.name, "path": str(place) if place else None, "bytes": row.bytes, "licence": row.licence}
        report.values["weights"].append({**facts, "what": row.what, "from": row.place})
        report.lines.append(f"{row.name:17} {place or 'missing'}, {row.size}, licence {row.licence}: {row.what}")
    report.lines.append(f"looked for in: {', '.join(map(str, search_folders()))}")
    return report
