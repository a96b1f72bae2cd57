"""A report as one self-contained HTML page: text, tables and pictures inside the file, no script, no link to anywhere.

Readable on a phone (wide tables scroll in their own box, the first column stays) and in light and dark: plots take the
text's colour. The page's form is resources/report.html, a Jinja template, and resources/report.css.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from fclip.files import resource_text
from fclip.report.page.blocks import (
    LONG,
    Block,
    Cell,
    Flag,
    Heading,
    Picture,
    cell_text,
    is_best,
    is_number,
    numeric_columns,
)

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup


def render_html(title: str, blocks: Sequence[Block], *, footed: bool = False) -> str:
    """The page as one HTML text; every text is escaped. `footed`: the last section is the page's footer."""
    sections: list[tuple[str, list[Block]]] = [("", [])]
    for block in blocks:
        if isinstance(block, Heading):
            sections.append((block.text, []))
        else:
            sections[-1][1].append(block)
    return _template().render(title=title, sections=sections, footed=footed)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    filters = {"numeric_columns": numeric_columns, "cell_text": cell_text, "classes": _classes, "svg": _svg}
    environment.filters |= filters | {"kind": lambda block: type(block).__name__, "base64": _base64}
    environment.globals |= {"style": Markup(resource_text("report.css")), "dict": dict}
    return environment.from_string(resource_text("report.html"))


def _classes(cell: Cell, numeric: bool) -> str:
    """The classes of a cell; in a column of numbers a dash stands to the right too."""
    kinds = {
        "number": is_number(cell) or numeric,
        "flag": isinstance(cell, Flag),
        "best": is_best(cell),
        "long": len(cell_text(cell)) > LONG,
    }
    return " ".join(name for name, holds in kinds.items() if holds)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _svg(picture: Picture) -> Markup:
    """A plot as inline SVG, with its caption for those who cannot see it."""
    from markupsafe import Markup, escape

    assert isinstance(picture.data, str)
    return Markup(picture.data.replace("<svg ", f'<svg role="img" aria-label="{escape(picture.caption)}" ', 1))
