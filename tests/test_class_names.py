"""Names that cannot name classes: one clear refusal each, wherever classes are given."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from fclip.data.layouts.labels import merge_spellings, read_labels
from fclip.data.storage.splits import read_classes
from fclip.engine.evaluate.predictions import read_predictions
from fclip.errors import FclipError, UsageError
from fclip.models import create_model
from fclip.registry import VARIANTS
from fclip.stages import predict

COMPOSED, APART = (unicodedata.normalize(form, "gêné") for form in ("NFC", "NFD"))
BAD: list[tuple[list[Any], str]] = [
    (["joy", ""], "is no class name, as it is empty"),
    (["joy", " \t"], "is no class name, as it is empty"),
    (["joy", "a\nb"], "unprintable"),
    (["joy", "Joy"], "differ in case or Unicode form alone"),
    ([COMPOSED, APART], r"'g\\xean\\xe9' and 'ge\\u0302ne\\u0301' differ in case or Unicode form alone"),
    (["joy", "joy"], "class 'joy' comes twice"),
    (["joy", 3], "3 is no class name, as it is no text"),
    (["joy", None], "None is no class name, as it is no text"),
]
TEXTS = {
    "coop",
    "cocoop",
    "zeroshot-clip",
    "emoclip",
    "dfer-clip",
    "base",
}  # that read class names through a text tower


@pytest.mark.parametrize(("names", "reason"), BAD)
def test_every_variant_refuses_them(names: list[Any], reason: str) -> None:
    for row in VARIANTS.table():
        with pytest.raises(UsageError, match=reason) as caught:
            create_model(row["name"], "tiny", names, 2, "random")
        assert "\n" not in str(caught.value)


def test_one_text_is_no_list() -> None:
    with pytest.raises(UsageError, match="class names are a list of texts, not 'joy,fear'"):
        create_model("base", "tiny", "joy,fear", 2, "random")


@pytest.mark.parametrize("variant", sorted(TEXTS))
def test_a_name_longer_than_the_context(variant: str) -> None:
    long = "very " * 90 + "glad"
    options = {"text_mode": "class-name"} if variant in ("dfer-clip", "emoclip") else {}
    with pytest.raises(UsageError, match=r"prompt .*very very.* has \d+ tokens, 77 fit the text tower; shorten"):
        create_model(variant, "tiny", ["joy", long], 2, "random", **options)


@pytest.mark.parametrize(("names", "reason"), BAD)
def test_files_and_commands_refuse_them(names: list[Any], reason: str, tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(names))
    with pytest.raises(FclipError, match=rf"classes.json: .*{reason}"):
        read_classes(tmp_path)
    if not all(isinstance(name, str) for name in names):
        return
    with pytest.raises(FclipError, match=rf"--classes: .*{reason}"):
        read_labels(["joy"], names, str)
    with pytest.raises(UsageError, match=rf"--classes: .*{reason}"):
        predict.run(predict.Config(videos=(str(tmp_path),), classes=tuple(names)))
    if not {"comes twice"} & {reason[-11:]} and "\n" not in "".join(names):
        table = tmp_path / "p.csv"
        table.write_text("key,true," + ",".join(f"p:{name}" for name in names) + "\n1,joy,0.5,0.5\n", encoding="utf-8")
        with pytest.raises(FclipError, match=rf"p.csv: probability columns: .*{reason}"):
            read_predictions(table)


def test_labels_that_differ_in_their_form_alone_are_one_class() -> None:
    """As folder names of another system are: merged, like those that differ in case."""
    meaning = merge_spellings([COMPOSED, APART, "joy"])
    assert len(set(meaning.values())) == 2 and meaning[COMPOSED] == meaning[APART]
    assert read_labels([COMPOSED, "joy"], [APART, "joy"], str).of_clips == [APART, "joy"]
