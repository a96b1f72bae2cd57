"""Splits, the shards of a fold, class lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from fclip.data.storage.splits import (
    Splits,
    check_classes,
    read_classes,
    read_splits,
)
from fclip.errors import FclipError
from tests.data.storage_files import write_classes, write_splits

PARTS = {"a": "part1", "b": "part2", "c": "part3", "d": "part1"}
FOLDS = {
    "1": {"train": ["part2", "part3"], "test": ["part1"]},
    "2": {"train": ["part3", "part1"], "test": ["part2"]},
}


def test_splits_come_back(tmp_path: Path) -> None:
    splits = Splits("toy", PARTS, FOLDS)
    write_splits(tmp_path, splits)
    content = (tmp_path / "splits.json").read_bytes()
    assert read_splits(tmp_path) == splits
    write_splits(tmp_path, read_splits(tmp_path))
    assert (tmp_path / "splits.json").read_bytes() == content
    assert splits.fold_parts("2", "train") == ["part1", "part3"]
    assert splits.fold_parts(1, "test") == ["part1"]


def test_an_unknown_fold_lists_those_there_are() -> None:
    with pytest.raises(FclipError, match="toy has no fold 3; it has 1, 2"):
        Splits("toy", PARTS, FOLDS).fold_parts(3, "test")


@pytest.mark.parametrize(
    ("parts", "folds", "reason"),
    [
        (PARTS, {"1": {"train": ["part1"], "test": ["part1", "part2"]}}, "fold 1: part part1 is in train and test"),
        (PARTS, {"1": {"train": ["part9"], "test": ["part1"]}}, "fold 1: part part9 holds no clip"),
        (PARTS, {"1": {"train": ["part1"]}}, "fold 1 has the sides"),
        ({"a": "../x"}, {}, "part name '../x' of clip a"),
        ({"a.b": "part1"}, {}, "rename the clip"),
    ],
)
def test_wrong_splits_are_refused(tmp_path: Path, parts: dict, folds: dict, reason: str) -> None:
    with pytest.raises(FclipError, match=reason):
        Splits("toy", parts, folds)


@pytest.mark.parametrize("content", ["[]", "{}", '{"dataset": "a", "parts": [], "folds": {}}', '{"dataset": 1', "3"])
def test_a_file_that_is_no_splits_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(FclipError, match=r"splits\.json: not") as caught:
        read_splits(tmp_path)
    assert "\n" not in str(caught.value)


def test_classes_keep_their_order(tmp_path: Path) -> None:
    write_classes(tmp_path, ["sadness", "anger"])
    assert read_classes(tmp_path) == ("sadness", "anger")
    check_classes(["sadness", "anger"], read_classes(tmp_path), "checkpoint")
    with pytest.raises(FclipError, match=r"run: classes are \[sadness, anger\] but \[anger, sadness\] are needed"):
        check_classes(["anger", "sadness"], read_classes(tmp_path), "run")


@pytest.mark.parametrize("content", ["{}", "[]", '["a", 1]', '["a", "a"]', "nonsense"])
def test_wrong_class_lists_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(FclipError, match=r"classes\.json"):
        read_classes(tmp_path)
