"""`fclip eval --predictions`: other methods under the same protocol; what evaluation keeps and refuses."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from sklearn import metrics as sk

from fclip.errors import FclipError, OutputDiffers
from fclip.stages import evaluate, train


def score(path, **options):
    return evaluate.run(evaluate.Config(predictions=path, **options)).values


def write_csv(path, rows, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def test_folds_and_seeds_of_a_file_as_scikit_learn_scores_them(tmp_path):
    """Fold 2 has no clip of class c: it is left out of that fold's UAR, as the references do."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in (0, 1):
        for fold, classes in (("1", "abc"), ("2", "ab")):
            for i in range(40 if fold == "1" else 10):
                guess = rng.choice(list(classes))
                rows.append([f"{fold}-{i}", classes[i % len(classes)], guess, fold, seed])
    write_csv(tmp_path / "other.csv", rows, ["key", "true", "predicted", "fold", "seed"])
    (row,) = score(tmp_path / "other.csv")["results"]
    expected = {metric: [] for metric in ("uar", "war")}
    for seed in (0, 1):
        parts = [[r for r in rows if r[3] == fold and r[4] == seed] for fold in ("1", "2")]
        expected["war"].append(np.mean([sk.accuracy_score([r[1] for r in p], [r[2] for r in p]) for p in parts]))
        expected["uar"].append(
            np.mean(
                [
                    sk.recall_score(
                        [r[1] for r in p],
                        [r[2] for r in p],
                        labels=sorted({r[1] for r in p}),
                        average="macro",
                        zero_division=0,
                    )
                    for p in parts
                ]
            )
        )
    for metric, values in expected.items():
        assert row[metric] == pytest.approx(np.mean(values))
        assert row[f"{metric}_deviation"] == pytest.approx(np.std(values))
    assert row["pooled_war"] == pytest.approx(sk.accuracy_score([r[1] for r in rows], [r[2] for r in rows]))
    assert (row["folds"], row["seeds"]) == (["1", "2"], [0, 1])
    assert "ece" not in row  # labels alone say nothing of calibration
    low, high = row["war_interval"]
    assert low < row["war"] < high


def test_the_golden_of_the_reference_evaluation(parity, tmp_path):
    spec = json.loads((parity / "public" / "metrics.json").read_text())
    arrays = np.load(parity / "public" / "metrics.npz")
    for name, case in spec["cases"].items():
        true, guesses = arrays[f"{name}.targets"], arrays[f"{name}.predictions"]
        write_csv(
            tmp_path / "p.csv",
            [[i, f"c{t}", f"c{p}"] for i, (t, p) in enumerate(zip(true, guesses, strict=True))],
            ["key", "true", "predicted"],
        )
        (row,) = score(tmp_path / "p.csv")["results"]
        assert 100 * row["war"] == pytest.approx(case["war"], abs=1e-9)
        if case["uar"] is not None:
            assert 100 * row["uar"] == pytest.approx(case["uar"], abs=1e-9)


@pytest.fixture(scope="module")
def evaluated(workspace, tmp_path_factory):
    """Runs of folds 1 and 2, evaluated."""
    root = tmp_path_factory.mktemp("runs")
    (root / "demo7").symlink_to(workspace / "demo7")
    small = {"variant": "dagger", "clip": "tiny", "clip_weights": "random", "batch_size": 8, "epochs": 1}
    train.run(train.Config(root=root, dataset="demo7", fold="1,2", **small))
    report = evaluate.run(evaluate.Config(root=root, dataset="demo7"))
    return root, report.values["results"][0]


def test_a_file_against_a_data_set_has_its_folds_and_figures(evaluated, tmp_path):
    root, ours = evaluated
    tables = [
        list(
            csv.DictReader(
                (root / "runs" / f"demo7-dagger-fold{fold}-seed0" / "eval" / "predictions.csv").read_text().splitlines()
            )
        )
        for fold in "12"
    ]
    rows = [[row["key"], row["true"], row["predicted"]] for table in tables for row in table]
    path = tmp_path / "theirs.csv"
    columns = ["key", "true", "predicted"]
    write_csv(path, rows, columns)
    (row,) = score(path, root=root, dataset="demo7")["results"]
    for name in ("uar", "war", "pooled_uar", "pooled_war", "confusion", "folds"):
        assert row[name] == ours[name], name
    assert row["war_interval"] == pytest.approx(ours["war_interval"])
    assert "ece" in ours and "ece" not in row
    for change, message in [
        (rows[1:], "1 of 7 test clips of fold 1, seed 0 are missing, the first is"),
        (
            [[rows[0][0], rows[3][1] if rows[3][1] != rows[0][1] else rows[4][1], rows[0][2]], *rows[1:]],
            "in .*packed, not",
        ),
        ([["unheard-of", *rows[0][1:]], *rows[1:]], "unheard-of is not tested in any fold"),
        ([[*rows[0][:2], "joy"], *rows[1:]], "predicted class 'joy' is not among the classes"),
    ]:
        write_csv(path, change, columns)
        with pytest.raises(FclipError, match=message):
            score(path, root=root, dataset="demo7")


def test_results_are_kept_made_again_or_refused(evaluated):
    root, _ = evaluated
    run = root / "runs" / "demo7-dagger-fold1-seed0"
    stamp = (run / "eval" / "results.json").stat().st_mtime_ns
    evaluate.run(evaluate.Config(root=root, runs=(str(run),)))
    assert (run / "eval" / "results.json").stat().st_mtime_ns == stamp
    with pytest.raises(OutputDiffers, match=r"without: \[\] -> \[\"caption\"\]"):
        evaluate.run(evaluate.Config(root=root, runs=(str(run),), without=("caption",)))
    text = (run / "eval" / "results.json").read_text()
    (run / "eval" / "results.json").write_text(json.dumps({**json.loads(text), "checkpoint_sha256": "0" * 64}))
    evaluate.run(evaluate.Config(root=root, runs=(str(run),)))
    assert json.loads((run / "eval" / "results.json").read_text()) == json.loads(text), "other weights: made again"


def test_runs_that_are_not_finished_are_left_out_unless_named(evaluated, caplog):
    root, _ = evaluated
    run = root / "runs" / "demo7-dagger-fold2-seed0"
    (run / "done.json").rename(run / "kept.json")
    assert evaluate.find_runs(evaluate.Config(root=root)) == [root / "runs" / "demo7-dagger-fold1-seed0"]
    assert "fold2-seed0: training is not finished" in caplog.text
    assert evaluate.find_runs(evaluate.Config(root=root, runs=(str(run),))) == [run]
    (run / "kept.json").rename(run / "done.json")
