"""A report's text and tables as Markdown (for a README) or LaTeX (for a paper); pictures are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fclip.report.page.blocks import (
    LONG,
    Block,
    Cell,
    Flag,
    Heading,
    Lead,
    Table,
    Text,
    cell_text,
    is_best,
    numeric_columns,
)

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "†": r"\dag{}",
}


def render_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The report as Markdown; characters that Markdown or HTML would act on are escaped."""
    parts = [f"# {_md(title)}"]
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"## {_md(block.text)}")
        elif isinstance(block, Text):
            parts.append(("> " if block.note else "") + _md(block.text))
        elif isinstance(block, Lead):
            parts += map(_md, block.texts)
        elif isinstance(block, Table):
            parts.append(_markdown_table(block))
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [
        "| " + " | ".join(map(_md, table.head)) + " |",
        "|" + "|".join(" ---: " if numeric else " --- " for numeric in numeric_columns(table)) + "|",
    ]
    groups = dict(table.groups)
    for index, row in enumerate(table.rows):
        if index in groups:
            lines.append(f"| *{_md(groups[index])}* |" + " |" * (len(row) - 1))
        lines.append("| " + " | ".join(map(_markdown_cell, row)) + " |")
    return "\n".join(([_md(table.caption) + "\n"] if table.caption else []) + lines)


def _markdown_cell(cell: Cell) -> str:
    text = _md(cell_text(cell))
    return f"**{text}**" if isinstance(cell, Flag) or is_best(cell) else text


def _md(text: str) -> str:
    """Text with Markdown's and HTML's characters made harmless, on one line."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", plain)


def render_latex(title: str, blocks: Sequence[Block]) -> str:
    r"""The report as LaTeX to \input: sections, paragraphs and booktabs tables; needs \usepackage{booktabs,array}."""
    parts = [f"% {' '.join(title.split())}; needs \\usepackage{{booktabs,array}}"]
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"\\section*{{{_tex(block.text)}}}")
        elif isinstance(block, Text):
            parts.append(_tex(block.text))
        elif isinstance(block, Lead):
            parts += map(_tex, block.texts)
        elif isinstance(block, Table):
            parts.append(_latex_table(block))
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table) -> str:
    columns = "".join(_latex_column(table, i, numeric) for i, numeric in enumerate(numeric_columns(table)))
    groups, rows = dict(table.groups), []
    for index, row in enumerate(table.rows):
        if index in groups:
            rows.append(f"\\multicolumn{{{len(row)}}}{{l}}{{\\textit{{{_tex(groups[index])}}}}} \\\\")
        rows.append(" & ".join(map(_tex_cell, row)) + r" \\")
    caption = [f"\\caption{{{_tex(table.caption)}}}"] if table.caption else []
    head = " & ".join(map(_tex, table.head)) + r" \\"
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            *caption,
            f"\\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _latex_column(table: Table, index: int, numeric: bool) -> str:
    """Numbers to the right; long texts in a paragraph of a third of the line, so that the table stays on the page."""
    if numeric:
        return "r"
    long = any(len(cell_text(row[index])) > LONG for row in table.rows)
    return r">{\raggedright\arraybackslash}p{0.33\linewidth}" if long else "l"


def _tex_cell(cell: Cell) -> str:
    text = _tex(cell_text(cell))
    return f"\\textbf{{{text}}}" if isinstance(cell, Flag) or is_best(cell) else text


def _tex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in " ".join(text.split()))
