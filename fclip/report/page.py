"""One self-contained HTML page: text, tables and pictures inside the file, no script, no link to anywhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: .9rem; } .wide { overflow-x: auto; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #8886; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1rem 0; } figcaption { font-size: .85rem; opacity: .8; }
img { max-width: 100%; height: auto; background: #fff; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; } .row figure { flex: 1 1 19rem; margin: 0; }
del { background: #d332; } .note { border-left: 4px solid #c80; padding-left: .8rem; }
"""


class Page:
    """Collects sections and renders them; every text is escaped."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.body: list[str] = []

    def heading(self, text: str) -> None:
        """Start a section."""
        self.body.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, note: bool = False) -> None:
        """A paragraph; `note` marks it as a caveat."""
        self.body.append(f"<p{' class=note' if note else ''}>{html.escape(text)}</p>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table; numbers are right-aligned, floats printed with two digits."""
        lines = [
            "<div class=wide><table><thead><tr>",
            *(f"<th>{html.escape(name)}</th>" for name in head),
            "</tr></thead><tbody>",
        ]
        for row in rows:
            lines.append("<tr>" + "".join(_cell(value) for value in row) + "</tr>")
        self.body.append("".join(lines) + "</tbody></table></div>")

    def pictures(self, pictures: Sequence[tuple[bytes, str]]) -> None:
        """PNG pictures side by side, each with its caption."""
        figures = [
            f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for data, caption in pictures
        ]
        self.body.append(f"<div class=row>{''.join(figures)}</div>" if len(figures) > 1 else "".join(figures))

    def render(self) -> str:
        """The page as one HTML text."""
        title = html.escape(self.title)
        return (
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
            '<meta name=viewport content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{_STYLE}</style></head><body>\n<h1>{title}</h1>\n"
            + "\n".join(self.body)
            + "\n</body></html>\n"
        )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"<td class=number>{value:.2f}</td>"
    if isinstance(value, int):
        return f"<td class=number>{value:,}</td>"
    return f"<td>{html.escape(str(value))}</td>"
