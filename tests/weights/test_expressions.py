"""The bundled expression runs: which pictures they are made of, and that the recipe makes a run that answers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from examples.weights import expressions
from examples.weights.expressions import CLASSES, chosen_rows, make_card, make_expressions
from examples.weights.pool import TRAINING, class_names, make_pool
from fclip.cli.app import app
from fclip.stages import predict


def write_labels(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_people_stay_on_one_side_and_frequent_classes_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [*CLASSES, "fear", "neutral", "neutral"]
    rows = [{"path": f"{i}.png", "label": labels[i % 9], "identity": f"p{i // 4}"} for i in range(360)]
    write_labels(tmp_path, rows)
    monkeypatch.setattr(expressions, "MOST", 30)
    chosen = chosen_rows(tmp_path)
    assert chosen == chosen_rows(tmp_path)
    people = {part: {row["identity"] for row in chosen if row["part"] == part} for part in ("train", "test")}
    assert people["train"] and people["test"] and not people["train"] & people["test"]
    trained = [row["label"] for row in chosen if row["part"] == "train"]
    assert "fear" not in trained
    assert trained.count("neutral") == 30 > trained.count("anger") - 10


def test_the_card_names_a_class_of_one_person(tmp_path: Path) -> None:
    rows = [{"part": "train", "label": name, "identity": "a"} for name in CLASSES]
    rows += [
        {"part": "test", "label": name, "identity": "b" if name == "anger" else f"c{i}"}
        for name in CLASSES
        for i in "12"
    ]
    figures = {"uar": 0.5, "uar_interval": [0.4, 0.6], "clips": 12, "recall": dict.fromkeys(CLASSES, 0.5)}
    card = make_card(tmp_path, rows, figures, 6)
    assert card["uar_interval"] == [40, 60]
    assert card["test"] == "12 pictures of 3 other people"
    assert [limit for limit in card["limits"] if "one person" in limit] == [
        "anger: 2 of 2 test pictures show one person"
    ]


def in_this_process(*arguments: str) -> None:
    """The same command without the seconds in which a process loads torch."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_the_recipe_makes_a_run_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    folder = tmp_path / "folder"
    folder.mkdir()
    frames = make_pool(tmp_path / "pool", 18, 1, TRAINING, class_names()).frames
    rows = []
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i}.png")
        part = "test" if i >= 12 else "train"
        rows.append({"path": f"{i}.png", "label": CLASSES[i % 6], "identity": f"p{i}", "part": part})
    write_labels(folder, rows)
    monkeypatch.setattr(expressions, "BACKENDS", ("lite",))
    monkeypatch.setattr(expressions, "fclip", in_this_process)
    card = make_expressions(tmp_path, folder, tmp_path / "work")["lite"]
    assert sum(card["test_pictures"].values()) == 6
    run = tmp_path / "expressions" / "lite.safetensors"
    report = predict.run(predict.Config(videos=(str(folder / "0.png"),), checkpoint=run))
    assert report.exit_code == 0, report.values
    assert f"held-out UAR {card['uar']:.0f} %" in report.values["basis"]
