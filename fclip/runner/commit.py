"""What stands beside the shards of a stage: each one's failures and commit record, and the manifest of them all.

Order on disk: the output, then `<stem>.failed.jsonl` and the commit record `<stem>.json`; manifest.json last, which
makes it a Make target. Records carry a seal, the hash of what they say, so that a damaged one is known.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from fclip.config import hash_of
from fclip.errors import FclipError, one_line
from fclip.files import atomic_write, read_json, write_json
from fclip.runner.hashes import FileRecord, Hashed, file_record
from fclip.runner.stage import ShardResult, ShardStage, ShardTask
from fclip.schema import JsonObject, JsonValue, as_json, parse_record  # noqa: F401  JsonObject names JsonValue

MANIFEST = "manifest.json"
FATES = ("ok", "skipped", "failed")
T = TypeVar("T")


@dataclass(frozen=True)
class CommitRecord:
    """`<stem>.json`: what a shard was made from, what became of its clips, and hashes of all that was written."""

    stage: str
    version: int
    config_hash: str
    payload: str
    inputs: dict[str, FileRecord]
    output: FileRecord | None
    failures: FileRecord | None
    counts: dict[str, int]
    skipped: tuple[tuple[str, str], ...]
    tally: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class ShardRow:
    """A shard in the manifest: its clips, size and hash (None without any clip)."""

    stem: str
    samples: int
    bytes: int | None
    sha256: str | None


@dataclass(frozen=True)
class Manifest:
    """manifest.json: the shards of a finished stage and the other files that later stages read, with their hashes.

    `accepted`: no more clips failed than --max-failed allowed.
    """

    stage: str
    suffix: str
    config_hash: str
    shards: tuple[ShardRow, ...]
    totals: dict[str, int]
    accepted: bool
    files: dict[str, FileRecord]
    tally: JsonObject = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, FileRecord]:
        """{file name: size and hash} of all that it lists."""
        shards = {f"{s.stem}{self.suffix}": FileRecord(s.bytes or 0, s.sha256) for s in self.shards if s.sha256}
        return self.files | shards


def read_sealed(path: Path, cls: type[T]) -> T:
    """A record with a seal; FclipError if it is missing, damaged or not of this kind."""
    return parse_sealed(read_json(path), cls, str(path))


def parse_sealed(value: object, cls: type[T], where: str) -> T:
    """As read_sealed, of the JSON value of a file."""
    if not isinstance(value, dict) or value.pop("seal", None) != hash_of(value):
        raise FclipError(f"{where}: damaged, or not a record of fclip; run the stage that made it again")
    return parse_record(value, cls, where)


def write_sealed(path: Path, record: object) -> None:
    """Write a record with a seal, atomically."""
    write_json(path, _sealed(record))


def _sealed(record: object) -> dict[str, Any]:
    value = dict(cast(Mapping[str, Any], as_json(record)))
    return value | {"seal": hash_of(value)}


class Commits:
    """The commit records of one stage and configuration in its output folder."""

    def __init__(self, folder: Path, stage: ShardStage[Any], config_hash: str) -> None:
        self.folder, self.stage, self.config_hash = folder, stage, config_hash

    def is_finished(self, task: ShardTask) -> bool:
        """Whether the task's commit record fits its inputs and configuration, and what it lists is whole."""
        record = self._read(task)
        if record is None or record.payload != hash_of(task.payload):
            return False
        written = {_output(self.folder, task, self.stage): record.output, _failures(self.folder, task): record.failures}
        try:
            return record.inputs == {path.name: file_record(path) for path in task.inputs} and all(
                expected == (file_record(path) if path.is_file() else None) for path, expected in written.items()
            )
        except OSError:
            return False

    def write(self, task: ShardTask, result: ShardResult, inputs: Sequence[Hashed]) -> None:
        """Write the failure list and the commit record of a shard whose output, made from `inputs`, is in place."""
        failures = _failures(self.folder, task)
        if result.failed:
            with atomic_write(failures) as temp:
                rows = [{"key": key, "reason": one_line(reason)} for key, reason in result.failed]
                temp.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            failures.unlink(missing_ok=True)
        output = _output(self.folder, task, self.stage)
        if not result.ok:
            output.unlink(missing_ok=True)  # from an earlier configuration
        record = CommitRecord(
            stage=self.stage.name,
            version=self.stage.version,
            config_hash=self.config_hash,
            payload=hash_of(task.payload),
            inputs={hashed.path.name: hashed.record for hashed in inputs},
            output=file_record(output) if output.is_file() else None,
            failures=file_record(failures) if result.failed else None,
            counts={fate: len(getattr(result, fate)) for fate in FATES},
            skipped=tuple(result.skipped),
            tally=result.tally,
        )
        write_sealed(self.folder / f"{task.stem}.json", record)

    def sum_up(self, tasks: Sequence[ShardTask], files: Iterable[str]) -> Manifest:
        """The manifest of the tasks that have a commit record, accepted as it is; `files` lists the other outputs."""
        rows: list[ShardRow] = []
        listed = {name: file_record(self.folder / name) for name in files}
        totals, tally = dict.fromkeys(FATES, 0), dict[str, Any]()
        for task in tasks:
            if (record := self._read(task)) is None:
                continue
            _add_up(totals, record.counts)
            _add_up(tally, record.tally)
            size, sha256 = (record.output.bytes, record.output.sha256) if record.output else (None, None)
            rows.append(ShardRow(task.stem, record.counts["ok"], size, sha256))
            if record.failures:
                listed[f"{task.stem}.failed.jsonl"] = record.failures
        stage = self.stage
        return Manifest(stage.name, stage.suffix, self.config_hash, tuple(rows), totals, True, listed, tally)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest, or touch it when it says the same already."""
        path = self.folder / MANIFEST
        value = _sealed(manifest)
        try:
            same = read_json(path) == json.loads(json.dumps(value))
        except FclipError:
            same = False
        if same:
            os.utime(path)
        else:
            write_json(path, value)

    def found_hashes(self) -> set[str]:
        """The configuration hashes in the commit records of the folder."""
        found = set()
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(FclipError):
                found.add(read_sealed(path, CommitRecord).config_hash)
        return found

    def _read(self, task: ShardTask) -> CommitRecord | None:
        """The commit record of a shard; None where it is missing, damaged or of another configuration."""
        try:
            record = read_sealed(self.folder / f"{task.stem}.json", CommitRecord)
        except FclipError:
            return None
        return record if record.config_hash == self.config_hash else None


def first_failures(folder: Path, tasks: Iterable[ShardTask], most: int = 5) -> list[tuple[str, str]]:
    """(key, reason) of the first clips that failed."""
    found: list[tuple[str, str]] = []
    for task in tasks:
        found += read_failures(_failures(folder, task)).items()
        if len(found) >= most:
            break
    return found[:most]


@dataclass(frozen=True)
class FailedClip:
    """A line of `<stem>.failed.jsonl`."""

    key: str
    reason: str


def read_failures(path: Path) -> dict[str, str]:
    """{key: reason} of the clips that failed; none where there is no such list. FclipError for a damaged one."""
    if not path.is_file():
        return {}
    rows: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            row = parse_record(json.loads(line), FailedClip, f"{path}:{number}")
        except (ValueError, RecursionError) as error:
            raise FclipError(f"{path}:{number}: not valid JSON ({error}); run the stage again") from None
        rows[row.key] = row.reason
    return rows


def _output(folder: Path, task: ShardTask, stage: ShardStage[Any]) -> Path:
    return folder / f"{task.stem}{stage.suffix}"


def _failures(folder: Path, task: ShardTask) -> Path:
    return folder / f"{task.stem}.failed.jsonl"


def _add_up(sums: dict[str, Any], counts: Mapping[str, Any]) -> None:
    """Add the numbers of `counts` to those of `sums`, group by group."""
    for name, count in counts.items():
        if isinstance(count, Mapping):
            _add_up(sums.setdefault(name, {}), count)
        else:
            sums[name] = sums.get(name, 0) + count
