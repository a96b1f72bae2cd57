"""Plots as PNG bytes: confusion matrix, training curves, recall per class. Matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fclip.data.files import atomic_write


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # the same figure gives the same bytes
    return buffer.getvalue()


def confusion_plot(confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str = "") -> bytes:
    """Row-normalised confusion matrix (true class by row) with percentages."""
    counts = np.asarray(confusion, dtype=float)
    rates = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.8 + 0.48 * len(classes)
    figure, axes = _figure(side + 0.6, side)
    axes.imshow(rates, cmap="Blues", vmin=0, vmax=100)
    for i, row in enumerate(rates):
        for j, value in enumerate(row):
            axes.text(
                j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color="white" if value > 55 else "black"
            )
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true (rows in %)", fontsize=8)
    axes.set_title(title, fontsize=9)
    return _png(figure)


def confusion_picture(confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path, title: str = "") -> None:
    """Write `confusion_plot` to a PNG file."""
    data = confusion_plot(confusion, classes, title)
    with atomic_write(path) as temp:
        temp.write_bytes(data)


def curves_plot(curves: dict[str, list[dict[str, float]]], name: str = "loss") -> bytes:
    """Training curves: a line a run from its metrics.jsonl rows, smoothed over ten steps."""
    figure, axes = _figure(6.4, 3.6)
    for label, rows in curves.items():
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            steps, values = np.array(points).T
            window = min(10, len(values))
            smooth = np.convolve(values, np.ones(window) / window, mode="valid")
            axes.plot(steps[window - 1 :], smooth, label=label, linewidth=1.2)
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel(name, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7)
    return _png(figure)


def recall_plot(rows: dict[str, dict[str, float]]) -> bytes:
    """Recall of each class as grouped bars, a group a class, a bar a variant."""
    classes = list(next(iter(rows.values())))
    figure, axes = _figure(max(6.4, 0.9 * len(classes) + 1), 3.4)
    width = 0.8 / len(rows)
    for index, (label, recall) in enumerate(rows.items()):
        places = np.arange(len(classes)) + (index - (len(rows) - 1) / 2) * width
        axes.bar(places, [100 * recall[name] for name in classes], width, label=label)
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("recall in %", fontsize=8)
    axes.set_ylim(0, 100)
    axes.tick_params(axis="y", labelsize=8)
    axes.legend(fontsize=7, ncols=3)
    return _png(figure)
