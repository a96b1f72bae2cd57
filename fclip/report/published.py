"""The papers' tables and figures (resources/published.json) and which of our results each stands beside.

A result belongs to a published method when variant, options and transfer agree; its published figures are quoted only
where data set, CLIP model and source of the transfer are the paper's too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from fclip.engine.evaluate.results import Row
from fclip.errors import UsageError
from fclip.files import resource_json
from fclip.schema import JsonObject, parse_record


@dataclass(frozen=True)
class Method:
    """A method as a paper ran it: `clip` None = any; `source` = what it was pre-trained on, for zero-shot transfer;
    `figures` {data set: [UAR, WAR] in percent}; `parameters` as the paper prints them."""

    paper: str
    variant: str
    clip: str | None = None
    set: JsonObject = field(default_factory=dict)
    source: str | None = None
    parameters: int | None = None
    captions: bool = False
    figures: dict[str, list[float]] = field(default_factory=dict)

    def is_like(self, row: Row) -> bool:
        """Whether a result is of this variant and options, and transferred as this was (not, from none, from data)."""
        kinds = [source if source in (None, "none") else "data" for source in (self.source, row.source)]
        return row.variant == self.variant and row.options == self.set and kinds[0] == kinds[1]

    def same_setting(self, row: Row) -> bool:
        """Whether a result that is like this also has its CLIP model and source."""
        return self.clip in (None, row.clip) and self.source == row.source

    def figures_for(self, row: Row) -> list[float] | None:
        """[UAR, WAR] in percent that the paper gives for exactly what `row` is, or None."""
        return self.figures.get(row.dataset) if self.is_like(row) and self.same_setting(row) else None

    def rests_on(self) -> str:
        """What the published figures rest on."""
        paper = _published().papers[self.paper]
        parts = [paper.name, f"checkpoint: {paper.selection}"]
        return "; ".join(parts + ([paper.captions] if self.captions else []))


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper: (label, method) a row; `recall`: it gives the recall of each class."""

    name: str
    title: str
    rows: tuple[tuple[str, Method], ...]
    recall: bool = False

    def place(self, row: Row) -> int | None:
        """Index of the table's row that a result stands beside, the one of the same setting if several are like it."""
        like = [i for i, (_, method) in enumerate(self.rows) if method.is_like(row)]
        exact = [i for i in like if self.rows[i][1].same_setting(row)]
        return next(iter(exact or like), None)


@dataclass(frozen=True)
class _Paper:
    name: str
    selection: str
    captions: str = ""


@dataclass(frozen=True)
class _Table:
    name: str
    title: str
    rows: tuple[tuple[str, str], ...]
    recall: bool = False


@dataclass(frozen=True)
class _Published:
    """published.json: papers and methods by name, tables of (label, method) rows."""

    papers: dict[str, _Paper]
    methods: dict[str, Method]
    tables: tuple[_Table, ...]


@cache
def _published() -> _Published:
    return parse_record(resource_json("published.json"), _Published, "published.json")


def published_methods() -> dict[str, Method]:
    """All methods by their name in published.json."""
    return _published().methods


def published_tables() -> dict[str, PublishedTable]:
    """All tables by name, in the papers' order."""
    methods = published_methods()
    return {
        table.name: PublishedTable(
            table.name, table.title, tuple((label, methods[name]) for label, name in table.rows), table.recall
        )
        for table in _published().tables
    }


def find_table(name: str) -> PublishedTable:
    """The published table of this name; UsageError lists the names there are."""
    tables = published_tables()
    if name not in tables:
        raise UsageError(f"--table {name}: no such table; there are: {', '.join(tables)}")
    return tables[name]


def published_figures(row: Row) -> tuple[Method, list[float]] | None:
    """The published method that a result is a repetition of, and its [UAR, WAR] in percent; None if there is none."""
    for method in published_methods().values():
        figures = method.figures_for(row)
        if figures:
            return method, figures
    return None
