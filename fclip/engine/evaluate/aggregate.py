"""Results of several folds and seeds -> one row a variant: mean over folds, mean and deviation over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fclip.config import canonical_json


def group_results(results: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The results of each method, which differ in fold and seed only: same data, variant, options and settings."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((*_method(result), canonical_json(result.get("settings") or {})), []).append(result)
    return list(groups.values())


def _method(result: dict[str, Any]) -> tuple[Any, ...]:
    names = ("dataset", "source", "variant", "clip", "selection", "objective")
    return (*map(result.get, names), tuple(result.get("set") or ()), tuple(result.get("without") or ()))


def tell_apart(rows: Sequence[dict[str, Any]]) -> None:
    """Set `differs` of each row: the settings {name: value} in which rows of the same method are not alike."""
    for row in rows:
        alike = [other["settings"] for other in rows if _method(other) == _method(row)]
        row["differs"] = {n: v for n, v in row["settings"].items() if any(other.get(n) != v for other in alike)}


def aggregate(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of one method from its results, one a fold and seed.

    A seed's figure is the unweighted mean over its folds (as the papers do; `pooled` beside it counts every clip
    once); the row carries mean and standard deviation over seeds.
    """
    by_seed: dict[int, list[dict[str, Any]]] = {}
    for member in members:
        by_seed.setdefault(member["seed"], []).append(member)
    first = members[0]
    row: dict[str, Any] = {
        name: first.get(name)
        for name in (
            "dataset",
            "source",
            "variant",
            "clip",
            "selection",
            "objective",
            "in_domain",
            "trained_with",
            "set",
            "without",
            "modalities",
            "captions",
            "trainable",
        )
    }
    row |= {
        "settings": first.get("settings") or {},
        "folds": sorted({m["fold"] for m in members}),
        "seeds": sorted(by_seed),
        "clips": sum(m["clips"] for m in members),
    }
    for metric in ("uar", "war", "macro_f1"):
        seeds = [float(np.mean([m[metric] for m in group])) for group in by_seed.values()]
        row[metric], row[f"{metric}_deviation"] = float(np.mean(seeds)), float(np.std(seeds))
    confusion = np.sum([m["confusion"] for m in members], axis=0)
    support = np.maximum(confusion.sum(1), 1)
    row["pooled_uar"] = float((np.diag(confusion) / support)[confusion.sum(1) > 0].mean())
    row["pooled_war"] = float(np.trace(confusion) / max(confusion.sum(), 1))
    recall = zip(first["classes"], np.diag(confusion) / support, confusion.sum(1), strict=True)
    row["recall"] = {name: float(value) if clips else None for name, value, clips in recall}
    row["confusion"], row["classes"] = confusion.tolist(), first["classes"]
    return row


def format_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as aligned text, in percent: mean over folds with 95 % interval, pooled over folds, flags.

    Deviations over seeds stand beside where there are several.
    """
    lines = [
        f"{'data set':18s} {'variant':14s} {'UAR':>6s} {'95 %':13s} {'WAR':>6s} {'95 %':13s} {'pooled UAR, WAR':16s}"
        " folds seeds  selection"
    ]
    for row in sorted(rows, key=lambda r: (r["dataset"], r["war"])):
        name = f"{row['source']}->{row['dataset']}" if row.get("source") else row["dataset"]
        flags = [row["selection"] or "-", *(["in-domain"] if row.get("in_domain") else []), *(row.get("set") or ())]
        flags += [f"{setting}={value}" for setting, value in row.get("differs", {}).items()]
        if row["selection"] == "best-on-test":
            flags.append("(chosen on the test part)")
        if row.get("captions") and row["captions"].get("label_shown"):
            flags.append("(captions saw the label)")
        if len(row["seeds"]) > 1:
            deviations = (100 * row[f"{metric}_deviation"] for metric in ("uar", "war"))
            flags.append("over seeds: UAR +- {:.2f}, WAR +- {:.2f}".format(*deviations))
        lines.append(
            f"{name:18s} {row['variant']:14s} {_with_interval(row, 'uar')} {_with_interval(row, 'war')} "
            f"{100 * row['pooled_uar']:8.2f}{100 * row['pooled_war']:8.2f} "
            f"{len(row['folds']):6d} {len(row['seeds']):5d}  {' '.join(flags)}"
        )
    return lines


def _with_interval(row: dict[str, Any], metric: str) -> str:
    low, high = (100 * bound for bound in row[f"{metric}_interval"])
    return f"{100 * row[metric]:6.2f} {f'({low:.1f}-{high:.1f})':13s}"
