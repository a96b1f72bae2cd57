"""Captioners side by side: the parts that a caption names, over the clips that all describe."""

from __future__ import annotations

import pytest

from fclip.data.storage.captions import write_captions
from fclip.errors import FclipError
from fclip.records import CaptionRecord
from fclip.report.captioners import compare_captioners, named_parts
from fclip.report.page.blocks import Table, cell_text
from fclip.stages import report


def folder_of(path, model: str, texts: dict[str, str], label_shown: bool = False):
    records = [CaptionRecord(key, text, model, "1", "", [0], {}, label_shown) for key, text in texts.items()]
    path.mkdir()
    write_captions(path / "part1-00000.jsonl", records)
    return path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Her eyebrows rise, Eyelids widen; the lips part and the LIPS close.", ["brows", "eyelids", "lips"]),
        ("A woman is happy about a browser, eclipsed by slips and chinos.", []),
        ("He lowers his gaze; teeth show, the tooth too.", ["gaze", "teeth"]),
    ],
)
def test_parts_are_counted_once_and_as_whole_words(text, parts):
    assert named_parts(text) == parts


def test_captioners_are_compared_on_the_clips_that_all_describe(tmp_path):
    one = folder_of(tmp_path / "one", "a", {"x": "The brows rise and the jaw drops.", "y": "Sad.", "z": "The chin."})
    two = folder_of(tmp_path / "two", "b", {"y": "The mouth opens.", "x": "Nothing."}, label_shown=True)
    counts, texts = (block for block in compare_captioners([one, two], 1) if isinstance(block, Table))
    by_name = {str(row[0]): dict(zip(counts.head, map(cell_text, row), strict=True)) for row in counts.rows}
    assert (by_name["one"]["parts named"], by_name["one"]["brows"], by_name["one"]["chin"]) == ("1.00", "50.00", "0.00")
    assert (by_name["two"]["mouth"], by_name["two"]["captioner"]) == ("50.00", "b, SAW THE LABEL")
    assert [row[:3] for row in texts.rows] == [["x", "one", 2], ["x", "two", 0]]
    out = tmp_path / "figure9.md"
    report.run(report.Config(root=tmp_path, captions=(str(one), str(two)), out=out))
    assert "The mouth opens." in out.read_text(encoding="utf-8")
    with pytest.raises(FclipError, match="no clip has a caption in all of them"):
        compare_captioners([one, folder_of(tmp_path / "three", "c", {"w": "The nose."})], 1)
