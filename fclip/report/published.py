"""The papers' tables and figures, as printed, and which of our results each row stands beside.

published_figures.csv and published_recalls.csv hold every figure; published.json the tables and the methods, that is
how fclip repeats a row. A result belongs to a method when variant, options and transfer agree; published figures are
quoted beside it only where data set, CLIP model, source and kind of captions are the paper's too.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from fclip.config import canonical_json
from fclip.engine.evaluate.results import Row
from fclip.errors import UsageError
from fclip.files import resource_json, resource_text
from fclip.records import CaptionSource
from fclip.registry import VARIANTS
from fclip.schema import JsonObject, parse_record

DATASETS = ("dfew", "ferv39k", "mafw")
ROUNDING = 0.05  # percent; a mean of printed recalls further than this from the printed UAR contradicts it
NO_RESULT = ("checkpointing",)  # options that change memory and speed, not the method


@dataclass(frozen=True)
class Method:
    """How fclip repeats a row of a paper: `clip` None = any; `source` = what it was pre-trained on, for zero-shot
    transfer; `captions`: whose training read (CaptionSource.kind); `open`: options that the paper does not state;
    `by`: the paper that ran it, None where it is only quoted."""

    variant: str
    by: str | None = None
    clip: str | None = None
    set: JsonObject = field(default_factory=dict)
    source: str | None = None
    captions: str | None = None
    open: tuple[str, ...] = ()

    def is_like(self, row: Row) -> bool:
        """Whether a result is of this variant and options, and transferred as this was (not, from none, from data)."""
        kinds = [source if source in (None, "none") else "data" for source in (self.source, row.source)]
        if row.variant != self.variant or kinds[0] != kinds[1]:
            return False
        try:
            given = unusual_options(row.variant, row.options)
        except UsageError:  # made with another version of fclip
            return False
        return {n: v for n, v in given.items() if n not in (*self.open, *NO_RESULT)} == unusual_options(
            self.variant, self.set
        )

    def agreement(self, row: Row) -> tuple[bool, bool, bool]:
        """Whether a result that is like this also has its source, its kind of captions, and its CLIP model and all
        modalities."""
        captions = (row.trained_with or CaptionSource()).kind
        clip = row.clip and row.clip.removesuffix("-quickgelu")  # open_clip's other name of OpenAI's
        whole = row.source is not None or not (row.without or row.settings.get("without"))
        return self.source == row.source, self.captions == captions, self.clip in (None, clip) and whole

    def is_exactly(self, row: Row) -> bool:
        """Whether a result is what the paper ran, so that its figures may be quoted beside it."""
        return self.is_like(row) and all(self.agreement(row))


def unusual_options(variant: str, given: JsonObject) -> dict[str, Any]:
    """The options of a variant that are not as usual, whether or not they were given."""
    return dict(_unusual(variant, canonical_json(given)))


@cache
def _unusual(variant: str, given: str) -> dict[str, Any]:  # looking a variant up reads what packages are installed
    options = VARIANTS.make_options(variant, json.loads(given))
    return {field.name: value for field in fields(options) if (value := getattr(options, field.name)) != field.default}


@dataclass(frozen=True)
class PublishedRow:
    """A row of a paper's table; `method` is None where fclip has nothing that repeats it.

    where: paper and number of the table; millions: trained parameters as printed; figures {data set: (UAR, WAR)} and
    recall {class: recall} (on DFEW) in percent.
    """

    label: str
    where: str
    method: Method | None = None
    venue: str = ""
    backbone: str = ""
    millions: int | None = None
    figures: dict[str, tuple[float, float]] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def in_domain(self, dataset: str) -> bool:
        """Whether the figure is of a transfer to the data set that the model was trained on."""
        return self.method is not None and self.method.source == dataset

    def rests_on(self, dataset: str) -> str:
        """What the published figures on a data set rest on."""
        papers, method = _published().papers, self.method
        parts = [self.where]
        ran = papers[method.by] if method and method.by else None
        if ran is None:
            parts.append("quoted there")
        elif not self.where.startswith(ran.name):
            parts.append(f"run by {ran.name}")
        parts.append(f"checkpoint: {ran.selection if ran else 'not stated'}")
        if method and method.source not in (None, "none"):
            kind = "IN-DOMAIN, not zero-shot" if self.in_domain(dataset) else f"trained on {method.source}"
            parts.append(kind)
        if method and method.captions:
            parts.append(f"captions by {'a ' if method.captions.startswith('model') else ''}{method.captions}")
        return "; ".join(parts + ([self.note] if self.note else []))


@dataclass(frozen=True)
class PublishedTable:
    """A table or figure of a paper, by the name that `--table` takes; notes: what a reader of it must know."""

    name: str
    title: str
    rows: tuple[PublishedRow, ...]
    notes: tuple[str, ...] = ()

    def place(self, row: Row) -> int | None:
        """Index of the table's row that a result stands beside, the one that agrees most if several are like it."""
        like = [(i, r.method) for i, r in enumerate(self.rows) if r.method is not None and r.method.is_like(row)]
        return max(like, key=lambda pair: (pair[1].agreement(row), -pair[0]))[0] if like else None

    @property
    def has_recalls(self) -> bool:
        """Whether the table gives the recall of each class."""
        return any(row.recall for row in self.rows)

    @property
    def has_figures(self) -> bool:
        """Whether the paper prints a figure in it (Fig. 8 is drawn only)."""
        return any(row.figures for row in self.rows)


@dataclass(frozen=True)
class _Paper:
    name: str
    selection: str


@dataclass(frozen=True)
class _Table:
    name: str
    paper: str
    number: str
    title: str
    notes: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()  # without published figures: (label, method)


@dataclass(frozen=True)
class _Published:
    """published.json: papers, methods by name, tables."""

    papers: dict[str, _Paper]
    methods: dict[str, Method]
    tables: tuple[_Table, ...]


@cache
def _published() -> _Published:
    return parse_record(resource_json("published.json"), _Published, "published.json")


def published_methods() -> dict[str, Method]:
    """All methods by their name in published.json."""
    return _published().methods


@cache
def published_tables() -> dict[str, PublishedTable]:
    """All tables by name, in the papers' order."""
    tables = {}
    for table in _published().tables:
        paper = _published().papers[table.paper].name
        where = f"{paper}, {table.number}"
        rows = [*_rows_of(table.name, where), *(PublishedRow(n, where, published_methods()[m]) for n, m in table.rows)]
        title = f"{paper.partition(' (')[0]}, {table.number}: {table.title}"
        tables[table.name] = PublishedTable(table.name, title, tuple(rows), table.notes)
    return tables


def _rows_of(table: str, where: str) -> Iterator[PublishedRow]:
    """The rows of a table that the CSV files hold."""
    methods = published_methods()
    for line in _lines("published_figures.csv"):
        if line["table"] == table:
            pairs = {name: (line[f"{name}_uar"], line[f"{name}_war"]) for name in DATASETS}
            figures = {name: (float(uar), float(war)) for name, (uar, war) in pairs.items() if uar}
            yield PublishedRow(figures=figures, note=line["note"], **_named(line, where, methods))
    for line in _lines("published_recalls.csv") if table == "finecliper-classes" else ():
        classes = list(line)[list(line).index("millions") + 1 : -2]
        recall = {name: float(line[name]) for name in classes}
        figures = {"dfew": (float(line["uar"]), float(line["war"]))}
        yield PublishedRow(figures=figures, recall=recall, **_named(line, where, methods))


def _named(line: dict[str, str], where: str, methods: dict[str, Method]) -> dict:
    return {
        "label": line["row"],
        "where": where,
        "method": methods[line["method"]] if line["method"] else None,
        "venue": line.get("venue", ""),
        "backbone": line.get("backbone", ""),
        "millions": int(line["millions"]) if line["millions"] else None,
    }


def _lines(name: str) -> list[dict[str, str]]:
    """The lines of a CSV resource, by column; its first lines are comments."""
    return list(csv.DictReader(line for line in resource_text(name).splitlines() if not line.startswith("#")))


def find_table(name: str) -> PublishedTable:
    """The published table of this name; UsageError lists the names there are."""
    tables = published_tables()
    if name not in tables:
        raise UsageError(f"--table {name}: no such table; there are: {', '.join(tables)}")
    return tables[name]


def published_figures(row: Row) -> tuple[PublishedRow, tuple[float, float]] | None:
    """The published row that a result is a repetition of, in its own paper if it is there, and its (UAR, WAR) in
    percent; None if there is none."""
    found = [
        (each, each.figures[row.dataset])
        for table in published_tables().values()
        for each in table.rows
        if row.dataset in each.figures and each.method is not None and each.method.is_exactly(row)
    ]
    papers = _published().papers
    own = [(r, pair) for r, pair in found if r.method and r.method.by and r.where.startswith(papers[r.method.by].name)]
    return next(iter(own or found), None)


def contradictions(table: PublishedTable) -> list[str]:
    """Where a table contradicts itself or another one: recalls whose mean is not the printed UAR, and methods that
    are quoted with other figures elsewhere."""
    notes = []
    for row in table.rows:
        for mean in [sum(row.recall.values()) / len(row.recall)] if row.recall else []:
            uar = row.figures["dfew"][0]
            if abs(mean - uar) > ROUNDING:
                notes.append(f"{row.label}: the printed recalls average to {mean:.2f}, the printed UAR is {uar:.2f}.")
        others = [r for t in published_tables().values() if t.name != table.name for r in t.rows]
        for other in others:
            alike = row.method is None and other.method is None and other.label == row.label
            for dataset in row.figures.keys() & other.figures.keys() if alike else ():
                if row.figures[dataset] != other.figures[dataset]:
                    here, there = (" / ".join(f"{v:.2f}" for v in r.figures[dataset]) for r in (row, other))
                    notes.append(f"{row.label} on {dataset}: {here} (UAR / WAR) here, {there} in {other.where}.")
    return notes
