"""Each golden file is read by a test, and a test leaves none of its arrays unread."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.goldens import Golden, difference

TESTS = Path(__file__).parent


def test_every_file_has_a_reader(parity: Path) -> None:
    """By its name in a test that goes through all of it."""
    sources = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")]
    for path in sorted((parity / "public").glob("*.json")):
        reading = [source for source in sources if re.search(rf"[\"/]{re.escape(path.stem)}[\".]", source)]
        if path.with_suffix(".npz").is_file():
            reading = [source for source in reading if "assert_all_read()" in source]
        assert reading, f"no test reads all of {path.name}"


def test_an_array_that_nobody_reads_is_told(parity: Path) -> None:
    golden = Golden(parity, "metrics")
    first, *others = golden.outputs.files
    assert golden.outputs[first] is not None
    with pytest.raises(AssertionError, match=f"nothing has read .*{re.escape(others[0])}"):
        golden.assert_all_read()


def test_differences_are_told_with_their_size(capsys: pytest.CaptureFixture[str]) -> None:
    gold, mine = np.zeros((2, 3)), np.array([[0, 0, 0], [0, 0.5, np.nan]])
    assert difference("x", gold + 1e-5, gold, {"atol": 1e-4}) == ""
    assert "x: largest difference 1e-05, allowed 0.0001" in capsys.readouterr().out
    assert "at (1, 1), allowed 0.1 (1 of 6 apart)" in difference("x", np.nan_to_num(mine), gold, {"atol": 0.1})
    assert "(2 of 6 apart)" in difference("x", mine, gold, {"atol": 0.1})
    assert "shape (2, 3), not (3,)" in difference("x", mine, gold[0, :], {"atol": 0.1})
    assert "0.66667 of it is equal" in difference("x", mine, gold, {"min_equal_fraction": 0.9})
