"""What a report is made of, whatever its format: headings, paragraphs, tables, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """Starts a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `note` marks it as a caveat."""

    text: str
    note: bool = False


class Flag(str):
    """A table cell that a reader must not overlook: test-set selection, captions that saw the label."""


@dataclass(frozen=True)
class Measure:
    """A figure, in percent or as it is, with its deviation over seeds where there are several.

    digits: those after the point that mean something; best: of its column, and so in bold.
    """

    value: float
    deviation: float | None = None
    digits: int = 2
    best: bool = False

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.{self.digits}f}"
        return f"{self.value:.{self.digits}f}{spread}"


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float
    digits: int = 1

    def __str__(self) -> str:
        return f"{self.low:.{self.digits}f} – {self.high:.{self.digits}f}"


Cell = str | int | float | Measure | Interval | None


@dataclass(frozen=True)
class Table:
    """A table: one name a column, rows of cells (None = nothing to say), an optional caption.

    groups: (index of a row, name of the group of rows that it begins).
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    groups: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class Picture:
    """A picture of the HTML page: SVG text of a plot, or JPEG bytes of a photograph; its caption says what it shows."""

    data: str | bytes
    caption: str


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side where there is room."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Lead:
    """What a reader needs first: paragraphs, and one picture beside them where there is room."""

    texts: Sequence[str]
    picture: Picture


Block = Heading | Text | Lead | Table | Pictures


def is_number(cell: Cell) -> bool:
    """Whether a cell is set as a number, to the right."""
    return isinstance(cell, (int, float, Measure, Interval))


def is_best(cell: Cell) -> bool:
    """Whether a cell is the best of its column."""
    return isinstance(cell, Measure) and cell.best


def cell_text(cell: Cell) -> str:
    """A cell as plain text: floats with two digits, whole numbers with thousands separators, None as a dash."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.2f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return str(cell)


LONG = 30  # letters from which a cell needs lines of its own width


def numeric_columns(table: Table) -> list[bool]:
    """For each column, whether all of its cells that say anything are numbers."""
    columns = [[row[i] for row in table.rows if row[i] is not None] for i in range(len(table.head))]
    return [bool(cells) and all(map(is_number, cells)) for cells in columns]


def drop_empty_columns(table: Table) -> Table:
    """The table without the columns in which no row says anything."""
    kept = [i for i in range(len(table.head)) if any(row[i] is not None for row in table.rows)]
    rows = [[row[i] for i in kept] for row in table.rows]
    return Table([table.head[i] for i in kept], rows, table.caption, table.groups)
