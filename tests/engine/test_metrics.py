"""Metrics against scikit-learn and the reference evaluation's goldens."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from fclip.engine.evaluate import metrics
from fclip.engine.evaluate.predictions import PredictionTable, read_predictions
from fclip.engine.evaluate.results import Figures, figures_of
from fclip.errors import FclipError
from fclip.schema import as_json, parse_record
from tests.goldens import Golden, difference


def test_goldens(parity):
    """Every case of the reference evaluation: its matrix covers the classes that occur."""
    golden = Golden(parity, "metrics")
    for name, case in golden.cases.items():
        targets, predictions = (golden.outputs[f"{name}.{which}"] for which in ("targets", "predictions"))
        confusion = metrics.confusion_matrix(targets, predictions, case["num_classes"])
        occur = np.union1d(targets, predictions)
        mine = {"confusion": confusion[np.ix_(occur, occur)], "war": 100 * metrics.war(confusion)}
        assert confusion.sum() == len(targets) == case["samples"] and len(occur) == case["confusion_size"]
        if case["uar"] is not None:
            mine["uar"] = 100 * metrics.uar(confusion)
        else:  # a class without targets is predicted: the reference gives nan, ours the mean over the other classes
            assert np.isnan(golden.outputs[f"{name}.uar"])
            present = np.unique(targets)
            assert metrics.uar(confusion) == pytest.approx(np.mean(metrics.recall_per_class(confusion)[present]))
        for what, value in mine.items():
            told = difference(f"{name}.{what}", value, golden.outputs[f"{name}.{what}"], golden.spec["tolerance"])
            assert not told, told
            assert what == "confusion" or value == pytest.approx(case[what], abs=1e-9)
    golden.assert_all_read()


@given(st.integers(2, 11), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_equal_to_scikit_learn(classes, clips, seed):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, classes, clips), rng.integers(0, classes, clips)
    confusion = metrics.confusion_matrix(true, predicted, classes)
    assert (confusion == sk.confusion_matrix(true, predicted, labels=range(classes))).all()
    present = np.unique(true)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recalls = sk.recall_score(true, predicted, labels=present, average="macro")
        f1 = sk.f1_score(true, predicted, labels=present, average="macro", zero_division=0)
        precision = sk.precision_score(true, predicted, labels=np.unique(predicted), average=None)
    assert metrics.precision_per_class(confusion)[np.unique(predicted)] == pytest.approx(precision)
    assert metrics.uar(confusion) == pytest.approx(recalls)
    assert metrics.war(confusion) == pytest.approx(sk.accuracy_score(true, predicted))
    assert metrics.macro_f1(confusion) == pytest.approx(f1)


def test_calibration_error_of_a_known_table():
    probabilities = np.array([[0.9, 0.1]] * 10)
    true = np.array([0] * 7 + [1] * 3)
    assert metrics.expected_calibration_error(probabilities, true) == pytest.approx(0.2)


def test_figures_name_absent_classes_and_are_json():
    table = PredictionTable(("a", "b", "c"))
    for i, (true, guess) in enumerate(("aa", "ab", "cc")):
        table.add(str(i), true, np.eye(3)["abc".index(guess)], ("frames",))
    found = figures_of(table)
    assert found.absent == ("b",)
    assert found.recall == {"a": 0.5, "b": None, "c": 1.0}
    assert found.uar == 0.75
    assert parse_record(json.loads(json.dumps(as_json(found), allow_nan=False)), Figures, "f") == found


def test_prediction_table_round_trip(tmp_path):
    table = PredictionTable(("joy", "fear"))
    table.add("b", "joy", np.array([0.75, 0.25]), ("frames", "caption"))
    table.add("a", "fear", np.array([0.5, 0.5]), ("frames",))
    table.write(tmp_path / "p.csv")
    back = read_predictions(tmp_path / "p.csv")
    assert back.keys == ["a", "b"]
    assert back.classes == table.classes
    assert back.modalities == ["frames", "frames+caption"]
    assert back.matrix().tolist() == [[0.5, 0.5], [0.75, 0.25]]
    near = np.array([0.5, 0.5 + 6e-8], dtype=np.float32)  # neighbours in float32: the stored table tells them apart
    table.add("c", "joy", near, ("frames",))
    table.write(tmp_path / "p.csv")
    assert read_predictions(tmp_path / "p.csv").matrix().astype(np.float32)[2].tolist() == near.tolist()
    with pytest.raises(FclipError, match="not among the classes"):
        table.add("d", "anger", np.array([1.0, 0.0]), ())


def test_other_methods_predictions(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("key,true,predicted\n1,joy,joy\n2,fear,joy\n")
    table = read_predictions(path)
    assert metrics.war(metrics.confusion_matrix(table.true_indices(), table.matrix().argmax(1), 2)) == 0.5
    path.write_text("key,true,predicted\n1,joy,joy\n1,fear,joy\n")
    with pytest.raises(FclipError, match=r"other.csv:3: clip 1 occurs twice"):
        read_predictions(path)
    path.write_text("clip,label\n1,2\n")
    with pytest.raises(FclipError, match="needs the columns"):
        read_predictions(path)
