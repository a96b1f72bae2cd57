"""`fclip report`: run folders -> one self-contained HTML page with tables, plots, clips and captions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fclip.config import CommonConfig, option
from fclip.errors import MissingOutput
from fclip.stages.result import StageReport
from fclip.stages.workspace import list_shards

if TYPE_CHECKING:
    from fclip.report.page import Page


@dataclass(frozen=True)
class Config(CommonConfig):
    """Make one HTML page from the evaluated runs: results, confusion matrices, curves, clips, captions.

    Every figure is derived from stored predictions; how a checkpoint was chosen and whether captions saw the label
    stands beside each.

    Example:  fclip report --out report.html
    """

    out: Path = option(Path("report.html"), "the HTML file")
    clips: int = option(6, "clips on the contact sheet")


def run(config: Config) -> StageReport:
    """Write the page; MissingOutput when no run has been evaluated."""
    from fclip.data.files import atomic_write, read_json
    from fclip.engine.aggregate import aggregate
    from fclip.report.page import Page

    found = sorted((config.root / "runs").glob("*/eval/results.json"))
    if not found:
        raise MissingOutput(config.root / "runs" / "*" / "eval", "eval")
    results = [r for r in map(read_json, found) if config.dataset in (None, r["dataset"])]
    rows = sorted(aggregate(results), key=lambda r: (r["dataset"], bool(r.get("source")), r["war"]))
    page = Page("fclip report")
    add_results(page, rows)
    add_matrices(page, rows)
    add_curves(page, config.root)
    for name in sorted({r["dataset"] for r in results}):
        add_clips(page, config.root / name, config.clips)
        add_captions(page, config.root / name)
    with atomic_write(config.out) as temp:
        temp.write_text(page.render(), encoding="utf-8")
    return StageReport("report", config.out, {"runs": len(results), "rows": len(rows)})


def add_results(page: Page, rows: list[dict[str, Any]]) -> None:
    """The table of results with what each figure rests on."""
    page.heading("Results")
    head = [
        "data set",
        "variant",
        "CLIP",
        "UAR %",
        "WAR %",
        "± WAR",
        "folds",
        "seeds",
        "clips",
        "trainable",
        "modalities",
        "checkpoint",
        "captions",
    ]
    table = []
    for row in rows:
        name = f"{row['source']} → {row['dataset']}" if row.get("source") else row["dataset"]
        captions = row.get("captions") or {}
        shown = (
            "not used"
            if not captions
            else f"{captions['model']}, " + ("SAW THE LABEL" if captions["label_shown"] else "label-blind")
        )
        table.append(
            [
                name,
                row["variant"],
                row["clip"],
                100 * row["uar"],
                100 * row["war"],
                100 * row["war_deviation"],
                len(row["folds"]),
                len(row["seeds"]),
                row["clips"],
                row["trainable"] or 0,
                ", ".join(row["modalities"] or []),
                row["selection"] or "-",
                shown,
            ]
        )
    page.table(head, table)
    page.text(
        "UAR: mean recall over classes. WAR: accuracy. Means over folds, then over seeds; ± is the deviation over "
        "seeds. Rendered faces (demo7, demo11) say nothing about real ones."
    )
    if any(row["selection"] == "best-on-test" for row in rows):
        page.text(
            "Rows with best-on-test chose their checkpoint on the test part, as published figures of the field do; "
            "they are optimistic.",
            note=True,
        )


def add_matrices(page: Page, rows: list[dict[str, Any]]) -> None:
    """Confusion matrices pooled over folds and seeds, and recall per class of the trained variants."""
    from fclip.report.plots import confusion_plot, recall_plot

    page.heading("Confusion matrices")
    page.pictures([(confusion_plot(r["confusion"], r["classes"], _name(r)), _name(r)) for r in rows])
    trained: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        trained.setdefault(row["dataset"], {})[_name(row)] = row["recall"]
    for dataset, recalls in trained.items():
        page.pictures([(recall_plot(recalls), f"Recall of each class, {dataset}")])


def _name(row: dict[str, Any]) -> str:
    return (
        f"{row['source']} → {row['dataset']}, {row['variant']}"
        if row.get("source")
        else f"{row['dataset']}, {row['variant']}"
    )


def add_curves(page: Page, root: Path) -> None:
    """Loss curves of all runs that were trained."""
    from fclip.engine.runs import RunFolder
    from fclip.report.plots import curves_plot

    curves = {}
    for path in sorted((root / "runs").glob("*/metrics.jsonl"))[:12]:
        curves[path.parent.name] = RunFolder(path.parent).read_log()
    if curves:
        page.heading("Training")
        page.pictures([(curves_plot(curves), "Training loss, mean over ten steps")])


def add_clips(page: Page, folder: Path, clips: int) -> None:
    """A contact sheet of clips with parsing and landmarks, as the models see them."""
    import io

    import numpy as np

    from fclip.data.packed import PackedSample, parse_packed
    from fclip.data.records import FaceTrack
    from fclip.data.shards import read_shard
    from fclip.faces.preview import contact_sheet

    packed = folder / "packed"
    if not (packed / "manifest.json").is_file():
        return
    seen: dict[str, PackedSample] = {}
    for path, _ in list_shards(packed, ".tar", "packed"):
        for key, fields in read_shard(path):
            label = json.loads(fields["json"])["label"]
            if label not in seen and "parsing.png" in fields and len(seen) < clips:
                seen[label] = parse_packed(key, fields)
    rows = []
    for sample in seen.values():
        if sample.parsing is not None and sample.landmarks is not None:
            confidence = np.asarray(sample.info["confidence"], np.float32)
            track = FaceTrack(sample.parsing, sample.landmarks, confidence)
            rows.append((sample.frames, track, f"{sample.key} {sample.info['label']}"))
    if not rows:
        return
    sheet = contact_sheet(rows)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    page.heading(f"Clips of {folder.name}")
    page.pictures([(buffer.getvalue(), "Frames, parsing and landmarks of one clip a class")])


def add_captions(page: Page, folder: Path, most: int = 8) -> None:
    """Captions before and after refinement, with what was cut and why."""
    from fclip.data.jsonl import read_captions

    before, after = folder / "captions", folder / "refined"
    if not (after / "manifest.json").is_file() or not (before / "manifest.json").is_file():
        return
    rows = []
    for path, _ in list_shards(after, ".jsonl", "refined"):
        raw = read_captions(before / path.name)
        for key, record in read_captions(path).items():
            cut = "; ".join(f"“{text}” ({reason})" for text, reason in record.removed) or "nothing"
            rows.append((bool(record.removed), [key, raw[key].text, record.text, cut]))
    rows.sort(key=lambda row: not row[0])
    if rows:
        page.heading(f"Captions of {folder.name}, before and after refinement")
        page.table(["clip", "before", "after", "cut"], [row for _, row in rows[:most]])
        cuts = sum(1 for was_cut, _ in rows if was_cut)
        page.text(f"{cuts} of {len(rows)} captions were cut.")
        _add_leak(page, folder)


def _add_leak(page: Page, folder: Path) -> None:
    path = folder / "refined" / "leak.json"
    if path.is_file():
        rows = json.loads(path.read_text(encoding="utf-8"))
        page.table(
            ["captions", "accuracy of a bag-of-words classifier %", "95 % interval", "majority class %"],
            [
                [
                    name,
                    100 * r["accuracy"],
                    f"{100 * r['interval'][0]:.1f} to {100 * r['interval'][1]:.1f}",
                    100 * r["majority"],
                ]
                for name, r in rows.items()
            ],
        )
        page.text(
            "How well the captions alone give the label away; what is above the majority rate is either movement "
            "that the label really shows in, or a leak."
        )
