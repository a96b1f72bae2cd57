"""A paper's table with ours beside it: every row in the paper's order, its published figures, what both rest on."""

from __future__ import annotations

from collections.abc import Sequence

from fclip.engine.evaluate.results import Row
from fclip.records import RENDERED
from fclip.report.page.blocks import Block, Cell, Flag, Measure, Table, Text, drop_empty_columns
from fclip.report.published import DATASETS, PublishedRow, PublishedTable, contradictions
from fclip.report.results import FIGURES, PUBLISHED, data_name, digits_for, figures, folds_text, rests_on

HEAD = (
    "method",
    "venue",
    "published backbone",
    "published parameters in millions",
    "data",
    "CLIP",
    "folds",
    *FIGURES,
    *PUBLISHED,
    "rests on",
    "published figures rest on",
)


def published_table(table: PublishedTable, rows: Sequence[Row], *, everything: bool = False) -> list[Block]:
    """A paper's table in its order with ours beside it, one a data set that ours have; nothing if none is ours.

    `everything`: for all of the paper's data sets, whatever was run.
    """
    places = [table.place(row) for row in rows]
    placed = [[row for row, place in zip(rows, places, strict=True) if place == i] for i in range(len(table.rows))]
    if not (any(placed) or (everything and table.has_figures)):
        return []
    datasets = sorted({row.dataset for group in placed for row in group} | set(DATASETS if everything else ()))
    draw = _recall_table if table.has_recalls else _figures_table
    blocks = [block for name in datasets for block in draw(table, placed, name)]
    if all(dataset in RENDERED for dataset in datasets):
        return [*blocks, Text("On rendered faces; the paper's figures are of real ones, so they do not stand here.")]
    return [*blocks, *(Text(note, note=True) for note in (*table.notes, *contradictions(table)))]


def _figures_table(table: PublishedTable, placed: Sequence[Sequence[Row]], dataset: str) -> list[Block]:
    """UAR and WAR on one data set; a note where ours were not tested on the same clips."""
    groups = [[row for row in group if row.dataset == dataset] for group in placed]
    lines = [
        line for published, ours in zip(table.rows, groups, strict=True) for line in _lines(published, ours, dataset)
    ]
    tested = sorted({f"{folds_text(row.folds)} ({row.test_clips:,} clips)" for group in groups for row in group})
    note = f"{dataset}: ours are not all of the same clips, so compare only what agrees in folds: {'; '.join(tested)}."
    shown = drop_empty_columns(Table(HEAD, lines, dataset))
    return [shown, *([Text(note, note=True)] if len(tested) > 1 else [])] if lines else []


def _lines(published: PublishedRow, ours: Sequence[Row], dataset: str) -> list[list[Cell]]:
    """The lines of one row of a published table: ours, and the paper's where nothing of ours is the same."""
    lines: list[list[Cell]] = []
    theirs = published.figures.get(dataset)
    about: list[Cell] = [published.venue or None, published.backbone or None, published.millions]
    basis = _basis(published, dataset) if theirs else None
    quoted = False
    for row in sorted(ours, key=lambda row: row.clip or ""):
        exact = theirs is not None and published.method is not None and published.method.is_exactly(row)
        quoted |= exact
        beside: list[Cell] = [*theirs] if exact and theirs else [None, None]
        facts: list[Cell] = about if exact else [None, None, None]
        where = [data_name(row), row.clip, folds_text(row.folds)]
        lines.append([published.label, *facts, *where, *figures(row), *beside, rests_on(row), basis if exact else None])
    if theirs and not quoted:
        why = "not run as the paper did" if ours else "not run" if published.method else "published only"
        lines.append([published.label, *about, dataset, None, None, *[None] * 4, *theirs, why, basis])
    return lines


def _basis(published: PublishedRow, dataset: str) -> str:
    """What a published figure rests on; a Flag where it flatters."""
    text = published.rests_on(dataset)
    return Flag(text) if any(word in text for word in ("IN-DOMAIN", "best on test", "saw the label")) else text


def _recall_table(table: PublishedTable, placed: Sequence[Sequence[Row]], dataset: str) -> list[Block]:
    """Recall of each class on one data set: the published line of a method, then ours."""
    groups = [[row for row in group if row.dataset == dataset] for group in placed]
    classes = next((list(row.classes) for group in groups for row in group), [])
    classes = classes or next((list(row.recall) for row in table.rows if dataset in row.figures), [])
    lines: list[list[Cell]] = []
    for published, ours in zip(table.rows, groups, strict=True):
        if dataset in published.figures:
            recall: list[Cell] = [published.recall.get(name) for name in classes]
            basis = _basis(published, dataset)
            lines.append([published.label, published.millions, *recall, *published.figures[dataset], basis])
        for row in ours:
            found = (row.recall.get(name) for name in classes)
            values = [*(None if value is None else 100 * value for value in found), 100 * row.uar, 100 * row.war]
            digits = digits_for(row.test_clips)
            cells = [None if value is None else Measure(value, digits=digits) for value in values]
            lines.append([f"{published.label}, ours", row.trainable, *cells, rests_on(row)])
    head = ["method", "trained parameters, published in millions", *classes, "UAR", "WAR", "rests on"]
    caption = f"{dataset}: recall of each class in percent; ours pooled over folds and seeds"
    return [Table(head, lines, caption)] if lines else []
