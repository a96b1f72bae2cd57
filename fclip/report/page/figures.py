"""Drawing with Matplotlib, without a display: figures for a page (SVG in the text's colour) or for a file (PNG).

All figures are as narrow as a phone's page, and the smallest letters are 10 units of 317 across: 11 pixels there.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from fclip.report.fonts import fonts_for

WIDTH = 4.4  # inches
FOREGROUND = "#010203"  # stands for the text's colour in SVG
# Okabe and Ito's colours, told apart by colour-blind readers and legible on white and black, less the yellow
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c", "#9467bd")
MARKERS = "osD^vPX*"
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fclip",
    "text.parse_math": False,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.framealpha": 0.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "grid.color": "#88888855",
    "grid.linewidth": 0.6,
}
_COLOURED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor")


class Canvas:
    """A figure with one plot: `axes` to draw on, then `svg()` or `png()`."""

    def __init__(self, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH, height), dpi=160, layout="constrained")
        FigureCanvasAgg(self.figure)
        self.axes: Any = self.figure.add_subplot()

    def svg(self) -> str:
        """The figure as an SVG element on a transparent ground, its lines and letters in the surrounding colour."""
        buffer = io.StringIO()
        self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        text = re.sub(r"<(metadata|style).*?</\1>", "", text[text.index("<svg ") :], flags=re.DOTALL)
        text = re.sub(r"<g id=\"[^\"]*\"", "<g", text)  # numbered anew in each figure, so not unique in a page
        text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px sans-serif", text)
        return text.replace(FOREGROUND, "currentColor").strip()

    def png(self) -> bytes:
        """The figure as PNG on white, in fonts that have its letters; the same figure gives the same bytes."""
        self._choose_fonts()
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
        return buffer.getvalue()

    def _choose_fonts(self) -> None:
        """Give texts beyond Latin a font that has their letters (in an SVG the browser does that)."""
        from matplotlib.text import Text

        texts: list[Text] = [text for text in self.figure.findobj(Text) if not text.get_text().isascii()]
        if texts and len(fonts := fonts_for(text.get_text() for text in texts)) > 1:
            for text in texts:
                text.set_fontfamily([family for family, _ in fonts])


@contextmanager
def canvas(height: float) -> Iterator[Canvas]:
    """A new figure of phone width and `height` inches, with fclip's settings while it is drawn and saved."""
    from cycler import cycler
    from matplotlib import rc_context

    style: Any = {**_SETTINGS, **dict.fromkeys(_COLOURED, FOREGROUND), "axes.prop_cycle": cycler(color=COLOURS)}
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a browser finds a font that has it
        yield Canvas(height)


def short(name: str, most: int = 20) -> str:
    """A name on one line, cut to `most` letters, so that it leaves room for the plot."""
    name = " ".join(name.split())
    return name if len(name) <= most else name[: most - 1] + "…"


LINE = 0.2  # inches of a legend's line
_LETTERS = 46  # that fit beside one another, less what the marks take


def legend_columns(names: Collection[str]) -> int:
    """How many columns a legend of these names fits into."""
    return max(1, min(4, len(names), _LETTERS // (max(map(len, names), default=0) + 5)))


def legend_height(names: Collection[str]) -> float:
    """Inches that a legend of these names takes."""
    return LINE * -(-len(names) // legend_columns(names))


def legend_below(axes: Any) -> None:
    """Put the legend under the plot, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    names = [short(label, _LETTERS) for label in labels]
    axes.figure.legend(handles, names, loc="outside lower center", ncols=legend_columns(names))
