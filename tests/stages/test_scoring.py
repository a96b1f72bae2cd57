"""`fclip eval --predictions`: other methods under the same protocol; what evaluation keeps and refuses."""

from __future__ import annotations

import csv
import json
import shutil

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
    assert row["ece"] is None and row["reliability"] is None  # labels alone say nothing of calibration
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
    assert ours["ece"] is not None and row["ece"] is None
    for change, message in [
        (rows[1:], "1 of 7 test clips of fold 1, seed 0 are missing, the first is"),
        (
            [[rows[0][0], rows[3][1] if rows[3][1] != rows[0][1] else rows[4][1], rows[0][2]], *rows[1:]],
            "in .*packed, not",
        ),
        ([["unheard-of", *rows[0][1:]], *rows[1:]], "unheard-of is not tested in any fold"),
        ([[*rows[0][:2], "delight"], *rows[1:]], r"theirs.csv:2: .*predicted: unknown class 'delight'"),
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


@pytest.mark.parametrize("lost", ["results.json", "confusion.png", "evaluation.json", "explanations.npz"])
def test_an_evaluation_that_is_not_whole_is_made_again(evaluated, lost):
    """Killed between two of its files, or one was lost later: the rerun makes what is missing, and the same bytes."""
    root, _ = evaluated
    out = root / "runs" / "demo7-dagger-fold1-seed0" / "eval"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(before) == {"predictions.csv", "results.json", "confusion.png", "evaluation.json"}
    (out / lost).unlink(missing_ok=True)
    evaluate.run(evaluate.Config(root=root, runs=(str(out.parent),)))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("name", ["predictions.csv", "results.json", "confusion.png", "evaluation.json"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"[" * 5000, lambda data: b""])
def test_a_damaged_output_is_made_again(evaluated, name, damage):
    root, _ = evaluated
    out = root / "runs" / "demo7-dagger-fold1-seed0" / "eval"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / name).write_bytes(damage(before[name]))
    evaluate.run(evaluate.Config(root=root, runs=(str(out.parent),)))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_other_inputs_are_evaluated_anew(evaluated, tmp_path):
    """A shard or the splits are not those of the record: what was kept is not theirs. The folder is somebody else's,
    without a manifest; one with a manifest that they do not fit is refused."""
    root, _ = evaluated
    shutil.copytree(root / "runs" / "demo7-dagger-fold1-seed0", tmp_path / "run")
    shutil.copytree(root / "demo7" / "packed", tmp_path / "packed", symlinks=False)
    again = evaluate.Config(root=root, runs=(str(tmp_path / "run"),), input=str(tmp_path / "packed"))
    shard = next((tmp_path / "packed").glob("part1-*.tar"))
    whole = shard.read_bytes()
    shard.write_bytes(whole + b"\0" * 512)
    with pytest.raises(FclipError, match="were written"):
        evaluate.run(again)
    shard.write_bytes(whole)
    for record in ("manifest.json", "config.json"):
        (tmp_path / "packed" / record).unlink()
    evaluate.run(again)  # its name has changed
    table = tmp_path / "run" / "eval" / "predictions.csv"
    stamp = table.stat().st_mtime_ns
    evaluate.run(again)
    assert table.stat().st_mtime_ns == stamp
    for path in (shard, tmp_path / "packed" / "splits.json"):
        path.write_bytes(path.read_bytes() + (b"\0" * 512 if path.suffix == ".tar" else b"\n"))
        evaluate.run(again)
        assert table.stat().st_mtime_ns > stamp, path.name
        stamp = table.stat().st_mtime_ns


def test_a_run_finds_its_data_from_anywhere(evaluated, tmp_path, monkeypatch, caplog):
    """By the workspace that it lies in and its record of the data, not by where the command is given."""
    root, _ = evaluated
    run = root / "runs" / "demo7-dagger-fold1-seed0"
    monkeypatch.chdir(tmp_path)
    report = evaluate.run(evaluate.Config(runs=(str(run),)))
    assert report.counts["runs"] == 1 and not list(tmp_path.iterdir())
    shutil.copytree(root / "demo7" / "packed", tmp_path / "fclip-data" / "demo7" / "packed")  # other data of that name
    (tmp_path / "fclip-data" / "demo7" / "packed" / "manifest.json").unlink()
    assert evaluate.packed_of(evaluate.Config(), run) == root.resolve() / "demo7" / "packed"


def test_runs_that_are_not_finished_are_left_out_unless_named(evaluated, caplog):
    root, _ = evaluated
    run = root / "runs" / "demo7-dagger-fold2-seed0"
    (run / "done.json").rename(run / "kept.json")
    assert evaluate.find_runs(evaluate.Config(root=root)) == [root / "runs" / "demo7-dagger-fold1-seed0"]
    assert "fold2-seed0: training is not finished" in caplog.text
    assert evaluate.find_runs(evaluate.Config(root=root, runs=(str(run),))) == [run]
    (run / "kept.json").rename(run / "done.json")


def test_labels_are_matched_whatever_their_case_and_usual_spelling(tmp_path):
    rows = [["1", "Happy", "happy"], ["2", "happiness", "joy"], ["3", "sad", "Sadness"], ["4", "sad", "happy"]]
    write_csv(tmp_path / "p.csv", rows, ["key", "true", "predicted"])
    (row,) = score(tmp_path / "p.csv")["results"]
    assert (row["classes"], row["war"]) == (["happiness", "sadness"], 0.75)
    columns = ["key", "true", "predicted", "p:Happiness", "p:Sadness"]
    write_csv(tmp_path / "p.csv", [["1", "happy", "joy", "0.9", "0.1"], ["2", "SAD", "sad", "0.2", "0.8"]], columns)
    (row,) = score(tmp_path / "p.csv")["results"]
    assert (row["classes"], row["war"]) == (["Happiness", "Sadness"], 1.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2,a,a,-5,6", "p.csv:3: clip 2: -5, 6 are no probabilities"),
        ("2,a,a,99,1", "p.csv:3: clip 2: 99, 1 are no prob"),
        ("2,a,a,nan,1", "p.csv:3: .*no probabilities"),
        ("2,a,a,0.5,0.6", "p.csv:3: clip 2: .* add up to 1.1, not to 1"),
        ("2,a,b,0.9,0.1", "p.csv:3: clip 2: predicted is b, but its most probable class is a"),
        ("2,a,c,0.9,0.1", "p.csv:3: clip 2: predicted: unknown class 'c'"),
        ("2,a,a,x,1", "p.csv:3: clip 2: a probability is not a number"),
        ("2,a,a,1", "p.csv:3: 4 values for 5 columns"),
        ("1,a,a,1,0", "p.csv:3: clip 1 occurs twice"),
        ('2,"a,a,1,0', "p.csv:.*: not comma-separated"),
        ("2,a\0,a,1,0", "p.csv:3:"),
    ],
)
def test_predictions_that_contradict_themselves_are_refused_with_their_line(tmp_path, line, message):
    path = tmp_path / "p.csv"
    path.write_text(f"key,true,predicted,p:a,p:b\n1,a,a,0.51,0.48\n{line}\n")
    with pytest.raises(FclipError, match=message):
        score(path)
