"""CREMA-D and RAVDESS: acted clips whose file names say everything; folds never split an actor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fclip.config import option
from fclip.data.layouts.base import (
    Dataset,
    first_existing,
    published_facts,
    unique_keys,
)
from fclip.data.layouts.grouping import draw_parts
from fclip.data.media.files import is_video
from fclip.errors import FclipError, UsageError
from fclip.records import Clip
from fclip.registry import register

_CREMA = re.compile(r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]{1,2})")
_RAVDESS = re.compile(
    r"(?P<modality>\d\d)-(?P<channel>\d\d)-(?P<emotion>\d\d)-(?P<level>\d\d)-(?P<sentence>\d\d)-\d\d-(?P<actor>\d\d)"
)


@dataclass(frozen=True)
class ActedOptions:
    """Options of data sets of actors whose folds are drawn."""

    media: str | None = option(None, "variant of the media folder; of ravdess: speech or song", output=True)
    folds: int | None = option(None, "folds to draw, actors apart [the usual number]", output=True)
    seed: int = option(0, "seed of the draw", output=True)


@register(ActedOptions)
def read_crema_d(source: Path, options: ActedOptions) -> Dataset:
    """CREMA-D (Cao et al., 2014): `VideoFlash/1001_DFA_ANG_XX.flv`; five actor-disjoint folds drawn with the seed."""
    facts = published_facts("crema-d")
    folder = first_existing(source, [options.media] if options.media else facts["media"], "the folder of videos")
    return _actor_folds("crema-d", source, facts, list(_videos(folder, _CREMA)), options, "all")


@register(ActedOptions)
def read_ravdess(source: Path, options: ActedOptions) -> Dataset:
    """RAVDESS (Livingstone & Russo, 2018): `Actor_01/01-01-03-01-01-01-01.mp4` at any depth; six folds.

    Fields: modality-channel-emotion-intensity-statement-repetition-actor. Speech by default, `--media song` for
    song; of a clip's two versions the one with sound (modality 01) is taken where it exists, else the silent one.
    """
    facts = published_facts("ravdess")
    channel = options.media or "speech"
    if channel not in facts["channels"]:
        raise UsageError(f"--media {channel}: give one of {', '.join(facts['channels'])} for ravdess")
    chosen: dict[str, tuple[Path, re.Match[str]]] = {}
    for path, match in _videos(source, _RAVDESS):
        if match["channel"] == facts["channels"][channel] and match["modality"] in ("01", "02"):
            performance = match[0][3:]
            if performance not in chosen or match["modality"] < chosen[performance][1]["modality"]:
                chosen[performance] = (path, match)
    members = [chosen[performance] for performance in sorted(chosen)]
    return _actor_folds("ravdess", source, facts, members, options, channel)


def _videos(folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    """Video files below a folder whose name matches, in order of their paths."""
    for path in sorted(folder.rglob("*")):
        match = pattern.fullmatch(path.stem)
        if match and is_video(path.name):
            yield path, match


def _check_fetched(path: Path) -> None:
    """CREMA-D is a git-lfs repository: without `git lfs pull` the videos are short texts."""
    with path.open("rb") as file:
        if file.read(20).startswith(b"version https://git-"):
            raise FclipError(f"{path}: a git-lfs pointer, not the video; fetch the videos with: git lfs pull")


def _actor_folds(
    name: str,
    source: Path,
    facts: dict[str, Any],
    members: list[tuple[Path, re.Match[str]]],
    options: ActedOptions,
    table: str,
) -> Dataset:
    if not members:
        raise FclipError(f"{source}: no videos named as in the release of {name} below this folder")
    _check_fetched(members[0][0])
    codes: dict[str, str] = facts["codes"]
    for path, match in members:
        if match["emotion"] not in codes:
            raise FclipError(f"{path}: unknown emotion code {match['emotion']}; known are {', '.join(codes)}")
    labels = [codes[match["emotion"]] for _, match in members]
    actors = [match["actor"] for _, match in members]
    parts, folds = draw_parts(labels, actors, options.folds or min(facts["folds"], len(set(actors))), options.seed)
    keys = unique_keys([path.name for path, _ in members])
    clips = [
        Clip(
            key,
            str(path),
            label,
            part,
            meta={
                "path": path.relative_to(source).as_posix(),
                "identity": match["actor"],
                "sentence": match["sentence"],
                "level": match["level"],
            },
        )
        for key, (path, match), label, part in zip(keys, members, labels, parts, strict=True)
    ]
    return Dataset(name, source, tuple(facts["classes"]), clips, folds, published=f"{name}/{table}")
