"""The sections of a report, from completed rows (see results.py) and what lies beside them: lists of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fclip.report.blocks import Block, Heading, Picture, Pictures, Text
from fclip.report.explanations import Explanations, attention_pictures, class_similarities
from fclip.report.logs import Log, logged_names, mean_curve
from fclip.report.plots import (
    confusion_plot,
    curves_plot,
    parameters_plot,
    recall_plot,
    reliability_plot,
    similarity_plot,
    weights_plot,
)
from fclip.report.published import PublishedTable, published_figures, published_tables
from fclip.report.results import (
    caveats,
    class_recall,
    data_name,
    is_in_domain,
    method_name,
    published_table,
    recall_table,
    results_table,
    row_name,
)

Row = Mapping[str, Any]
SERIES = 8  # lines in one plot: as many as there are colours


def result_sections(rows: Sequence[Row], table: PublishedTable | None) -> list[Block]:
    """One paper's table; or the table of all results, those of the papers that ours repeat, and recall by class."""
    if table is not None:
        return [*published_table(table, rows), *caveats(rows)]
    blocks: list[Block] = [Heading("Results"), results_table(rows), *caveats(rows)]
    if any(published_figures(row) for row in rows):
        for each in published_tables().values():
            if sum(each.place(row) is not None for row in rows) > 1 and not each.recall:
                blocks += [Heading(each.title), *published_table(each, rows)]
    blocks.append(Heading("Recall of each class"))
    for data, group in by_data(rows).items():
        names = [row_name(row, group) for row in group]
        blocks.append(recall_table(group, names, data))
    return blocks


def by_data(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by data set and source of the transfer, in order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(data_name(row) + (" (in-domain)" if is_in_domain(row) else ""), []).append(row)
    return groups


def by_dataset(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by the data set that they were tested on, at most SERIES of each, those of the best WAR, in order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["dataset"], []).append(row)
    return {
        name: [row for row in group if row in sorted(group, key=lambda r: -r["war"])[:SERIES]]
        for name, group in groups.items()
    }


def plot_sections(rows: Sequence[Row]) -> list[Block]:
    """Recall, reliability, parameters against WAR (Fig. 7), fusion weights (Fig. 8) and confusion matrices."""
    compared = [picture for dataset, group in by_dataset(rows).items() for picture in _compare(rows, dataset, group)]
    names = [row_name(row, rows) for row in rows]
    matrices = [
        Picture(confusion_plot(row["confusion"], row["classes"]), name) for name, row in zip(names, rows, strict=True)
    ]
    explanation = Text("Pooled over folds and seeds; each row in percent of the clips of its true class.")
    comparison = [Heading("Comparison"), Pictures([*compared, *weight_pictures(rows)])]
    return [*comparison, Heading("Confusion matrices"), explanation, Pictures(matrices)]


def _compare(rows: Sequence[Row], dataset: str, group: Sequence[Row]) -> list[Picture]:
    """Recall, reliability and parameters of the best rows of one data set."""
    names = [row_name(row, group) for row in group]
    few = f"{dataset}, the {SERIES} best" if sum(r["dataset"] == dataset for r in rows) > SERIES else dataset
    recalls = {name: class_recall(row) for name, row in zip(names, group, strict=True)}
    curves = {name: row["reliability"] for name, row in zip(names, group, strict=True)}
    pictures = [
        Picture(recall_plot(recalls), f"Recall of each class, {few}"),
        Picture(reliability_plot(curves), f"Reliability, {few}: too confident below the dashed line"),
    ]
    points = {n: (r["trainable"], r["war"]) for n, r in zip(names, group, strict=True)}
    trained = {name: point for name, point in points.items() if point[0]}
    if len(trained) > 1:
        plot = parameters_plot(trained, published_points(group))
        pictures.append(Picture(plot, f"Trained parameters against WAR, {few}; hollow: published"))
    return pictures


def published_points(rows: Sequence[Row]) -> dict[str, tuple[int, float]]:
    """Published (parameters, WAR) of the methods that `rows` repeat, by method."""
    points = {}
    for row in rows:
        found = published_figures(row)
        if found and found[0].parameters:
            points[f"{method_name(row)}, published"] = (found[0].parameters, found[1][1] / 100)
    return points


def weight_pictures(rows: Sequence[Row]) -> list[Picture]:
    """Fig. 8 of every method that was run with adaptive and with fixed fusion weights."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        others = {name: value for name, value in row["options"].items() if name != "fusion_weights"}
        groups.setdefault(f"{data_name(row)}, {method_name({**row, 'options': others})}, {row['clip']}", []).append(row)
    pictures = []
    for name, group in groups.items():
        adaptive = [row for row in group if "fusion_weights" not in row["options"]]
        fixed = [row for row in group if "fusion_weights" in row["options"]]
        if adaptive and fixed:
            bars = [("adaptive", row["uar"], row["war"]) for row in adaptive]
            bars += [(" : ".join(map(str, r["options"]["fusion_weights"])), r["uar"], r["war"]) for r in fixed]
            order = " : ".join(adaptive[0]["modalities"][0].split("+")) if adaptive[0]["modalities"] else ""
            pictures.append(Picture(weights_plot(bars), f"{name}; weights of {order}"))
    return pictures


def training_sections(rows: Sequence[Row], logs: Sequence[Sequence[Log]]) -> list[Block]:
    """Loss, held-out WAR and fusion weights over training; `logs[i]` are those of the runs of `rows[i]`."""
    pictures = []
    for what, label in (("loss", "loss"), ("eval_war", "WAR on held-out clips")):
        for dataset, group in by_dataset([row for row, log in zip(rows, logs, strict=True) if log]).items():
            curves = {}
            for row in group:
                curve = mean_curve(logs[_index(rows, row)], what)
                if curve:
                    curves[row_name(row, group)] = curve
            if curves:
                pictures.append(Picture(curves_plot(curves, label), f"Training on {dataset}: {label}, mean over runs"))
    for row, runs in zip(rows, logs, strict=True):
        names = logged_names(runs, "weight_")
        if len(names) > 1:
            curves = {n.removeprefix("weight_"): c for n in names if (c := mean_curve(runs, n)) is not None}
            plot = curves_plot(curves, "fusion weight", from_zero=True)
            pictures.append(Picture(plot, f"{row_name(row, rows)}: fusion weights"))
    return [Heading("Training"), Pictures(pictures)] if pictures else []


def _index(rows: Sequence[Row], row: Row) -> int:
    return next(i for i, other in enumerate(rows) if other is row)


def explanation_sections(found: Mapping[str, Explanations], clips: int) -> list[Block]:
    """Figs. 5 and 6 of the runs that have explanations, by the run's name."""
    blocks: list[Block] = []
    for name, each in found.items():
        plot = similarity_plot([str(c) for c in each.classes], class_similarities(each))
        caption = f"Cosine to the positive and negative text of the true class, mean over {len(each.keys)} clips"
        blocks += [Heading(f"Why: {name}"), Pictures([Picture(plot, caption)])]
        pictures = attention_pictures(each, clips)
        if pictures:
            blocks += [Text("Where the class token of each frame looks, in the last block:"), Pictures(pictures)]
    return blocks
