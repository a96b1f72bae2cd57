"""Check a data set before any work: counts against the published ones, files, frames, duplicates, overlaps.

Most complaints about irreproducible results come from wrong lists, crops or frame counts; a report says so first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fclip.data.layouts.base import Dataset, find_media, published_facts
from fclip.data.media.files import is_archive, is_pointer
from fclip.data.media.images import list_frames
from fclip.runner.remote import is_url
from fclip.runner.report import class_table

_SHOWN = 20  # names kept of each list of offenders
_REMARKS = frozenset({"untrained_classes", "archives"})  # what may be meant; everything else stops the work
_OWN_REMARKS = frozenset({"missing_files", "lfs_pointers"})  # ... in a user's own list: such clips fail one by one


@dataclass(frozen=True)
class PublishedCount:
    """A count as it was found and as it is published: of `of` (clips, people, a class), in `where`."""

    of: str
    found: int
    published: int
    where: str = ""

    @property
    def what(self) -> str:
        """What is counted."""
        return f"{self.where} {self.of}".strip()

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{where}{self.found} {self.of}, published are {self.published}"


@dataclass
class ValidationReport:
    """What was found: counts, lists of offenders (first ones, with totals), one line per error and remark."""

    dataset: str
    clips: int
    classes: list[str]
    per_class: dict[str, int]
    per_part: dict[str, dict[str, int]]
    per_fold: dict[str, dict[str, dict[str, int]]]
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    published: list[PublishedCount] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.errors

    def as_dict(self) -> dict[str, Any]:
        """Plain data for validation.json."""
        values = asdict(self)
        del values["published"]  # the table of --check, no finding
        return {"ok": self.ok, **values}

    def table(self) -> str:
        """A readable table: clips of each class in each part, then sizes of the folds, errors and remarks."""
        lines = class_table(self.classes, self.per_part)
        lines += [
            f"fold {fold}: {sum(sides['train'].values())} train, {sum(sides['test'].values())} test"
            for fold, sides in self.per_fold.items()
        ]
        lines += [f"error: {line}" for line in self.errors]
        return "\n".join(lines + [f"note: {line}" for line in self.remarks])


def validate(dataset: Dataset, published: dict[str, Any] | None = None) -> ValidationReport:
    """Check a data set; `published` overrides the counts that belong to `dataset.published`.

    The keys of `published` (all optional): total, media (clips on disk), people, per_class {class: n}, folds
    {fold: {train: n or {class: n}, test: ...}}, scenes {scene: {train: n, test: n}}, parts {part: n}, frames [least,
    most] of a clip.
    """
    report = _counts(dataset)
    facts = published if published is not None else _published(dataset)
    report.published = list(_published_rows(report, dataset, facts))
    report.errors += dataset.problems + [str(row) for row in report.published if row.found != row.published]
    report.remarks += dataset.remarks
    for name, offenders, text in _checks(dataset, facts):
        items = list(offenders)
        report.findings[name] = {"count": len(items), "first": items[:_SHOWN]}
        if items:
            more = f" and {len(items) - 1} more" if len(items) > 1 else ""
            told = report.remarks if name in _REMARKS or (dataset.own and name in _OWN_REMARKS) else report.errors
            told.append(f"{text}: {items[0]}{more}")
    return report


def _published(dataset: Dataset) -> dict[str, Any]:
    if dataset.published is None:
        return {}
    name, _, table = dataset.published.partition("/")
    return published_facts(name)["counts"][table] if table else published_facts(name)["counts"]


def _counts(dataset: Dataset) -> ValidationReport:
    per_part: dict[str, Counter[str]] = {}
    for clip in dataset.clips:
        per_part.setdefault(clip.part, Counter())[clip.label] += 1
    per_part = dict(sorted(per_part.items()))
    per_fold = {
        fold: {
            side: dict(sum((per_part.get(part, Counter()) for part in sides[side]), Counter()))
            for side in ("train", "test")
        }
        for fold, sides in dataset.folds.items()
    }
    per_class = Counter(clip.label for clip in dataset.clips)
    return ValidationReport(
        dataset.name,
        len(dataset.clips),
        list(dataset.classes),
        {name: per_class[name] for name in dataset.classes if per_class[name]},
        {part: dict(counts) for part, counts in per_part.items()},
        per_fold,
    )


def _checks(dataset: Dataset, facts: dict[str, Any]) -> Iterator[tuple[str, Iterable[str], str]]:
    """(name, offenders, text of the error) of each check."""
    missing = [clip.meta.get("path", clip.source) for clip in dataset.clips if not _is_there(clip.source)]
    yield "missing_files", missing, "listed but not there"
    pointers = [clip.meta.get("path", clip.source) for clip in dataset.clips if _is_pointer(Path(clip.source))]
    yield "lfs_pointers", pointers, "a git-lfs pointer, not the video (fetch the videos: git lfs pull)"
    yield "archives", _archives(dataset), "an archive that may not be unpacked yet"
    yield "surplus_files", _surplus(dataset, facts.get("media", 0)), "there but in no list"
    yield "frame_counts", _frame_counts(dataset, facts.get("frames")), "number of frames differs"
    yield "duplicate_keys", _repeated(clip.key for clip in dataset.clips), "clip comes twice"
    uses = (f"{clip.source} {clip.meta.get('segment', '')}".rstrip() for clip in dataset.clips)
    yield "duplicate_files", _repeated(uses), "file is used by two clips"
    yield "duplicate_rows", _duplicate_rows(dataset), "listed twice in one split file"
    yield "train_test_overlap", _overlap(dataset), "in train and test of one fold"
    yield "incomplete_train", _incomplete(dataset), "train is not everything outside test"
    yield "tested_twice", _tested_twice(dataset), "in the test set of two folds"
    yield "unknown_classes", sorted({c.label for c in dataset.clips} - set(dataset.classes)), "label is no class"
    yield "untrained_classes", untrained_classes(dataset), "class with test clips and no training clip"
    yield "empty_parts", _empty_parts(dataset), "a fold uses a part without clips"


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _surplus(dataset: Dataset, published: int) -> list[str]:
    """Clips on disk that no list names, if there are more clips than the release is known to hold in all."""
    if dataset.media is None or not dataset.media.is_dir():
        return []
    listed = {str(Path(clip.source)) for clip in dataset.clips}
    found = list(find_media(dataset.media, dataset.depth))
    if published and len(found) <= published:
        return []  # releases hold clips without a single label, which no split uses
    return sorted(path.relative_to(dataset.media).as_posix() for path in found if str(path) not in listed)


def _is_there(source: str) -> bool:
    """Whether a source exists; what lies behind a URL is seen when it is fetched."""
    return is_url(source) or Path(source).exists()


def _is_pointer(source: Path) -> bool:
    """Whether a video, or the first frame of a folder, is not fetched from git-lfs yet."""
    return is_pointer(min(list_frames(source), default=source) if source.is_dir() else source)


def _archives(dataset: Dataset) -> list[str]:
    """Archives, their pieces and broken downloads in a release's folder and beside its clips."""
    if dataset.own:
        return []  # counted among the files that are not read
    folders = {dataset.source, *([dataset.media, dataset.media.parent] if dataset.media else [])}
    paths = {path for folder in folders if folder.is_dir() for path in folder.iterdir() if is_archive(path.name)}
    return sorted(path.relative_to(dataset.source).as_posix() for path in paths if path.is_relative_to(dataset.source))


def _frame_counts(dataset: Dataset, published: Sequence[int] | None) -> list[str]:
    """Frame folders whose number of pictures is not the annotated one, or is none that the release has."""
    found = []
    for clip in dataset.clips:
        annotated, folder = clip.meta.get("frames"), Path(clip.source)
        bounds = published if annotated is None else (annotated, annotated)
        if bounds is None or not folder.is_dir():
            continue
        count = len(list_frames(folder))
        if not bounds[0] <= count <= bounds[1]:
            known = f"{annotated} annotated" if annotated is not None else f"{bounds[0]} to {bounds[1]} published"
            found.append(f"{clip.meta.get('path', clip.key)} ({known}, {count} on disk)")
    return found


def _duplicate_rows(dataset: Dataset) -> list[str]:
    return [
        f"{key} (fold {fold}, {side})"
        for fold, sides in dataset.declared.items()
        for side, keys in sides.items()
        for key in _repeated(keys)
    ]


def _overlap(dataset: Dataset) -> list[str]:
    found = [
        f"{key} (fold {fold})"
        for fold, sides in dataset.declared.items()
        for key in sorted(set(sides["train"]) & set(sides["test"]))
    ]
    found += [
        f"part {part} (fold {fold})"
        for fold, sides in dataset.folds.items()
        for part in sorted(set(sides["train"]) & set(sides["test"]))
    ]
    people: dict[str, set[str]] = {}
    for clip in dataset.clips:
        if "identity" in clip.meta:
            people.setdefault(clip.meta["identity"], set()).add(clip.part)
    for fold, sides in dataset.folds.items():
        train, test = set(sides["train"]), set(sides["test"])
        found += [f"person {name} (fold {fold})" for name, parts in people.items() if parts & train and parts & test]
    return found


def _incomplete(dataset: Dataset) -> list[str]:
    """Clips that the train list of a fold leaves out or adds, compared with the folds made of parts."""
    part_of = {clip.key: clip.part for clip in dataset.clips}
    found = []
    for fold, sides in dataset.declared.items():
        parts = set(dataset.folds.get(fold, {}).get("train", ()))
        expected = {key for key, part in part_of.items() if part in parts}
        found += [f"{key} (fold {fold})" for key in sorted(expected ^ set(sides["train"]))]
    return found


def _tested_twice(dataset: Dataset) -> list[str]:
    return _repeated(key for sides in dataset.declared.values() for key in set(sides["test"]))


def untrained_classes(dataset: Dataset) -> list[str]:
    """Classes that a fold tests and cannot learn."""
    labels: dict[str, set[str]] = {}
    for clip in dataset.clips:
        labels.setdefault(clip.part, set()).add(clip.label)
    found = []
    for fold, sides in dataset.folds.items():
        trained, tested = (
            {name for part in sides[side] for name in labels.get(part, ())} for side in ("train", "test")
        )
        found += [f"{name} (fold {fold})" for name in sorted(tested - trained)] if trained else []
    return found


def _empty_parts(dataset: Dataset) -> list[str]:
    filled = {clip.part for clip in dataset.clips}
    return sorted(
        {part for sides in dataset.folds.values() for side in sides.values() for part in side if part not in filled}
    )


def _published_rows(report: ValidationReport, dataset: Dataset, facts: dict[str, Any]) -> Iterator[PublishedCount]:
    """Every count that is published, beside the one found."""
    if "total" in facts:
        yield PublishedCount("clips", report.clips, facts["total"])
    if "people" in facts:
        people = {clip.meta["identity"] for clip in dataset.clips if "identity" in clip.meta}
        yield PublishedCount("people", len(people), facts["people"])
    yield from _per_class("all clips", report.per_class, facts.get("per_class", {}))
    for fold, sides in facts.get("folds", {}).items():
        for side, expected in sides.items():
            found = report.per_fold.get(fold, {}).get(side, {})
            if isinstance(expected, dict):
                yield from _per_class(f"fold {fold} {side}", found, expected)
            else:
                yield PublishedCount("clips", sum(found.values()), expected, f"fold {fold} {side}")
    parts = Counter(clip.part for clip in dataset.clips)
    for part, expected in facts.get("parts", {}).items():
        yield PublishedCount("clips", parts[part], expected, f"part {part}")
    found_scenes = Counter((clip.meta.get("scene"), clip.part) for clip in dataset.clips)
    for scene, sides in facts.get("scenes", {}).items():
        for side, expected in sides.items():
            yield PublishedCount("clips", found_scenes[scene, side], expected, f"scene {scene} {side}")


def _per_class(where: str, found: dict[str, int], expected: dict[str, int]) -> Iterator[PublishedCount]:
    for name, count in expected.items():
        yield PublishedCount(name, found.get(name, 0), count, where)
