"""JSON nested deeper than Python can follow: one line, as of any other damaged file, wherever a file is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fclip.catalogue import _is_model
from fclip.data.layouts.rendered import _read_description
from fclip.data.storage.captions import read_captions
from fclip.data.storage.inspect import describe
from fclip.errors import FclipError
from fclip.files import read_json
from fclip.models.baselines.descriptions import read_descriptions
from fclip.runner.commit import read_failures
from fclip.runner.lock import _owner

READERS: dict[str, Callable[[Path], object]] = {
    "dataset.json": _read_description,
    "texts.json": read_descriptions,
    "train-00000.jsonl": read_captions,
    "train-00000.failed.jsonl": describe,
    "test-00000.failed.jsonl": read_failures,
    "any.json": read_json,
}


@pytest.mark.parametrize("name", READERS)
def test_it_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(FclipError) as told:
        READERS[name](path)
    assert name in str(told.value) and "\n" not in str(told.value)


def test_where_such_a_file_means_nothing_it_is_passed_over(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors.index.json", ".lock"):
        (tmp_path / name).write_text("[" * 200_000)
    assert not _is_model(tmp_path)
    assert _owner(tmp_path / ".lock") == {}
