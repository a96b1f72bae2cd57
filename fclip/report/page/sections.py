"""The sections of a report, from completed rows (see results.py) and what lies beside them: lists of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fclip.engine.evaluate.results import Row
from fclip.report.comparison import published_table
from fclip.report.explanations import Explanations, attention_pictures, class_similarities
from fclip.report.logs import Log, logged_names, mean_curve
from fclip.report.page.blocks import Block, Heading, Picture, Pictures, Text
from fclip.report.page.plots import (
    FEW,
    confusion_plot,
    curves_plot,
    parameters_plot,
    recall_plot,
    reliability_plot,
    similarity_plot,
    weights_plot,
)
from fclip.report.published import DATASETS, PublishedTable, find_table, published_tables
from fclip.report.results import (
    caveats,
    data_name,
    is_in_domain,
    method_name,
    pooled_table,
    recall_table,
    results_table,
    row_names,
    scene_tables,
)

SERIES = 8  # lines in one plot: as many as there are colours


def result_sections(rows: Sequence[Row], table: PublishedTable | None, *, published: bool = False) -> list[Block]:
    """One paper's table; or the table of all results, those of the papers that ours repeat, and recall by class.

    `published`: the papers' tables whole, whatever was run.
    """
    if table is not None:
        return [*published_table(table, rows, everything=published), *caveats(rows)]
    blocks: list[Block] = []
    if rows:
        blocks += [Heading("Results"), results_table(rows), *caveats(rows), *pooled_table(rows)]
    if published or any(row.dataset in DATASETS for row in rows):
        for each in published_tables().values():
            if published or sum(each.place(row) is not None for row in rows) > 1:
                found = published_table(each, rows, everything=published)
                blocks += [Heading(each.title), *found] if found else []
    if not rows:
        return blocks
    blocks.append(Heading("Recall of each class"))
    for data, group in by_data(rows).items():
        blocks += [recall_table(group, row_names(group), data), *scene_tables(group, row_names(group))]
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
        groups.setdefault(row.dataset, []).append(row)
    best = {id(row) for group in groups.values() for row in sorted(group, key=lambda r: -r.war)[:SERIES]}
    return {name: [row for row in group if id(row) in best] for name, group in groups.items()}


def plot_sections(rows: Sequence[Row]) -> list[Block]:
    """Recall, reliability, parameters against WAR (Fig. 7), fusion weights (Fig. 8) and confusion matrices."""
    compared = [picture for dataset, group in by_dataset(rows).items() for picture in _compare(rows, dataset, group)]
    matrices = [
        Picture(confusion_plot(row.confusion, row.classes), name)
        for name, row in zip(row_names(rows), rows, strict=True)
    ]
    explanation = Text("Pooled over folds and seeds; each row in percent of the clips of its true class.")
    comparison: list[Block] = [Heading("Comparison"), Pictures([*compared, *weight_pictures(rows)])]
    return [*comparison, Heading("Confusion matrices"), explanation, Pictures(matrices)]


def _compare(rows: Sequence[Row], dataset: str, group: Sequence[Row]) -> list[Picture]:
    """Recall, reliability and parameters of the best rows of one data set."""
    names = row_names(group)
    few = f"{dataset}, the {SERIES} best" if sum(r.dataset == dataset for r in rows) > SERIES else dataset
    recalls = {name: row.recall for name, row in zip(names, group, strict=True)}
    curves = {n: row.reliability for n, row in zip(names, group, strict=True) if row.reliability}
    pictures = [
        Picture(recall_plot(recalls), f"Recall of each class, {few}"),
        Picture(
            reliability_plot(curves),
            f"Reliability, {few}: too confident below the dashed line; points of {FEW} clips or more",
        ),
    ]
    supervised = [(n, r) for n, r in zip(names, group, strict=True) if r.trainable and r.source is None]
    trained = {name: (row.trainable or 0, row.war) for name, row in supervised}
    if len(trained) > 1:
        plot = parameters_plot(trained, published_points(dataset))
        pictures.append(Picture(plot, f"Trained parameters against WAR, {few}; hollow: published"))
    return pictures


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


def training_sections(rows: Sequence[Row], logs: Sequence[Sequence[Log]]) -> list[Block]:
    """Loss, held-out WAR and fusion weights over training; `logs[i]` are those of the runs of `rows[i]`."""
    runs_of = {id(row): runs for row, runs in zip(rows, logs, strict=True)}
    pictures = []
    for dataset, group in by_dataset([row for row in rows if runs_of[id(row)]]).items():
        for what, label, note in (
            ("loss", "loss", "; of several modalities, the sum of their losses"),
            ("eval_war", "WAR on held-out clips", ""),
        ):
            found = {n: mean_curve(runs_of[id(row)], what) for n, row in zip(row_names(group), group, strict=True)}
            curves = {name: curve for name, curve in found.items() if curve}
            if curves:
                caption = f"Training on {dataset}: {label}, mean over runs{note}"
                pictures.append(Picture(curves_plot(curves, label), caption))
    for name, row in zip(row_names(rows), rows, strict=True):
        runs = runs_of[id(row)]
        weights = {n.removeprefix("weight_"): mean_curve(runs, n) for n in logged_names(runs, "weight_")}
        curves = {modality: curve for modality, curve in weights.items() if curve}
        if len(curves) > 1:
            plot = curves_plot(curves, "fusion weight", from_zero=True)
            pictures.append(Picture(plot, f"{name}: fusion weights"))
    return [Heading("Training"), Pictures(pictures)] if pictures else []


def explanation_sections(found: Mapping[str, Explanations], clips: int) -> list[Block]:
    """Figs. 5 and 6 of the runs that have explanations, by the run's name."""
    if not found:
        return []
    similarities = [
        Picture(
            similarity_plot([str(name) for name in each.classes], *cosines),
            f"{run}, {modality}: cosine to the positive and negative text of the true class, "
            f"mean over {len(each.keys)} clips",
        )
        for run, each in found.items()
        for modality, cosines in class_similarities(each).items()
    ]
    blocks: list[Block] = [Heading("Why clips were classified so"), Pictures(similarities)]
    if pictures := attention_pictures(found, clips):
        text = (
            "Where the class token of each frame looks in the last block, the runs of the same clip under one another:"
        )
        blocks += [Text(text), Pictures(pictures)]
    return blocks
