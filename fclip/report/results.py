"""The tables of results: one row a method, over its folds and seeds. Rates are fractions in rows, percent in tables."""

from __future__ import annotations

from collections.abc import Sequence

from fclip.engine.evaluate.results import Metric, Row
from fclip.records import RENDERED, CaptionSource
from fclip.report.page.blocks import Block, Cell, Flag, Interval, Measure, Table, Text, drop_empty_columns
from fclip.report.published import published_figures

METRICS: tuple[Metric, ...] = ("uar", "war")
SELECTIONS = {"last": "last checkpoint", "val": "best on a held-out part", "best-on-test": "BEST ON TEST"}


def is_in_domain(row: Row) -> bool:
    """Whether a transfer was tested on the data set that it was trained on."""
    return row.source == row.dataset


def data_name(row: Row) -> str:
    """The data set, with the source of a transfer before it."""
    if row.source in (None, "none"):
        return str(row.dataset)
    return f"{row.source} → {row.dataset}"


def method_name(row: Row) -> str:
    """The variant with the options and modalities that make it differ from its default, or from other rows."""
    notes = [f"{name}={value}" for name, value in {**row.options, **row.differs}.items()]
    without = row.without or ()
    if row.source is None:
        notes += [f"without {name}" for name in without]
    elif row.source != "none" and "caption" not in without:  # a transfer is tested without captions unless told to
        notes.append("tested with captions")
    return f"{row.variant} ({', '.join(notes)})" if notes else row.variant


def row_names(rows: Sequence[Row]) -> list[str]:
    """Short names that tell rows from one another: the method, and what else varies or is unusual."""
    several_sets, several_clips = len({row.dataset for row in rows}) > 1, len({row.clip for row in rows} - {None}) > 1
    names: list[str] = []
    for row in rows:
        parts = [data_name(row)] if several_sets or data_name(row) != row.dataset else []
        parts.append(method_name(row))
        if several_clips and row.clip:
            parts.append(row.clip)
        if row.selection != "last":
            parts.append(str(row.selection))
        name = ", ".join(parts)
        if name in names and row.trained_with:
            name += f", captions by {row.trained_with.kind}"
        names.append(name if name not in names else f"{name} ({names.count(name) + 1})")
    return names


def rests_on(row: Row) -> str:
    """What a result rests on: data, selection mode, captions and whether they saw the label. A Flag if it flatters."""
    seen, used = row.trained_with, row.captions
    parts = ["rendered faces"] if row.dataset in RENDERED else []
    if row.source is not None:
        parts.append("IN-DOMAIN, not zero-shot" if is_in_domain(row) else "zero-shot")
    if row.trainable or row.source not in (None, "none"):
        parts.append(SELECTIONS.get(str(row.selection), str(row.selection)))
    for captions, where in _uses(seen, used):
        how = "that SAW THE LABEL" if captions.label_shown else "label-blind"
        alone = row.leak if captions is used or row.source is None else None
        told = f"; the words alone tell {100 * alone:.1f} % of labels" if alone is not None else ""
        parts.append(f"{where} captions ({captions.model}, {how}{told})")
    if not seen and not used:
        parts.append("no captions")
    elif seen and row.source not in (None, "none") and not used:
        parts.append("tested without captions")
    text = "; ".join(parts)
    return Flag(text) if any(word in text for word in ("IN-DOMAIN", "BEST ON TEST", "SAW THE LABEL")) else text


def _uses(seen: CaptionSource | None, used: CaptionSource | None) -> list[tuple[CaptionSource, str]]:
    """The captions that were used, and what for."""
    if seen and seen == used:
        return [(used, "trained and tested with")]
    return [(captions, where) for captions, where in ((seen, "trained with"), (used, "tested with")) if captions]


def figures(row: Row) -> list[Cell]:
    """UAR and WAR in percent with deviation over seeds, and their intervals."""
    several, rates = len(row.seeds) > 1, [row.rate(metric) for metric in METRICS]
    measures: list[Cell] = [Measure(100 * rate.mean, 100 * rate.deviation if several else None) for rate in rates]
    return measures + [interval(rate.interval) for rate in rates]


def interval(bounds: Sequence[float]) -> Interval:
    """An interval in percent."""
    return Interval(100 * bounds[0], 100 * bounds[1])


FIGURES = ("UAR", "WAR", "UAR 95 %", "WAR 95 %")
PUBLISHED = ("published UAR", "published WAR")


def results_table(rows: Sequence[Row]) -> Table:
    """All results, beside the published figures of the same data set, method and CLIP model."""
    head = [
        "method",
        "data",
        "CLIP",
        *FIGURES,
        *PUBLISHED,
        "ECE",
        "folds",
        "seeds",
        "clips",
        "trained parameters",
        "rests on",
        "published figures rest on",
    ]
    table: list[list[Cell]] = []
    for row in rows:
        found = published_figures(row)
        uar, war = found[1] if found else (None, None)
        table.append(
            [
                method_name(row),
                data_name(row),
                row.clip,
                *figures(row),
                uar,
                war,
                None if row.ece is None else Measure(100 * row.ece),
                len(row.folds),
                len(row.seeds),
                row.test_clips,
                row.trainable or None,
                rests_on(row),
                found[0].rests_on(row.dataset) if found else None,
            ]
        )
    return drop_empty_columns(Table(head, table))


def pooled_table(rows: Sequence[Row]) -> list[Block]:
    """The results of several folds once more, every clip counted once whatever its fold; nothing without such rows."""
    lines: list[list[Cell]] = [
        [
            method_name(row),
            data_name(row),
            row.clip,
            100 * row.pooled_uar,
            100 * row.pooled_war,
            interval(row.pooled_uar_interval),
            interval(row.pooled_war_interval),
            row.test_clips,
        ]
        for row in rows
        if len(row.folds) > 1
    ]
    caption = "Pooled over folds: metrics of all test clips together, not means over folds"
    return [Table(["method", "data", "CLIP", *FIGURES, "clips"], lines, caption)] if lines else []


def scene_tables(rows: Sequence[Row], names: Sequence[str]) -> list[Block]:
    """UAR and WAR in each scene where the data set names them (FERV39k); nothing where none does."""
    scenes = sorted({name for row in rows for name in row.scenes})
    blocks: list[Block] = []
    for metric in METRICS if scenes else ():
        lines: list[list[Cell]] = [
            [name, *(100 * row.scenes[s].rate(metric) if s in row.scenes else None for s in scenes)]
            for name, row in zip(names, rows, strict=True)
        ]
        blocks.append(Table(["method", *scenes], lines, f"{metric.upper()} of each scene in percent"))
    return blocks


def recall_table(rows: Sequence[Row], names: Sequence[str], data: str) -> Table:
    """Recall of each class in percent, pooled over folds and seeds; rows of one data set, called `data`."""
    head = ["method", *rows[0].classes, "UAR", "WAR"]
    table: list[list[Cell]] = []
    for name, row in zip(names, rows, strict=True):
        recall: list[Cell] = [None if value is None else 100 * value for value in row.recall.values()]
        table.append([name, *recall, 100 * row.uar, 100 * row.war])
    return Table(head, table, f"{data}: recall of each class in percent, pooled over folds and seeds")


def caveats(rows: Sequence[Row]) -> list[Block]:
    """What a reader of the table must know, only as far as it applies."""
    text = (
        "UAR: mean recall over the classes that a fold has; WAR: accuracy; ECE: expected calibration error; all in "
        "percent. Means over folds, then over seeds; ± is the deviation over seeds; intervals are bootstrap over the "
        "test clips."
    )
    notes = []
    if any(row.dataset in RENDERED for row in rows):
        notes.append("Rendered faces (demo7, demo11) say nothing about real ones.")
    if any(row.selection == "best-on-test" for row in rows):
        notes.append(
            "BEST ON TEST: the checkpoint was chosen on the test part, as published figures of the field often"
            " are; such figures are optimistic."
        )
    if any(is_in_domain(row) for row in rows):
        notes.append("IN-DOMAIN: trained on the data set that is tested; this is no zero-shot transfer.")
    if any(used and used.label_shown for row in rows for used in (row.captions, row.trained_with)):
        notes.append("SAW THE LABEL: the captions were written by someone, or a model, that knew the label.")
    for row in rows:
        name = f"{method_name(row)} on {data_name(row)}"
        for fold, seed in row.repeated[:1]:
            notes.append(
                f"{name}: fold {fold}, seed {seed} was run several times with other settings; the row is the "
                "mean. Name the runs to tell them apart."
            )
        for fold, seed in row.lacking[:1]:
            notes.append(f"{name}: fold {fold}, seed {seed} is missing; seeds are not comparable until it has run.")
    return [Text(text), *(Text(note, note=True) for note in notes)]
