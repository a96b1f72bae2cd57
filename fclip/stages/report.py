"""`fclip report`: run folders -> tables (Markdown, LaTeX) or one HTML page with plots, clips, captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fclip.config import CommonConfig, option
from fclip.errors import FclipError, MissingOutput
from fclip.runner.report import StageReport

if TYPE_CHECKING:
    from fclip.engine.evaluate.aggregate import Evaluated
    from fclip.engine.evaluate.results import Row
    from fclip.report.page.blocks import Block
    from fclip.report.trials import Trial

ENDINGS = {"html": ".html", "markdown": ".md", "latex": ".tex"}


@dataclass(frozen=True)
class Config(CommonConfig):
    """Report the evaluated runs: one HTML page, or the tables as Markdown or LaTeX.

    Every figure is derived from stored predictions. Beside each stands what it rests on: the data, how the checkpoint
    was chosen, whether captions saw the label; and the published figures of the same method on the same data.

    Example:  fclip report --out report.html
              fclip report --dataset dfew --table finecliper-supervised --out table1.tex
              fclip report --published --out papers.html
    """

    runs: tuple[str, ...] = option((), "run folders [all evaluated ones in <root>/runs]", positional=True)
    format: Literal["html", "markdown", "latex"] | None = option(None, "format [by the ending of --out, else html]")
    out: Path | None = option(None, "the file to write [report.html, report.md or report.tex]")
    table: str | None = option(None, "only this table of a paper, ours beside it; e.g. finecliper-supervised")
    published: bool = option(False, "the papers' tables whole, with every published figure, whatever was run")
    captions: tuple[str, ...] = option(
        (), "instead of results: these captions folders side by side, with the facial parts that each names"
    )
    explain: int = option(0, "first compute, for N clips of a run of each method, why they were classified so (HTML)")
    attention: bool = option(
        False, "also where each frame's class token looks, the paper's Fig. 6 (with --explain, HTML)"
    )
    clips: int = option(7, "clips shown with parsing, landmarks and caption, and with what mattered in them")


def run(config: Config) -> StageReport:
    """Write the report; MissingOutput when no run has been evaluated."""
    from fclip.engine.evaluate.aggregate import make_rows
    from fclip.report.comparison import published_table
    from fclip.report.evaluated import read_leak, untrained
    from fclip.report.page.blocks import Text
    from fclip.report.page.sections import paper_sections, result_sections
    from fclip.report.published import find_table
    from fclip.report.results import caveats, legend
    from fclip.report.trials import make_trials
    from fclip.schema import as_json

    if config.captions:
        return _captioners(config)
    html = (config.format or _format_of(config.out)) == "html"
    table = find_table(config.table) if config.table else None
    rows, members = [], []
    for row, group in make_rows(_evaluated(config)):
        if table is None or table.place(row) is not None:
            leak = read_leak(config.root / row.dataset)
            rows.append(replace(row, leak=leak.after.accuracy if leak else None))
            members.append(group)
    if table is not None and not rows and not (config.published and table.has_figures):
        raise FclipError(f"{config.root / 'runs'}: no evaluated run belongs to table {table.name}")
    notes = [Text(line, note=True) for line in untrained(member for group in members for member in group)]
    blocks: list[Block] = []
    trials = make_trials(rows, members)
    if table:
        blocks += [*published_table(table, rows, everything=config.published), *([legend()] if rows else [])]
        blocks += [*caveats(rows), *notes]
    for trial in trials if not table else ():
        suffix = f": {trial.name}" if len(trials) > 1 else ""
        found = result_sections(trial, suffix)
        if trial is trials[0]:
            found[2:2] = [*notes, *_baselines_lacking(config, rows)]
        blocks += [*found, *(_trial_pictures(config, trial, suffix) if html else [])]
    blocks += [] if table else paper_sections(rows, published=config.published)
    footer = _html_sections(config, rows, members) if html and rows else []
    results = ", ".join(sorted({row.dataset for row in rows}))
    title = table.title if table else f"Results on {results}" if rows else "Published figures"
    out = _write(config, title, [*blocks, *footer], footed=bool(footer))
    counts = {"runs": sum(map(len, members)), "rows": len(rows)}
    return StageReport("report", out, counts, {"results": [as_json(row) for row in rows]})


def _write(config: Config, title: str, blocks: Sequence[Block], *, footed: bool = False) -> Path:
    """Write the blocks in the format asked for; returns the file. `footed`: of a page, the last section is its foot."""
    from fclip.files import atomic_write
    from fclip.report.page.html import render_html
    from fclip.report.page.markup import render_latex, render_markdown

    kind = config.format or _format_of(config.out)
    render: dict[str, Callable[[str, Sequence[Block]], str]] = {
        "html": partial(render_html, footed=footed),
        "markdown": render_markdown,
        "latex": render_latex,
    }
    out = config.out or Path(f"report{ENDINGS[kind]}")
    with atomic_write(out) as temp:
        temp.write_text(render[kind](title, blocks), encoding="utf-8")
    return out


def _captioners(config: Config) -> StageReport:
    """The captions of several folders side by side."""
    from fclip.report.captioners import compare_captioners
    from fclip.runner.workspace import require_folder

    folders = [require_folder(folder, "captions", config) for folder in config.captions]
    out = _write(config, "Captioners side by side", compare_captioners(folders, config.clips))
    return StageReport("report", out, {"folders": len(folders)})


def _baselines_lacking(config: Config, rows: Sequence[Row]) -> list[Block]:
    """A note for each data set with packed signals but without a run of `signals`, trained in seconds."""
    from fclip.report.evaluated import has_signals
    from fclip.report.page.blocks import Text

    trained = {row.dataset for row in rows if row.variant == "signals"}
    lacking = sorted({row.dataset for row in rows} - trained)
    note = "{0}: the first baseline is missing here, expression signals into logistic regression. It takes seconds: "
    note += "fclip train --dataset {0} --variant signals --fold FOLD, then fclip eval."
    return [Text(note.format(name), note=True) for name in lacking if has_signals(config.root / name)]


def _evaluated(config: Config) -> list[Evaluated]:
    """The evaluated runs; none are needed where the published figures are asked for."""
    from fclip.report.evaluated import find_evaluated

    try:
        return find_evaluated(config, config.runs)
    except MissingOutput:
        if config.published and not config.runs:
            return []
        raise


def _format_of(out: Path | None) -> str:
    return next((kind for kind, ending in ENDINGS.items() if out and out.suffix == ending), "html")


def _trial_pictures(config: Config, trial: Trial, suffix: str) -> list[Block]:
    """What only the page shows of a trial: worst confusions with clips, plots, training, cost."""
    from fclip.report.logs import read_log
    from fclip.report.page.blocks import Heading
    from fclip.report.page.clip_sections import clips_named
    from fclip.report.page.sections import plot_sections, training_sections
    from fclip.report.tables import confusions, cost_table

    table, shown = confusions(trial)
    found = clips_named(config.root / trial.dataset, shown) if config.clips else []
    blocks: list[Block] = [Heading(f"Worst confusions{suffix}"), table, *found] if table.rows else []
    blocks += plot_sections(trial, suffix)
    folders = [[member.folder for member in group if member.folder] for group in trial.members]
    logs = [[log for folder in group if (log := read_log(folder / "metrics.jsonl"))] for group in folders]
    blocks += training_sections(trial, logs, suffix)
    cost = cost_table(trial)
    return [*blocks, *([Heading(f"Cost{suffix}"), *cost] if cost else [])]


def _html_sections(config: Config, rows: Sequence[Row], members: Sequence[Sequence[Evaluated]]) -> list[Block]:
    """What the page shows after the results: explanations, clips and captions, and where all of it comes from."""
    from fclip.report.explanations import FILE, read_explanations
    from fclip.report.page.sections import explanation_sections
    from fclip.report.results import row_names

    folders = [[member.folder for member in group if member.folder] for group in members]
    if config.explain:
        from fclip.report.explain_runs import explain_runs

        explain_runs(config, [group[0] for group in folders], config.explain)
    found = {}
    for name, group in zip(row_names(rows), members, strict=True):
        stored = [(each.result, path) for each in group if each.out and (path := each.out / FILE).is_file()]
        for result, path in stored:
            place = f", fold {result.fold}, seed {result.seed}" if len(stored) > 1 else ""
            found[name + place] = read_explanations(path)
    blocks = explanation_sections(found, config.clips, attention=config.attention)
    for dataset in sorted({name for row in rows for name in (row.dataset, row.source) if name not in (None, "none")}):
        blocks += _data_sections(config, str(dataset))
    return [*blocks, *_provenance(folders)]


def _provenance(folders: Sequence[Sequence[Path]]) -> list[Block]:
    """The foot of the page: what made the report, and each run that says so: command, versions, machine, times."""
    from fclip import __version__
    from fclip.engine.provenance import read_provenance
    from fclip.report.page.blocks import Heading, Table, Text

    found = [(folder.name, made) for group in folders for folder in group if (made := read_provenance(folder))]
    head = ("run", "command", "recipe", "fclip", "torch", "CUDA", "host", "device", "started", "seconds")
    rows = [
        (
            name,
            made.command,
            ", ".join(f"{key} {value}" for key, value in made.recipe.items() if value not in (None, [], ())),
            *(made.fclip, made.torch, made.cuda, made.host, made.device, made.started, made.seconds),
        )
        for name, made in found
    ]
    text = f"Made by fclip {__version__} from the stored predictions of {sum(map(len, folders))} runs."
    return [Heading("Where the runs come from"), Text(text), *([Table(head, rows)] if rows else [])]


def _data_sections(config: Config, dataset: str) -> list[Block]:
    """Clips of a data set as models see them, and its captions before and after refinement, where they lie there."""
    from fclip.report.page.clip_sections import caption_blocks, clip_blocks, leak_blocks

    folder = config.root / dataset
    return [*clip_blocks(folder, config.clips), *caption_blocks(folder), *leak_blocks(folder)]
