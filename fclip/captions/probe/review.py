"""The review queue: captions that a person should look at, as a CSV file that is edited and read back.

Columns: key, text (the caption as it came), reasons, suggested (what refine makes of it), check (a mark by which an
edit is recognised; leave it alone). To edit, change `suggested`; an empty one drops the caption. Edits are kept when
the file is written again, as long as the caption they belong to is the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fclip.captions.probe.leak import LeakReport
from fclip.errors import FclipError
from fclip.files import atomic_write
from fclip.records import CaptionRecord

COLUMNS = ("key", "text", "reasons", "suggested", "check")
MOST_BYTES = 200_000_000
MOST_CHARACTERS = 20_000  # of one field
MUCH_CUT = 0.7  # share of the words


@dataclass(frozen=True)
class ReviewRow:
    """One caption to look at."""

    key: str
    text: str
    reasons: str
    suggested: str


def suspicious(
    records: Mapping[str, CaptionRecord],
    refined: Mapping[str, CaptionRecord],
    labels: Mapping[str, str],
    report: LeakReport,
    order: list[str],
) -> list[ReviewRow]:
    """The captions to look at: those that alone give the label away, that lost most of their words, or all of them.

    records, refined: captions by key before and after; report: the probe over `refined` in the `order` of its keys.
    """
    revealing = {order[i]: report.confidence[i] for i in report.revealing([labels[key] for key in order])}
    rows = []
    for key, record in records.items():
        text = refined[key].text if key in refined else ""
        reasons = []
        if key in revealing:
            reasons.append(f"gives away {labels[key]} ({100 * revealing[key]:.0f} %)")
        if not text:
            reasons.append("nothing is left")
        elif len(text.split()) < (1 - MUCH_CUT) * len(record.text.split()):
            reasons.append("most of it was cut")
        if reasons:
            rows.append(ReviewRow(key, record.text, "; ".join(reasons), text))
    return rows


def write_review(path: Path, rows: Iterable[ReviewRow]) -> int:
    """Write the queue, keeping the edits of the file that is there; returns how many were kept.

    An edited row stays even when nothing is suspicious about its caption any more.
    """
    old = _read_rows(path) if path.exists() else {}
    edits = {key: row for key, (row, check) in old.items() if _mark(row.suggested) != check}
    kept = 0
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    merged = edits | {row.key: row for row in rows}
    for key in sorted(merged):
        row, check = merged[key], _mark(merged[key].suggested)
        if key in edits and edits[key].text == row.text:
            row, check = replace(row, suggested=edits[key].suggested), old[key][1]
            kept += 1
        writer.writerow((row.key, row.text, row.reasons, row.suggested, check))
    with atomic_write(path) as temporary:
        temporary.write_text(buffer.getvalue(), encoding="utf-8")
    return kept


def read_review(path: Path) -> dict[str, ReviewRow]:
    """The rows that a person edited, by key. Raises FclipError when the file is not a review queue."""
    return {key: row for key, (row, check) in _read_rows(path).items() if _mark(row.suggested) != check}


def apply_review(text: str, refined: str, edit: ReviewRow | None) -> tuple[str, str]:
    """The text to use for one caption and a remark: the person's where it was made for this very caption.

    text: the caption as it came; refined: what refine made of it. The remark is empty without an edit.
    """
    if edit is None:
        return refined, ""
    if edit.text != text:
        return refined, "review is out of date: the caption has changed since"
    return edit.suggested, "reviewed by a person"


def _read_rows(path: Path) -> dict[str, tuple[ReviewRow, str]]:
    """All rows with their marks, by key."""
    if not path.is_file():
        raise FclipError(f"{path}: no such review file; write one with: fclip refine --report")
    if path.stat().st_size > MOST_BYTES:
        raise FclipError(f"{path}: over {MOST_BYTES:,} bytes; this is no review queue")
    rows: dict[str, tuple[ReviewRow, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise FclipError(f"{path}: no column {missing[0]!r}; a review file has {', '.join(COLUMNS)}")
            for line in reader:
                values = [line[name] for name in COLUMNS]
                if any(value is None or len(value) > MOST_CHARACTERS for value in values):
                    raise FclipError(f"{path}: row {reader.line_num} has too few fields or too long ones")
                key, text, reasons, suggested, check = values
                rows[key] = (ReviewRow(key, text, reasons, " ".join(suggested.split())), check)
    except (csv.Error, UnicodeDecodeError) as error:
        raise FclipError(f"{path}: not a CSV file in UTF-8: {error}") from error
    return rows


def _mark(suggested: str) -> str:
    """Mark of a suggestion as it was written; a suggestion that does not fit its mark was edited."""
    return hashlib.sha256(" ".join(suggested.split()).encode()).hexdigest()[:8]
