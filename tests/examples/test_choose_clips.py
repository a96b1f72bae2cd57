"""examples/choose_clips.py: which rows stay, and that the new list still finds its files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from examples.choose_clips import main


def test_chosen_rows(tmp_path: Path) -> None:
    rows = [(f"in/{index}.jpg", "ab"[index % 2], "test" if index < 4 else "train") for index in range(20)]
    rows += [("in/x.jpg", "c", "train")]
    source, out = tmp_path / "labels.csv", tmp_path / "deep" / "er" / "chosen.csv"
    source.write_text("path,label,part\n" + "".join(",".join(row) + "\n" for row in rows))
    main([str(source), str(out), "--classes", "a,b", "--most", "3"])
    chosen = list(csv.DictReader(out.read_text().splitlines()))
    assert all((out.parent / row["path"]).resolve().parent == tmp_path / "in" for row in chosen)
    counts = {
        (part, label): sum(row["part"] == part and row["label"] == label for row in chosen)
        for part in ("train", "test")
        for label in "abc"
    }
    assert counts == {
        ("train", "a"): 3,
        ("train", "b"): 3,
        ("test", "a"): 2,
        ("test", "b"): 2,
        ("train", "c"): 0,
        ("test", "c"): 0,
    }
    first = out.read_bytes()
    source.write_text("path,label,part\n" + "".join(",".join(row) + "\n" for row in rows[::-1]))
    main([str(source), str(out), "--classes", "a,b", "--most", "3"])
    assert out.read_bytes() == first, "the order of the list does not matter"
    with pytest.raises(SystemExit):
        main([str(source), str(out), "--classes", "d"])
