"""Caption files: exact round trip, errors with file and line."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.data.storage.captions import MAX_LINE_BYTES, read_captions, write_captions
from fclip.errors import FclipError
from fclip.records import CaptionRecord
from tests.data.storage_files import make_caption

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
RECORDS = st.builds(
    CaptionRecord,
    key=st.from_regex(r"[A-Za-z0-9_-]{1,30}", fullmatch=True),
    text=TEXT,
    model=TEXT,
    revision=TEXT,
    prompt_sha256=TEXT,
    frames=st.lists(st.integers(0, 999), max_size=5),
    decoding=st.dictionaries(TEXT, st.integers() | TEXT | st.booleans() | st.none(), max_size=3),
    label_shown=st.booleans(),
    removed=st.lists(st.tuples(TEXT, TEXT), max_size=3),
)


@given(records=st.lists(RECORDS, max_size=5, unique_by=lambda record: record.key))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_caption_comes_back(records: list[CaptionRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part1-00000.jsonl"
        write_captions(path, records)
        assert list(read_captions(path).items()) == [(record.key, record) for record in records]
        assert path.read_bytes().count(b"\n") == len(records)
        content = path.read_bytes()
        write_captions(path, read_captions(path).values())
        assert path.read_bytes() == content


def write_lines(folder: Path, *lines: str | bytes) -> Path:
    """A caption file whose first line is good, followed by these."""
    good = json.dumps(asdict(make_caption("good"))).encode()
    path = folder / "c.jsonl"
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in (good, *lines)))
    return path


def changed(**fields: object) -> str:
    """A caption line with these fields replaced."""
    return json.dumps({**asdict(make_caption("clip")), **fields})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "missing or unknown fields: decoding, frames"),
        (changed(emotion="joy"), "missing or unknown fields: emotion"),
        (changed(text=None), "text is NoneType, not str"),
        (changed(label_shown=1), "label_shown is int, not bool"),
        (changed(frames=[1.5]), "whole numbers"),
        (changed(removed=[["only text"]]), "pairs of text and reason"),
        (changed(removed=["ab"]), "pairs of text and reason"),
        (changed(key="a.b"), "rename the clip"),
        (changed(key="good"), "good comes twice"),
        (changed(text="x" * MAX_LINE_BYTES), "longer than"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str | bytes, reason: str) -> None:
    with pytest.raises(FclipError, match=reason) as caught:
        read_captions(write_lines(tmp_path, line))
    assert "c.jsonl:2: " in str(caught.value) or "rename the clip" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FclipError, match=r"none\.jsonl: No such file"):
        read_captions(tmp_path / "none.jsonl")


def test_a_bad_key_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FclipError, match="rename the clip"):
        write_captions(tmp_path / "c.jsonl", [make_caption("a"), replace(make_caption("a"), key="a/b")])
    assert list(tmp_path.iterdir()) == []
