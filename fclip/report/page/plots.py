"""The plots of a report: confusion matrix, recall, reliability, parameters against WAR (the paper's Fig. 7), a fixed
fusion weight against adaptive ones (Fig. 8), training curves, fusion weights over training.

Each takes plain values and gives SVG text; rates are fractions in [0, 1] and drawn in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fclip.engine.evaluate.metrics import Reliability
from fclip.files import atomic_write
from fclip.report.page.figures import COLOURS, MARKERS, Canvas, canvas, legend_below, legend_height, short

FEW = 5  # clips that a point of the reliability curve rests on, at least
Points = tuple[Sequence[float], Sequence[float]]  # x and y of a line


def confusion_plot(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Confusion matrix, true classes by row, each row in percent of its clips."""
    with canvas(_matrix_height(classes)) as drawn:
        _draw_confusion(drawn, confusion, classes)
        return drawn.svg()


def confusion_picture(confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path, title: str = "") -> None:
    """Write the confusion matrix as a PNG file."""
    with canvas(_matrix_height(classes) + 0.2) as drawn:
        _draw_confusion(drawn, confusion, classes)
        drawn.axes.set_title(title)
        data = drawn.png()
    with atomic_write(path) as temp:
        temp.write_bytes(data)


def _matrix_height(classes: Sequence[str]) -> float:
    return 1.3 + 0.26 * len(classes)


def _draw_confusion(drawn: Canvas, confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    counts = np.asarray(confusion, dtype=float)
    rates = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    clear_to_blue = LinearSegmentedColormap.from_list("", [(0.2, 0.5, 0.85, 0.0), (0.2, 0.5, 0.85, 1.0)])
    axes = drawn.axes
    axes.pcolormesh(rates, cmap=clear_to_blue, vmin=0, vmax=100, edgecolors="#88888833", linewidth=0.4)
    for i, row in enumerate(rates):
        for j, value in enumerate(row):
            axes.text(j + 0.5, i + 0.5, f"{value:.0f}", ha="center", va="center_baseline")
    places = np.arange(len(classes)) + 0.5
    names = [short(name) for name in classes]
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def rates_plot(rates: Mapping[str, tuple[float, tuple[float, float], bool]], chance: float, digits: int) -> str:
    """Rates with their intervals, one line a method under its name: {method: (rate, interval, whether it is the best)}.

    chance: what guessing reaches, a tick on each line; digits: of the printed percentages.
    """
    with canvas(0.55 + 0.34 * len(rates)) as drawn:
        axes = drawn.axes
        for place, (name, (rate, (low, high), best)) in enumerate(rates.items()):
            colour, weight = (COLOURS[0], "bold") if best else ("#888888", "normal")
            axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=2.6 if best else 1.6)
            axes.plot([100 * chance] * 2, [place - 0.16, place + 0.16], color="#888888", linewidth=1)
            axes.plot([100 * rate], [place], "o", color=colour, markersize=7 if best else 5)
            label = f"{short(name, 42)}  {100 * rate:.{digits}f}"
            axes.text(0, place - 0.3, label, ha="left", va="center", fontweight=weight)
        axes.set_ylim(len(rates) - 0.5, -0.65)
        axes.set_xlim(0, 100)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("UAR in %")
        return drawn.svg()


def recall_plot(recalls: Mapping[str, Mapping[str, float | None]]) -> str:
    """Recall of each class (one line a class, a mark a method): {method: {class: recall or None when absent}}."""
    classes = list(next(iter(recalls.values())))
    with canvas(0.8 + 0.32 * len(classes) + legend_height(recalls)) as drawn:
        axes = drawn.axes
        for index, (name, recall) in enumerate(recalls.items()):
            beside = 0.18 * (index - (len(recalls) - 1) / 2)  # so that no mark hides another
            there = [(100 * value, row + beside) for row, c in enumerate(classes) if (value := recall[c]) is not None]
            axes.plot(*zip(*there, strict=True), MARKERS[index % 8], label=name, alpha=0.9)
        axes.set_yticks(range(len(classes)), [short(name) for name in classes])
        axes.invert_yaxis()
        axes.set_xlim(-2, 102)
        axes.grid(axis="both")
        axes.set_xlabel("recall in %")
        legend_below(axes)
        return drawn.svg()


def reliability_plot(curves: Mapping[str, Reliability]) -> str:
    """Reliability: accuracy of the clips in each bin of confidence, {method: curve}.

    Bins of fewer than FEW clips say nothing and are left out.
    """
    with canvas(3.2 + legend_height(curves)) as drawn:
        axes = drawn.axes
        axes.plot([0, 100], [0, 100], color="#888888", linewidth=0.8, linestyle="--")
        for index, (name, curve) in enumerate(curves.items()):
            there = np.asarray(curve.count) >= FEW
            confidence, accuracy = (100 * np.asarray(values)[there] for values in (curve.confidence, curve.accuracy))
            axes.plot(confidence, accuracy, marker=MARKERS[index % 8], color=COLOURS[index % 8], label=name)
        axes.set_xlim(0, 101)
        axes.set_ylim(0, 101)
        axes.grid()
        axes.set_xlabel("confidence in %")
        axes.set_ylabel("accuracy in %")
        legend_below(axes)
        return drawn.svg()


def curves_plot(
    curves: Mapping[str, Points], what: str, length: float, *, percent: bool = False, from_zero: bool = False
) -> str:
    """Lines over `length` epochs of training: {name: (epochs, values)}; `what` names the values, `percent`: rates."""
    with canvas(2.4 + legend_height(curves)) as drawn:
        for name, (times, values) in curves.items():
            drawn.axes.plot(times, 100 * np.asarray(values) if percent else values, label=name)
        drawn.axes.set_xlim(0, length)
        drawn.axes.set_xlabel("epoch")
        drawn.axes.set_ylabel(short(what, 30))
        drawn.axes.set_ylim(bottom=0 if from_zero else None)
        drawn.axes.grid(axis="y")
        legend_below(drawn.axes)
        return drawn.svg()


def parameters_plot(points: Mapping[str, tuple[int, float]], published: Mapping[str, tuple[int, float]]) -> str:
    """Trained parameters against WAR (Fig. 7): {method: (parameters, WAR)}; published points are grey and
    hollow, with their names beside them."""
    from matplotlib.ticker import LogLocator

    with canvas(2.6 + 0.1 * len(published) + legend_height(points)) as drawn:
        axes = drawn.axes
        for index, (name, (parameters, war)) in enumerate(points.items()):
            look = {"color": COLOURS[index % 8], "marker": MARKERS[index % 8], "linestyle": "none", "label": name}
            axes.plot(parameters / 1e6, 100 * war, **look)
        for name, (parameters, war) in published.items():
            axes.plot(parameters / 1e6, 100 * war, "o", color="#888888", markerfacecolor="none", markersize=4)
            axes.annotate(f" {short(name)}", (parameters / 1e6, 100 * war), color="#888888", va="center")
        axes.set_xscale("log")
        sizes = [parameters for parameters, _ in (*points.values(), *published.values())]
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(sizes) < 30 * min(sizes) else (1,)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.margins(0.1)
        axes.grid()
        axes.set_xlabel("trained parameters in millions")
        axes.set_ylabel("WAR in %")
        legend_below(axes)
        return drawn.svg()


def weights_plot(
    fixed: Sequence[tuple[float, float, float]], adaptive: tuple[float, float] | None, modality: str
) -> str:
    """UAR and WAR against the fixed weight of a modality, dashed those of adaptive weights (Fig. 8).

    fixed: (weight, UAR, WAR) a run, in order of the weight; adaptive: (UAR, WAR), None where it was not run.
    """
    weights = [row[0] for row in fixed]
    with canvas(2.4 + legend_height(["UAR", "WAR"])) as drawn:
        axes = drawn.axes
        for index, name in enumerate(("UAR", "WAR")):
            values = [100 * row[1 + index] for row in fixed]
            axes.plot(weights, values, marker=MARKERS[index], color=COLOURS[index], label=name)
            if adaptive is not None:
                axes.axhline(100 * adaptive[index], color=COLOURS[index], linestyle="--", linewidth=1)
        axes.grid()
        axes.set_xlabel(f"weight of {short(modality)}")
        axes.set_ylabel("%")
        legend_below(axes)
        return drawn.svg()


def similarity_plot(
    classes: Sequence[str], positive: np.ndarray, negative: np.ndarray, limits: tuple[float, float]
) -> str:
    """Similarity of one modality to the positive (filled) and negative (hollow) text of the true class (Fig. 5).

    positive and negative (C,): mean cosines over the clips of each class, nan where it has none; negative nan for a
    model without negative texts; limits: the range of cosines that is drawn. A class is drawn in blue where the
    positive text is the nearer one, as it should be, else in orange.
    """
    rows = np.arange(len(classes))
    with canvas(0.8 + 0.27 * len(classes)) as drawn:
        axes = drawn.axes
        for colour, chosen in ((COLOURS[0], ~(positive < negative)), (COLOURS[5], positive < negative)):
            axes.hlines(rows[chosen], negative[chosen], positive[chosen], color=colour, alpha=0.5)
            axes.plot(negative[chosen], rows[chosen], "o", markerfacecolor="none", color=colour)
            axes.plot(positive[chosen], rows[chosen], "o", color=colour)
        axes.set_yticks(rows, [short(name) for name in classes])
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_xlim(*limits)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x")
        axes.set_xlabel("cosine (filled: positive text, hollow: negative text)")
        return drawn.svg()
