"""Rows and tables of a report: intervals, published figures beside ours, what a result rests on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.engine.evaluate import metrics
from fclip.engine.evaluate.aggregate import format_rows, make_rows, pool_reliability
from fclip.engine.evaluate.bootstrap import FoldClips, fold_clips, rate_intervals
from fclip.engine.evaluate.predictions import read_predictions
from fclip.records import CaptionSource
from fclip.report.evaluated import find_evaluated
from fclip.report.logs import BINS, mean_curve, read_log
from fclip.report.page.blocks import Flag, Text
from fclip.report.results import (
    caveats,
    method_name,
    rests_on,
    row_names,
)
from fclip.report.tables import pooled_table, recall_table, results_table, scene_tables
from fclip.report.trials import Trial, make_trials, measured, verdict
from fclip.stages.report import Config
from tests.report.runs import column, rows_of, write_comparison, write_run


def plain_bootstrap(true, predicted, classes, metric, draws=1500):
    rng = np.random.default_rng(5)
    drawn = [rng.integers(0, len(true), len(true)) for _ in range(draws)]
    return np.quantile(
        [metric(metrics.confusion_matrix(true[i], predicted[i], classes)) for i in drawn], [0.025, 0.975]
    )


def trials_of(root) -> list[Trial]:
    return make_trials(*zip(*make_rows(find_evaluated(Config(root=root), ())), strict=True))


def test_interval_of_one_fold_is_the_bootstrap_of_its_table():
    rng = np.random.default_rng(1)
    true = rng.integers(0, 4, 400)
    predicted = np.where(rng.random(400) < 0.6, true, (true + 1) % 4)
    found = rate_intervals([FoldClips(true, (true == predicted).astype(float))], 4)
    for interval, metric in zip(found, (metrics.uar, metrics.war), strict=True):
        assert interval == pytest.approx(plain_bootstrap(true, predicted, 4, metric), abs=0.012)
    point, (low, high) = float((true == predicted).mean()), found[1]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(point * (1 - point) / 400), rel=0.15)


def test_runs_with_other_settings_are_rows_of_their_own_and_named_by_them(tmp_path):
    """Folds are averaged within one setting; what differs stands in the method's name, what does not stays out."""
    for lr in (0.1, 0.2):
        for fold in ("1", "2"):
            write_run(
                tmp_path, "base", fold, 0, name=f"base-{lr}-{fold}", skill=lr * 4, settings={"lr": lr, "epochs": 8}
            )
    write_run(tmp_path, "star", "1", 0, settings={"lr": 0.3, "epochs": 8})
    rows = rows_of(tmp_path)
    assert sorted((method_name(row), row.folds) for row in rows) == [
        ("base (lr=0.1)", ("1", "2")),
        ("base (lr=0.2)", ("1", "2")),
        ("star", ("1",)),
    ]
    assert sum("lr=0." in line for line in format_rows(rows)) == 2


def test_the_clip_model_stands_in_a_name_only_where_it_tells_rows_apart(tmp_path):
    """A row that has none, a baseline without CLIP or somebody else's predictions, is named without."""
    write_run(tmp_path, "base", "1", 0)
    (row,) = rows_of(tmp_path)
    bare, other = replace(row, variant="signals", clip=None), replace(row, clip="ViT-L-14")
    assert row_names([row, bare]) == ["base", "signals"]
    assert row_names([row, bare, other]) == [f"base, {row.clip}", "signals", "base, ViT-L-14"]


def test_seeds_that_agree_leave_the_interval_and_more_folds_narrow_it():
    rng = np.random.default_rng(2)
    clips = {str(i): (int(t), int(t if rng.random() < 0.7 else 1 - t)) for i, t in enumerate(rng.integers(0, 2, 300))}
    one, three = fold_clips([clips]), fold_clips([clips] * 3)
    assert (one.right == three.right).all()
    width = {n: np.ptp(rate_intervals([one] * n, 2)[1]) for n in (1, 4)}
    assert width[4] == pytest.approx(width[1] / 2, rel=0.15)
    partly = fold_clips([clips, {key: (t, t) for key, (t, _) in clips.items()}])
    assert set(partly.right) == {0.5, 1.0}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_intervals_hold_for_any_table(folds, pairs):
    clips = fold_clips([{str(i): (min(t, 4), p) for i, (t, p) in enumerate(pairs)}])
    for low, high in rate_intervals([clips] * folds, 5, draws=50):
        assert (np.isnan(low) and not pairs) or 0 <= low <= high <= 1


def test_what_flatters_is_flagged(tmp_path):
    write_comparison(tmp_path, folds=1, seeds=1)
    seen = CaptionSource("video-llava", True)
    write_run(tmp_path, "dagger", "1", 0, name="leaky", captions=seen, clip="ViT-B-16")
    rows = rows_of(tmp_path)
    flags = [str(rests_on(row)) for row in rows if isinstance(rests_on(row), Flag)]
    assert len(flags) == 3
    for word in ("BEST ON TEST", "IN-DOMAIN", "SAW THE LABEL"):
        assert sum(word in flag for flag in flags) == 1
        assert any(block.note and word in block.text for block in caveats(rows) if isinstance(block, Text))
    used = next(row for row in rows if row.captions)
    assert rests_on(replace(used, leak=0.625)).endswith("; the words alone tell 62.5 % of labels)")
    honest = [row for row in rows if not isinstance(rests_on(row), Flag)]
    assert caveats(honest) == []


def test_mean_over_folds_then_seeds_and_repeated_or_missing_runs_are_named(tmp_path):
    for fold, seed in (("1", 0), ("2", 0), ("1", 1)):
        write_run(tmp_path, "base", fold, seed)
    results = [each.result for each in find_evaluated(Config(root=tmp_path), ())]
    row = rows_of(tmp_path)[0]
    war = {(r.fold, r.seed): r.war for r in results}
    assert row.war == pytest.approx(((war["1", 0] + war["2", 0]) / 2 + war["1", 1]) / 2)
    assert row.ece == pytest.approx(np.mean([r.ece for r in results]))
    assert (row.lacking, row.repeated, row.test_clips) == ((("2", 1),), (), 120)
    assert any("fold 2, seed 1 is missing" in block.text for block in caveats([row]))
    write_run(tmp_path, "base", "1", 0, name="again", skill=0.3)
    assert any("run several times" in block.text for block in caveats(rows_of(tmp_path)))


def test_means_over_folds_and_pooled_with_their_intervals(tmp_path):
    """A large good fold and a small poor one: the mean counts folds, the pooled figure counts clips."""
    for fold, clips, skill in (("1", 200, 0.9), ("2", 20, 0.2)):
        write_run(tmp_path, "base", fold, 0, clips=clips, skill=skill)
    (row,) = rows_of(tmp_path)
    tables = [read_predictions(p) for p in sorted((tmp_path / "runs").glob("*/eval/predictions.csv"))]
    right = [t.matrix().argmax(1) == t.true_indices() for t in tables]
    assert row.war == pytest.approx(np.mean([r.mean() for r in right]))
    assert row.pooled_war == pytest.approx(np.concatenate(right).mean())
    assert row.pooled_war > row.war + 0.2
    for name in ("uar", "war"):
        rate = row.rate(name)
        assert rate.interval[0] < rate.mean < rate.interval[1]
        low, high = rate.pooled_interval
        assert low < rate.pooled < high
    error = np.sqrt(row.pooled_war * (1 - row.pooled_war) / 220)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
    (trial,) = trials_of(tmp_path)
    (table,) = pooled_table(trial)
    assert [cell.value for cell in column(table, "WAR")] == [pytest.approx(100 * row.pooled_war)]
    assert pooled_table(replace(trial, rows=(replace(row, folds=("1",)),))) == []


def test_scenes_have_a_table_where_they_are_known(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "base", "1", seed, dataset="ferv39k", scene_of=lambda i: ("crime", "talk", "")[i % 3])
    (row,) = rows_of(tmp_path)
    tables = [read_predictions(p) for p in sorted((tmp_path / "runs").glob("*/eval/predictions.csv"))]
    right = [(t.matrix().argmax(1) == t.true_indices()).reshape(-1, 3) for t in tables]
    (trial,) = trials_of(tmp_path)
    uar, war = scene_tables(trial)
    assert uar.head == war.head == ["method", "crime (20)", "talk (20)"]
    means = [100 * np.mean([r[:, i].mean() for r in right]) for i in (0, 1)]
    assert [cell.value for cell in war.rows[0][1:]] == pytest.approx(means)
    assert row.scenes["talk"].clips == 20
    assert scene_tables(replace(trial, rows=(replace(row, scenes={}),))) == []


def test_pooled_reliability_is_that_of_the_joined_tables():
    rng = np.random.default_rng(3)
    parts = [(rng.dirichlet(np.ones(3), n), rng.integers(0, 3, n)) for n in (40, 70)]
    pooled = pool_reliability([metrics.reliability(*part) for part in parts])
    whole = metrics.reliability(np.concatenate([p for p, _ in parts]), np.concatenate([t for _, t in parts]))
    for name, values in vars(whole).items():
        assert getattr(pooled, name) == pytest.approx(values)


def test_curves_are_means_over_runs_and_survive_torn_logs(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": s, "loss": 1.0 * s}) for s in range(1, 5001)]
    path.write_text("\n".join([*lines, json.dumps({"step": 5000, "eval_war": 0.5}), '{"step": 5001, "lo']))
    log = read_log(path)
    assert len(log) < 2000
    assert log[-1] == {"step": 5000, "eval_war": 0.5}
    steps, values = mean_curve([log, [{**row, "loss": row["loss"] + 2} for row in log if "loss" in row]], "loss")
    assert len(steps) == BINS
    assert np.allclose(np.array(values), 5000 * np.array(steps) + 1, rtol=2e-3), "one epoch, as no row tells more"
    assert mean_curve([log], "weight_frames") is None
    assert read_log(tmp_path / "missing.jsonl") == []


def test_a_trial_is_of_the_same_clips_of_one_data_set(tmp_path):
    """Other folds, other data sets and other clips are never in one table; in it, the best UAR of a group is first."""
    write_comparison(tmp_path)
    write_run(tmp_path, "star", "1", 0, name="other data", dataset="demo11")
    write_run(tmp_path, "star", "1", 0, name="other clips", clips=40, set=("scale=0.3",))
    trials = trials_of(tmp_path)
    assert [(trial.name, trial.rows[0].test_clips) for trial in trials] == [
        ("demo11, fold 1", 60),
        ("demo7, fold 1", 60),
        ("demo7, folds 1, 2", 120),
        ("demo7, fold 1", 40),
    ]
    for trial in trials:
        table = results_table(trial)
        places = [index for index, _ in trial.groups()] + [len(trial.rows)]
        for start, end in zip([0, *places], places, strict=False):
            uars = [row.uar for row in trial.rows[start:end]]
            assert uars == sorted(uars, reverse=True)
        bold = [cell.value for cell in column(table, "UAR") if cell.best]
        honest = [row.uar for row in trial.rows if not isinstance(rests_on(row), Flag)]
        assert bold and set(bold) == {100 * max(honest)}
        assert sum(trial.counts.values()) == trial.rows[0].test_clips
        recall = recall_table(trial)
        assert recall.head[1] == f"happiness ({trial.counts['happiness']})"
    assert [name for _, name in trials[1].groups()][:2] == ["FineCLIPER's variants", "Baselines"]


@pytest.mark.parametrize(
    ("skill", "says"), [(0.95, ": more than chance."), (0.62, "no more than chance can do on 300")]
)
def test_the_verdict_is_a_paired_test_against_the_strongest_baseline(tmp_path, skill, says):
    for name, variant, share in (("a", "star", skill), ("b", "linear-probe", 0.6), ("c", "coop", 0.2)):
        write_run(tmp_path, variant, "1", 0, name=name, skill=share, clips=300)
    (trial,) = trials_of(tmp_path)
    best, rival = trial.rows[trial.best], trial.rows[trial.rival]
    assert (best.variant, rival.variant) == ("star", "linear-probe")
    text = " ".join(verdict(trial))
    assert text.startswith(f"star has the highest UAR: {100 * best.uar:.1f} % (95 % interval")
    assert f"{100 * (best.uar - rival.uar):.1f} points of UAR ahead of linear-probe, the strongest baseline" in text
    assert says in text and "best of 3" in text and "One seed" not in text
    assert "3 methods tested on the same 300 clips of demo7 (fold 1, 7 classes)" in measured(trial)


def test_without_a_baseline_the_plain_variant_is_the_rival_and_a_baseline_has_the_best_variant(tmp_path):
    for name, variant, share in (("a", "star", 0.9), ("b", "dagger", 0.8), ("c", "base", 0.4)):
        write_run(tmp_path / "one", variant, "1", 0, name=name, skill=share, clips=200)
    (trial,) = trials_of(tmp_path / "one")
    assert trial.rows[trial.rival].variant == "base" and "base, which reads frames only" in " ".join(verdict(trial))
    for name, variant, share in (("a", "signals", 0.9), ("b", "dagger", 0.8), ("c", "coop", 0.85)):
        write_run(tmp_path / "two", variant, "1", 0, name=name, skill=share, clips=200)
    (trial,) = trials_of(tmp_path / "two")
    assert "dagger, the best of FineCLIPER's variants" in " ".join(verdict(trial))


def test_flattered_results_win_nothing(tmp_path):
    write_run(tmp_path, "star", "1", 0, name="a", skill=0.9, selection="best-on-test")
    write_run(tmp_path, "base", "1", 0, name="b", skill=0.5)
    (trial,) = trials_of(tmp_path)
    assert trial.rows[0].variant == "star" and trial.rows[trial.best].variant == "base" and trial.rival is None


def test_the_difference_over_folds_and_seeds_is_that_of_the_rows(tmp_path):
    for fold in ("1", "2"):
        for seed in (0, 1):
            write_run(tmp_path, "star", fold, seed, skill=0.8)
            write_run(tmp_path, "coop", fold, seed, skill=0.6)
    (trial,) = trials_of(tmp_path)
    found = trial.difference(0, 1)
    assert found.uar == pytest.approx(trial.rows[0].uar - trial.rows[1].uar)
    assert found.war == pytest.approx(trial.rows[0].war - trial.rows[1].war)
    assert found.uar_interval[0] < found.uar < found.uar_interval[1]
    assert (found.clips, found.mcnemar_p) == (120, None)
    again = trial.difference(1, 0)
    assert again.uar_interval == pytest.approx(tuple(-b for b in reversed(found.uar_interval)), abs=1e-9)
