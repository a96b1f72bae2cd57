"""Tables as plain text, for the reports that commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose first column is flush left and whose others are flush right; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def class_table(classes: Sequence[str], per_part: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines of a table of clips: a row for each class, a column for each part, sums, and each class's share."""
    total = sum(sum(counts.values()) for counts in per_part.values())
    rows = [["", *per_part, "all", "share"]]
    for name in classes:
        count = sum(counts.get(name, 0) for counts in per_part.values())
        cells = [str(counts.get(name, 0)) for counts in per_part.values()]
        rows.append([name, *cells, str(count), f"{100 * count / max(1, total):.1f} %"])
    sums = [str(sum(counts.values())) for counts in per_part.values()]
    return format_table([*rows, ["all", *sums, str(total), ""]])
