"""The leak probe finds what gives labels away and nothing where there is nothing; the review queue keeps edits."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from fclip.captions.probe.leak import leak_probe, wilson_interval
from fclip.captions.probe.review import apply_review, read_review, suspicious, write_review
from fclip.captions.refine.refiner import Refiner
from fclip.errors import FclipError
from fclip.records import CaptionRecord

WORDS = [
    "brow",
    "lip",
    "eye",
    "jaw",
    "gaze",
    "rises",
    "sinks",
    "widens",
    "parts",
    "slowly",
    "then",
    "again",
    "left",
    "right",
    "corner",
]
LABELS = ["anger", "fear", "happiness"]


def make_texts(count: int, leaky: float, seed: int = 0) -> tuple[list[str], list[str], list[str]]:
    """Texts of random words, of which the share `leaky` names its label; labels; five parts."""
    rng = random.Random(seed)
    texts, labels, parts = [], [], []
    for index in range(count):
        label = LABELS[index % 3]
        words = [rng.choice(WORDS) for _ in range(12)]
        if rng.random() < leaky:
            words.insert(6, f"showing {label}")
        texts.append(" ".join(words))
        labels.append(label)
        parts.append(f"part{index % 5 + 1}")
    return texts, labels, parts


def test_random_words_give_nothing_away() -> None:
    report = leak_probe(*make_texts(600, leaky=0.0))
    assert report.majority == pytest.approx(1 / 3)
    assert report.interval[0] < 1 / 3 < report.interval[1]
    assert report.accuracy == pytest.approx(1 / 3, abs=0.06)
    assert len(report.revealing(make_texts(600, 0.0)[1])) < 6


def test_named_labels_are_found_and_refining_hides_them() -> None:
    texts, labels, parts = make_texts(600, leaky=0.8)
    report = leak_probe(texts, labels, parts)
    assert report.accuracy == pytest.approx(0.8 + 0.2 / 3, abs=0.05)
    assert all(report.words[label][0][0] == label for label in LABELS)
    flagged = report.revealing(labels)
    assert set(flagged) <= {i for i, text in enumerate(texts) if labels[i] in text}
    assert len(flagged) > 300
    refiner = Refiner(LABELS)
    refined = [refiner.refine(f"His {text}.").text for text in texts]
    assert leak_probe(refined, labels, parts).interval[0] < 1 / 3 + 0.05


def test_no_text_is_tested_by_a_model_that_saw_its_part() -> None:
    """Words that name a text's part tell its label within that part only, so they must not help."""
    texts, labels, parts = [], [], []
    for part in range(5):
        for index in range(60):
            label = LABELS[(index + part) % 3]
            texts.append(f"word{'abcde'[part]}{'xyz'[index % 3]} moves")
            labels.append(label)
            parts.append(str(part))
    assert leak_probe(texts, labels, parts).accuracy < 0.5
    assert leak_probe(texts, labels, ["one"] * len(texts)).accuracy > 0.95


def test_result_is_the_same_each_time_and_summary_reads_well() -> None:
    texts, labels, parts = make_texts(90, leaky=0.5)
    one, two = leak_probe(texts, labels, parts), leak_probe(texts, labels, parts)
    assert np.array_equal(one.confidence, two.confidence)
    assert one.as_dict() == two.as_dict()
    assert one.summary().startswith(f"accuracy {100 * one.accuracy:.1f} % (95 % interval")
    assert "anger" in one.summary()


def test_odd_input() -> None:
    assert leak_probe([""] * 6, ["a", "a", "a", "b", "b", "c"], list("112233")).accuracy == pytest.approx(1 / 6)
    two = leak_probe(["up up", "down down"] * 10, ["a", "b"] * 10, ["1", "1", "2", "2"] * 5)
    assert two.accuracy == 1.0
    assert two.words == {"a": [("up", pytest.approx(two.words["a"][0][1]))], "b": [("down", two.words["b"][0][1])]}
    only_there = leak_probe(["x"] * 3 + ["y"] * 3, ["a"] * 3 + ["b"] * 3, ["1"] * 3 + ["2"] * 3)
    assert only_there.accuracy == 0.0  # a label that is missing from the training parts cannot be guessed
    with pytest.raises(FclipError, match="at least 4 captions of 2 labels, has 5 of 1"):
        leak_probe(["a"] * 5, ["x"] * 5, ["1"] * 5)
    with pytest.raises(FclipError, match="do not match"):
        leak_probe(["a"] * 5, ["x"] * 4, ["1"] * 5)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)]
)
def test_wilson_interval(right: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(right, count) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def record(key: str, text: str) -> CaptionRecord:
    return CaptionRecord(key, text, "m", "1", "", [0], {}, False)


def queue(tmp_path: Path) -> tuple[Path, dict[str, CaptionRecord], dict[str, CaptionRecord], list]:
    texts, labels, parts = make_texts(60, leaky=0.9)
    keys = [f"clip{i:02d}" for i in range(60)]
    raw = {key: record(key, text) for key, text in zip(keys, texts, strict=True)}
    refined = {key: record(key, text) for key, text in zip(keys, texts, strict=True) if key != "clip07"}
    order = sorted(refined)
    known = dict(zip(keys, labels, strict=True))
    report = leak_probe(
        [refined[k].text for k in order], [known[k] for k in order], [parts[keys.index(k)] for k in order]
    )
    return tmp_path / "review.csv", raw, refined, suspicious(raw, refined, known, report, order)


def edit(path: Path, key: str, suggested: str) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["key"] == key:
            row["suggested"] = suggested
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # as a spreadsheet program saves it
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_review_queue_round_trip(tmp_path: Path) -> None:
    path, raw, refined, rows = queue(tmp_path)
    reasons = {row.key: row.reasons for row in rows}
    assert reasons["clip07"] == "nothing is left"
    assert any("gives away anger" in reason for reason in reasons.values())
    assert write_review(path, rows) == 0
    assert path.read_text().startswith("key,text,reasons,suggested,check\n")
    assert read_review(path) == {}
    first = next(row.key for row in rows if row.suggested)
    edit(path, first, 'The "left" brow rises, slowly.')
    edits = read_review(path)
    assert {key: row.suggested for key, row in edits.items()} == {first: 'The "left" brow rises, slowly.'}
    used, remark = apply_review(raw[first].text, refined[first].text, edits.get(first))
    assert (used, remark) == ('The "left" brow rises, slowly.', "reviewed by a person")
    other = next(row.key for row in rows if row.key != first)
    assert apply_review(raw[other].text, "as refined", edits.get(other)) == ("as refined", "")


def test_edits_are_kept_when_the_queue_is_written_again(tmp_path: Path) -> None:
    path, raw, _, rows = queue(tmp_path)
    write_review(path, rows)
    first, second = rows[0].key, rows[1].key
    edit(path, first, "Mine.")
    edit(path, second, "")
    assert write_review(path, rows) == 2
    assert write_review(path, rows) == 2
    assert {key: row.suggested for key, row in read_review(path).items()} == {first: "Mine.", second: ""}
    assert write_review(path, []) == 2  # nothing is suspicious any more: the edits stay
    assert set(read_review(path)) == {first, second}
    assert apply_review(raw[second].text, "left over", read_review(path)[second])[0] == ""


def test_edit_of_a_caption_that_has_changed_is_not_used(tmp_path: Path) -> None:
    path, _, _, rows = queue(tmp_path)
    write_review(path, rows)
    key = rows[0].key
    edit(path, key, "Mine.")
    used, remark = apply_review("another caption now", "refined", read_review(path)[key])
    assert used == "refined"
    assert "out of date" in remark
    changed = [type(rows[0])(key, "another caption now", "r", "s")]
    assert write_review(path, changed) == 0
    assert read_review(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"key,text\na,b\n", "no column 'reasons'"),
        (b"\xff\xfe\x00", "not a CSV file in UTF-8"),
        (b"key,text,reasons,suggested,check\na,b\n", "row 2 has too few fields"),
        (b"", "no column 'key'"),
    ],
)
def test_damaged_review_file(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_bytes(content)
    with pytest.raises(FclipError, match=message):
        read_review(path)


def test_missing_review_file(tmp_path: Path) -> None:
    with pytest.raises(FclipError, match="no such review file"):
        read_review(tmp_path / "review.csv")
