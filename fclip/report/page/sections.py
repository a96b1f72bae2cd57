"""The sections of a report, from completed rows (see results.py) and what lies beside them: lists of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fclip.engine.evaluate.results import Row
from fclip.report.comparison import published_table
from fclip.report.explanations import Explanations, agreement_interval, class_similarities, map_pictures
from fclip.report.logs import Log, epochs, logged_names, mean_curve
from fclip.report.page.blocks import Block, Cell, Heading, Interval, Lead, Measure, Picture, Pictures, Table, Text
from fclip.report.page.plots import (
    FEW,
    confusion_plot,
    curves_plot,
    parameters_plot,
    rates_plot,
    recall_plot,
    reliability_plot,
    similarity_plot,
    weights_plot,
)
from fclip.report.published import DATASETS, find_table, published_tables
from fclip.report.results import caveats, data_name, legend, method_name
from fclip.report.tables import pooled_table, recall_table, results_table, scene_tables
from fclip.report.trials import Trial, measured, verdict

RELEVANCE = (
    "Orange parts of a frame raise the odds of the class that the run predicted, blue parts lower them (integrated "
    "gradients from a frame without detail; the other modalities stay as they are). As a test, places of the same "
    "clips are covered one after the other: where the odds fall, the place did matter. The table says how far the two "
    "agree; a run in which they do not is left out. A map shows what the model uses, not what the person feels."
)
ATTENTION = (
    "Attention of each frame's class token in the last block, as in the paper's Fig. 6, the runs of the same clip "
    "under one another. It is the same whatever class is predicted, so it does not explain an answer."
)
SERIES, SHOWN = 4, 14  # methods that a plot compares; of which the summary shows the UAR


def result_sections(trial: Trial, suffix: str = "") -> list[Block]:
    """What was measured, who wins, and every figure of a trial; `suffix` of the headings, where there are several."""
    return [
        Heading(f"Results{suffix}"),
        Lead((measured(trial), *verdict(trial)), _rates(trial)),
        results_table(trial),
        legend(),
        *caveats(trial.rows),
        *pooled_table(trial),
        Heading(f"Recall of each class{suffix}"),
        recall_table(trial),
        *scene_tables(trial),
    ]


def paper_sections(rows: Sequence[Row], *, published: bool = False) -> list[Block]:
    """The papers' tables that our results repeat, ours beside theirs; `published`: all of them, whatever was run."""
    blocks: list[Block] = []
    if published or any(row.dataset in DATASETS for row in rows):
        for each in published_tables().values():
            if published or sum(each.place(row) is not None for row in rows) > 1:
                found = published_table(each, rows, everything=published)
                blocks += [Heading(each.title), *found] if found else []
    return blocks


def _rates(trial: Trial) -> Picture:
    """UAR of the best methods of a trial, with intervals."""
    order = sorted(range(len(trial.rows)), key=lambda i: -trial.rows[i].uar)[:SHOWN]
    few = f", the {SHOWN} best of {len(trial.rows)} methods" if len(trial.rows) > SHOWN else ""
    chance = 1 / max(sum(count > 0 for count in trial.counts.values()), 1)
    rates = {trial.names[i]: (trial.rows[i].uar, trial.rows[i].uar_interval, i == trial.best) for i in order}
    return Picture(
        rates_plot(rates, chance, trial.digits),
        f"UAR in {trial.name}{few}. Each dot is a method, its line the 95 % interval over clips, the tick what "
        "guessing gives. Lines that overlap do not mean that two methods are equal: the test in the text compares them "
        "clip by clip.",
    )


def plot_sections(trial: Trial, suffix: str = "") -> list[Block]:
    """What only pictures show of a trial: recall, calibration, parameters (Fig. 7), weights (Fig. 8), confusions."""
    chosen = _chosen(trial)
    few = f", the {len(chosen)} best" if len(trial.rows) > len(chosen) else ""
    recalls = {trial.names[i]: trial.rows[i].recall for i in chosen}
    curves = {trial.names[i]: curve for i in chosen if (curve := trial.rows[i].reliability)}
    pictures = [
        Picture(
            recall_plot(recalls),
            f"Recall of each class{few}. A class is a line, a method a mark: marks far apart are classes that methods "
            "disagree on.",
        ),
        Picture(
            reliability_plot(curves),
            f"Calibration{few}. Clips by the share that the method gave its answer, against how many of them were "
            f"right: below the dashed line it is too sure of itself. Points of {FEW} clips or more.",
        ),
    ]
    trained = {
        trial.names[i]: (row.trainable or 0, row.war)
        for i, row in enumerate(trial.rows)
        if row.trainable and row.source is None
    }
    if len(trained) > 1:
        best = dict(sorted(trained.items(), key=lambda pair: -pair[1][1])[:SHOWN])
        pictures.append(
            Picture(
                parameters_plot(best, published_points(trial.dataset)),
                "Trained parameters against WAR. Up and to the left is better: more right for less training. Hollow: "
                "published.",
            )
        )
    matrices = [
        Picture(
            confusion_plot(trial.rows[i].confusion, trial.rows[i].classes),
            f"{trial.names[i]}. A row is a true class, its numbers how many percent of its clips were taken for what.",
        )
        for i in chosen
    ]
    return [Heading(f"Pictures{suffix}"), Pictures([*pictures, *weight_pictures(trial.rows), *matrices])]


def _chosen(trial: Trial) -> list[int]:
    """Rows that pictures compare: the best one, the one it is tested against, then the best of the rest, in order."""
    first = [i for i in (trial.best, trial.rival) if i is not None]
    rest = sorted((i for i in range(len(trial.rows)) if i not in first), key=lambda i: -trial.rows[i].uar)
    return [*first, *rest][:SERIES]


def published_points(dataset: str) -> dict[str, tuple[int, float]]:
    """Published (parameters, WAR) on a data set of all methods whose parameters are printed, by method (Fig. 7)."""
    return {
        row.label: (row.millions * 1_000_000, row.figures[dataset][1] / 100)
        for row in find_table("finecliper-supervised").rows
        if row.millions and dataset in row.figures
    }


def weight_pictures(rows: Sequence[Row]) -> list[Picture]:
    """Fig. 8 of every method that was run with adaptive weights and with that of one modality fixed at several."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        others = {name: value for name, value in row.options.items() if name != "fusion_weights"}
        groups.setdefault(f"{data_name(row)}, {method_name(replace(row, options=others))}, {row.clip}", []).append(row)
    pictures = []
    for name, group in groups.items():
        adaptive = next((row for row in group if "fusion_weights" not in row.options), None)
        for modality in sorted({_fixed(row)[0] for row in group} - {""}):
            fixed = sorted((_fixed(row)[1], row.uar, row.war) for row in group if _fixed(row)[0] == modality)
            line = (adaptive.uar, adaptive.war) if adaptive else None
            if line or len(fixed) > 1:
                rest = f"weight of {modality} fixed, the rest split evenly; dashed: adaptive weights"
                pictures.append(Picture(weights_plot(fixed, line, modality), f"{name}; {rest}"))
    return pictures


def _fixed(row: Row) -> tuple[str, float]:
    """The modality whose weight is fixed and the weight (`fusion_weights=video=0.3`); ("", 0) for other weights."""
    given = row.options.get("fusion_weights")
    name, equals, share = given.partition("=") if isinstance(given, str) else ("", "", "")
    return (name, float(share)) if equals else ("", 0.0)


def training_sections(trial: Trial, logs: Sequence[Sequence[Log]], suffix: str = "") -> list[Block]:
    """Loss, held-out WAR and fusion weights over training, all over the same epochs; `logs[i]`: of `trial.rows[i]`."""
    shown = [i for i in _chosen(trial) if logs[i]]
    length = max((epochs(log) for i in shown for log in logs[i]), default=0.0)
    pictures = []
    for what, label, read in (
        (
            "loss",
            "training loss",
            "Of several modalities, the sum of their losses: only the course can be compared.",
        ),
        (
            "eval_war",
            "WAR on held-out clips in %",
            "Where it falls while the loss still falls, training went too far.",
        ),
    ):
        found = {trial.names[i]: mean_curve(logs[i], what) for i in shown}
        curves = {name: curve for name, curve in found.items() if curve and len(curve[0]) > 1}
        if curves:
            plot = curves_plot(curves, label, length, percent=what != "loss")
            pictures.append(Picture(plot, f"{label[0].upper()}{label[1:]}, mean over runs. {read}"))
    for i in shown:
        weights = {n.removeprefix("weight_"): mean_curve(logs[i], n) for n in logged_names(logs[i], "weight_")}
        curves = {modality: curve for modality, curve in weights.items() if curve and len(curve[0]) > 1}
        if len(curves) > 1:
            plot = curves_plot(curves, "fusion weight", length, from_zero=True)
            pictures.append(Picture(plot, f"{trial.names[i]}: fusion weights. How much each modality counts, of 1."))
    if not pictures:
        return []
    held_out = any("eval_war" in row for i in shown for log in logs[i] for row in log)
    note = Text("No held-out clips were scored during training; train --select val does, and draws their curve here.")
    return [Heading(f"Training{suffix}"), Pictures(pictures), *([] if held_out else [note])]


def explanation_sections(found: Mapping[str, Explanations], clips: int, *, attention: bool = False) -> list[Block]:
    """Why clips were classified so, of the runs that have explanations, by the run's name: Fig. 5, and relevance where
    it agrees with covering parts of the frames. `attention`: also where the class token looks, Fig. 6."""
    if not found:
        return []
    cosines = {(run, what): pair for run, each in found.items() for what, pair in class_similarities(each).items()}
    similarities = [
        Picture(
            similarity_plot([str(name) for name in found[run].classes], *pair, _limits(cosines, what)),
            f"{run}, {what}: cosine to the positive and negative text of the true class, mean over "
            f"{len(found[run].keys)} clips. Blue where the positive text is the nearer one, as it should be.",
        )
        for (run, what), pair in sorted(cosines.items(), key=lambda item: item[0][1] != "frames")
    ]
    blocks: list[Block] = [Heading("Why clips were classified so"), Pictures(similarities)]
    agreed = {run: mean for run, each in found.items() if (mean := agreement_interval(each))}
    kept = {run: found[run] for run, (_, low, _) in agreed.items() if low > 0}
    lines: list[list[Cell]] = [
        [run, Measure(mean), Interval(low, high, 2), "yes" if run in kept else "no: it does not explain this run"]
        for run, (mean, low, high) in agreed.items()
    ]
    if lines:
        head = ["run", "agreement", "95 %", "shown"]
        caption = (
            "Rank correlation of two ways to ask which parts of the frames matter, mean over clips: 1 the same, 0 none"
        )
        blocks += [Text(RELEVANCE), Table(head, lines, caption)]
    if pictures := map_pictures(kept, clips, "relevance"):
        blocks += [Pictures(pictures)]
    if pictures := map_pictures(found, clips, "attention") if attention else []:
        blocks += [Heading("Where the class token looks"), Text(ATTENTION), Pictures(pictures)]
    return blocks


def _limits(cosines: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]], modality: str) -> tuple[float, float]:
    """The range of all runs' cosines of a modality, with a margin, so that their plots can be compared."""
    values = np.concatenate([np.concatenate(pair) for (_, what), pair in cosines.items() if what == modality])
    there = values[np.isfinite(values)]
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
    return low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3
