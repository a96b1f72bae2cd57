"""A report as one self-contained HTML page: text, tables and pictures inside the file, no script, no link to anywhere.

Readable on a phone (wide tables scroll in their own box, the first column stays) and in light and dark: plots take the
text's colour.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from functools import cache

from fclip.files import resource_text
from fclip.report.page.blocks import (
    LONG,
    Block,
    Cell,
    Flag,
    Heading,
    Picture,
    Pictures,
    Table,
    Text,
    cell_text,
    is_number,
    numeric_columns,
)


def render_html(title: str, blocks: Sequence[Block]) -> str:
    """The page as one HTML text; every text is escaped."""
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    links = "".join(f'<a href="#s{i}">{html.escape(text)}</a>' for i, text in enumerate(headings))
    body, section = [], 0
    for block in blocks:
        if isinstance(block, Heading):
            body.append(f'<h2 id="s{section}">{html.escape(block.text)}</h2>')
            section += 1
        elif isinstance(block, Text):
            body.append(f"<p{' class=note' if block.note else ''}>{html.escape(block.text)}</p>")
        elif isinstance(block, Table):
            body.append(_table(block))
        else:
            body.append(_pictures(block))
    name = html.escape(title)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{_style()}</style></head><body>\n<h1>{name}</h1>\n<nav>{links}</nav>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


@cache
def _style() -> str:
    return resource_text("report.css")


def _table(table: Table) -> str:
    numbers = numeric_columns(table)
    head = "".join(
        f"<th scope=col{' class=number' if numeric else ''}>{html.escape(name)}</th>"
        for name, numeric in zip(table.head, numbers, strict=True)
    )
    rows = "".join(f"<tr>{''.join(map(_cell, row, numbers))}</tr>" for row in table.rows)
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    label = html.escape(table.caption or "table", quote=True)
    return (
        f'<div class=wide tabindex=0 role=region aria-label="{label}"><table>{caption}'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(cell: Cell, numeric: bool) -> str:
    """A cell; in a column of numbers a dash stands to the right too."""
    text = cell_text(cell)
    kinds = {"number": is_number(cell) or numeric, "flag": isinstance(cell, Flag), "long": len(text) > LONG}
    names = " ".join(name for name, holds in kinds.items() if holds)
    return f"<td class='{names}'>{html.escape(text)}</td>" if names else f"<td>{html.escape(text)}</td>"


def _pictures(block: Pictures) -> str:
    figures = "".join(
        f"<figure>{_image(picture)}<figcaption>{html.escape(picture.caption)}</figcaption></figure>"
        for picture in block.pictures
    )
    return f"<div class=row>{figures}</div>"


def _image(picture: Picture) -> str:
    """A plot as inline SVG, a photograph as data."""
    label = html.escape(picture.caption, quote=True)
    if isinstance(picture.data, str):
        return picture.data.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return f'<img alt="{label}" src="data:image/jpeg;base64,{base64.b64encode(picture.data).decode()}">'
