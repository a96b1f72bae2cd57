"""CREMA-D and RAVDESS: acted clips whose file names say everything; folds never split an actor."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
from fclip.data.layouts.tree import read_tree
from fclip.errors import FclipError, UsageError
from fclip.records import Clip
from fclip.registry import register

_CREMA = re.compile(r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]{1,2})")
_RAVDESS = re.compile(
    r"(?P<modality>\d\d)-(?P<channel>\d\d)-(?P<emotion>\d\d)-(?P<level>\d\d)-(?P<sentence>\d\d)-\d\d-(?P<actor>\d\d)"
)

Member = tuple[Path, re.Match[str]]  # a video, and what its name says


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
    found, remarks = _videos(folder, _CREMA)
    return _actor_folds("crema-d", source, facts, *_one_each(found, remarks, lambda match: match[0]), options, "all")


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
    found, remarks = _videos(source, _RAVDESS)
    wanted = [
        member
        for member in sorted(found, key=lambda member: (member[1]["modality"], member[0]))  # with sound first
        if member[1]["channel"] == facts["channels"][channel] and member[1]["modality"] in ("01", "02")
    ]
    with_sound = {match[0][3:] for _, match in wanted if match["modality"] == "01"}
    members = [(path, match) for path, match in wanted if match["modality"] == "01" or match[0][3:] not in with_sound]
    members, remarks = _one_each(members, remarks, lambda match: match[0][3:])
    members.sort(key=lambda member: member[1][0][3:])
    return _actor_folds("ravdess", source, facts, members, remarks, options, channel)


def _videos(folder: Path, pattern: re.Pattern[str]) -> tuple[list[Member], list[str]]:
    """The videos below a folder whose name matches, in order of their paths; and a line about the others."""
    found, others = [], []
    for path in sorted(path for inner in read_tree(folder).all_folders() for path in inner.videos):
        if match := pattern.fullmatch(path.stem):
            found.append((path, match))
        else:
            others.append(path.relative_to(folder).as_posix())
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return found, [f"not read, as it is not named as in the release: {others[0]}{more}"] if others else []


def _one_each(
    found: Sequence[Member], remarks: Sequence[str], name: Callable[[re.Match[str]], str]
) -> tuple[list[Member], list[str]]:
    """The first video of each performance, and a line about each that is there twice."""
    chosen: dict[str, Member] = {}
    told = list(remarks)
    for path, match in found:
        first = chosen.setdefault(name(match), (path, match))[0]
        if first is not path:
            told.append(f"comes twice: {match[0]} ({first}, which is taken, and {path})")
    return list(chosen.values()), told


def _actor_folds(
    name: str,
    source: Path,
    facts: dict[str, Any],
    members: list[Member],
    remarks: list[str],
    options: ActedOptions,
    table: str,
) -> Dataset:
    if not members:
        raise FclipError(f"{source}: no videos named as in the release of {name} below this folder")
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
    return Dataset(name, source, tuple(facts["classes"]), clips, folds, published=f"{name}/{table}", remarks=remarks)
