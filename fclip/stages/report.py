"""`fclip report`: run folders -> tables (Markdown, LaTeX) or one HTML page with plots, clips, captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fclip.config import CommonConfig, option
from fclip.errors import FclipError, MissingOutput
from fclip.runner.report import StageReport
from fclip.stages.train import parse_options

if TYPE_CHECKING:
    from fclip.report.page.blocks import Block

ENDINGS = {"html": ".html", "markdown": ".md", "latex": ".tex"}


@dataclass(frozen=True)
class Config(CommonConfig):
    """Report the evaluated runs: one HTML page, or the tables as Markdown or LaTeX.

    Every figure is derived from stored predictions. Beside each stands what it rests on: the data, how the checkpoint
    was chosen, whether captions saw the label; and the published figures of the same method on the same data.

    Example:  fclip report --out report.html
              fclip report --dataset dfew --table finecliper-supervised --out table1.tex
    """

    runs: tuple[str, ...] = option((), "run folders [all evaluated ones in <root>/runs]", positional=True)
    format: Literal["html", "markdown", "latex"] | None = option(None, "format [by the ending of --out, else html]")
    out: Path | None = option(None, "the file to write [report.html, report.md or report.tex]")
    table: str | None = option(None, "only this table of a paper, ours beside it; e.g. finecliper-supervised")
    explain: int = option(0, "first compute, for N clips of a run of each method, why they were classified so (HTML)")
    clips: int = option(7, "clips shown with parsing, landmarks and caption, and with attention")


def run(config: Config) -> StageReport:
    """Write the report; MissingOutput when no run has been evaluated."""
    from fclip.files import atomic_write
    from fclip.report.page.html import render_html
    from fclip.report.page.markup import render_latex, render_markdown
    from fclip.report.page.sections import result_sections
    from fclip.report.published import find_table

    kind = config.format or _format_of(config.out)
    table = find_table(config.table) if config.table else None
    found = find_results(config)
    rows, members = complete_rows(found)
    for row in rows:
        row["leak"] = caption_leak(config.root / row["dataset"])
    if table is not None:
        kept = [i for i, row in enumerate(rows) if table.place(row) is not None]
        if not kept:
            raise FclipError(f"{config.root / 'runs'}: no evaluated run belongs to table {table.name}")
        rows, members = [rows[i] for i in kept], [members[i] for i in kept]
    blocks = result_sections(rows, table)
    if kind == "html":
        blocks += _html_sections(config, rows, members)
    title = table.title if table else "Results of " + ", ".join(sorted({row["dataset"] for row in rows}))
    render = {"html": render_html, "markdown": render_markdown, "latex": render_latex}[kind]
    out = config.out or Path(f"report{ENDINGS[kind]}")
    with atomic_write(out) as temp:
        temp.write_text(render(title, blocks), encoding="utf-8")
    return StageReport("report", out, {"runs": sum(map(len, members)), "rows": len(rows)}, {"results": rows})


def _format_of(out: Path | None) -> str:
    return next((kind for kind, ending in ENDINGS.items() if out and out.suffix == ending), "html")


def find_results(config: Config) -> list[dict[str, Any]]:
    """The results.json of the runs asked for, each with its folder under "folder"; MissingOutput if there is none."""
    from fclip.files import read_json

    if config.runs:
        folders = [Path(name) for name in config.runs]
        for folder in folders:
            if not (folder / "eval" / "results.json").is_file():
                raise MissingOutput(folder / "eval", f"eval {folder}")
    else:
        folders = [path.parent.parent for path in sorted((config.root / "runs").glob("*/eval/results.json"))]
    results = [{**read_json(folder / "eval" / "results.json"), "folder": folder} for folder in folders]
    results = [result for result in results if config.dataset in (None, result["dataset"])]
    if not results:
        raise MissingOutput(config.root / "runs" / "*" / "eval", "eval")
    return results


def complete_rows(results: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Rows of a report, by data set and WAR, and the results that each is the mean of."""
    from fclip.engine.evaluate.aggregate import aggregate, group_results, tell_apart
    from fclip.report.results import complete_row

    pairs = []
    for group in group_results(results):
        row = aggregate(group)
        row["trained_captions"] = training_captions(group[0])
        tables = [read_clips(member) for member in group]
        pairs.append((complete_row(row, group, tables, parse_options(tuple(row["set"] or ()))), group))
    tell_apart([row for row, _ in pairs])
    pairs.sort(key=lambda pair: (pair[0]["dataset"], pair[0]["source"] is not None, pair[0]["war"]))
    return [row for row, _ in pairs], [group for _, group in pairs]


def read_clips(result: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """{key: (true, predicted)} class indices of a result's prediction table; FclipError if it is not the result's."""
    from fclip.engine.evaluate.predictions import read_predictions

    path = result["folder"] / "eval" / "predictions.csv"
    table = read_predictions(path)
    if list(table.classes) != result["classes"] or len(table.keys) != result["clips"]:
        raise FclipError(f"{path}: does not belong to results.json beside it; make both again: fclip eval --overwrite")
    predicted = table.matrix().argmax(1).tolist()
    return dict(zip(table.keys, zip(table.true_indices().tolist(), predicted, strict=True), strict=True))


def caption_leak(folder: Path) -> float | None:
    """Accuracy of the leak probe on a data set's refined captions; None where it was not run."""
    from fclip.files import read_json

    path = folder / "refined" / "leak.json"
    return float(read_json(path)["after"]["accuracy"]) if path.is_file() else None


def training_captions(result: dict[str, Any]) -> dict[str, Any] | None:
    """Model and label_shown of the captions that a result's run was trained with; None without captions."""
    import json

    from safetensors import SafetensorError, safe_open

    run = Path(result["checkpoint"]) if result.get("checkpoint") else result["folder"]
    try:  # the header alone, without the models' libraries
        step = Path((run / "LAST").read_text(encoding="utf-8").strip()).name
        with safe_open(str(run / step / "model.safetensors"), framework="np") as file:
            facts, names = json.loads((file.metadata() or {})["fclip"]), set(file.keys())
    except (OSError, SafetensorError, KeyError, ValueError):  # nothing was trained, or the weights were moved away
        return None
    contrastive = facts["variant"] == "emoclip" and facts["options"].get("objective", "captions") == "captions"
    if "caption" in facts.get("without", ()) or not ("proj.caption" in names or contrastive):
        return None
    captions: dict[str, Any] = facts.get("captions") or {}
    return captions if captions.get("model") else None


def _html_sections(
    config: Config, rows: Sequence[dict[str, Any]], members: Sequence[Sequence[dict[str, Any]]]
) -> list[Block]:
    """What only the page shows: plots, explanations, clips and captions."""
    from fclip.report.explanations import read_explanations
    from fclip.report.logs import read_log
    from fclip.report.page.sections import explanation_sections, plot_sections, training_sections

    blocks = plot_sections(rows)
    logs = [[log for m in group if (log := read_log(m["folder"] / "metrics.jsonl"))] for group in members]
    blocks += training_sections(rows, logs)
    if config.explain:
        from fclip.report.explain_runs import explain_runs

        explain_runs(config, [group[0]["folder"] for group in members], config.explain)
    stored = {m["folder"].name: m["folder"] / "eval" / "explanations.npz" for group in members for m in group}
    found = {name: read_explanations(path) for name, path in stored.items() if path.is_file()}
    blocks += explanation_sections(found, config.clips)
    for dataset in sorted({row[name] for row in rows for name in ("dataset", "source")} - {None, "none"}):
        blocks += _data_sections(config, dataset)
    return blocks


def _data_sections(config: Config, dataset: str) -> list[Block]:
    """Clips of a data set as models see them, and its captions before and after refinement, where they lie there."""
    from fclip.report.page.clip_sections import caption_blocks, clip_blocks, leak_blocks

    folder = config.root / dataset
    return [*clip_blocks(folder, config.clips), *caption_blocks(folder), *leak_blocks(folder)]
