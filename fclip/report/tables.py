"""The tables of one trial: results, recall of each class, worst confusions, cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fclip.engine.evaluate.predictions import read_predictions
from fclip.engine.provenance import Provenance, read_provenance
from fclip.report.page.blocks import Block, Cell, Measure, Table, drop_empty_columns
from fclip.report.published import published_figures
from fclip.report.results import FIGURES, METRICS, PUBLISHED, figures, interval, is_flattered, rests_on
from fclip.report.trials import Trial, best_values

HEAD = ("method", "CLIP", *FIGURES, *PUBLISHED, "ECE", "seeds", "trained parameters", "rests on")
WORST, LOOK = 6, 3  # confusions that are listed; clips that are named of each


def results_table(trial: Trial) -> Table:
    """All results of a trial, beside the published figures of the same data set, method and CLIP model."""
    honest = [i for i, row in enumerate(trial.rows) if not is_flattered(row)]
    best = [best_values({i: trial.rows[i].rate(metric).mean for i in honest}) for metric in METRICS]
    several_clips = len({row.clip for row in trial.rows} - {None}) > 1
    several_seeds = len({len(row.seeds) for row in trial.rows}) > 1
    lines: list[list[Cell]] = []
    for i, (name, row) in enumerate(zip(trial.names, trial.rows, strict=True)):
        found = published_figures(row)
        uar, war = found[1] if found else (None, None)
        ece = None if row.ece is None else Measure(100 * row.ece, digits=trial.digits)
        about: list[Cell] = [ece, len(row.seeds) if several_seeds else None, row.trainable or None, rests_on(row)]
        shown = figures(row, [i in there for there in best])
        clip = row.clip if several_clips else None
        lines.append([name, clip, *shown, uar, war, *about, found[0].rests_on(row.dataset) if found else None])
    caption = f"{trial.name}: {trial.rows[0].test_clips:,} clips; the highest UAR first"
    head = [*HEAD, "published figures rest on"]
    return drop_empty_columns(Table(head, lines, caption, trial.groups()))


def pooled_table(trial: Trial) -> list[Block]:
    """The results of several folds once more, every clip counted once whatever its fold; nothing with one fold."""
    if len(trial.rows[0].folds) < 2:
        return []
    digits = trial.digits
    lines: list[list[Cell]] = [
        [
            name,
            Measure(100 * row.pooled_uar, digits=digits),
            Measure(100 * row.pooled_war, digits=digits),
            interval(row.pooled_uar_interval, min(digits, 1)),
            interval(row.pooled_war_interval, min(digits, 1)),
        ]
        for name, row in zip(trial.names, trial.rows, strict=True)
    ]
    caption = f"{trial.name}, pooled: metrics of all test clips together, not means over folds"
    return [Table(["method", *FIGURES], lines, caption, trial.groups())]


def scene_tables(trial: Trial) -> list[Block]:
    """UAR and WAR in each scene where the data set names them (FERV39k); nothing where none does."""
    scenes = sorted({name for row in trial.rows for name in row.scenes})
    counts = {s: max(row.scenes[s].clips for row in trial.rows if s in row.scenes) for s in scenes}
    blocks: list[Block] = []
    for metric in METRICS if scenes else ():
        lines: list[list[Cell]] = [
            [name, *(Measure(100 * row.scenes[s].rate(metric), digits=1) if s in row.scenes else None for s in scenes)]
            for name, row in zip(trial.names, trial.rows, strict=True)
        ]
        head = ["method", *(f"{scene} ({counts[scene]:g})" for scene in scenes)]
        caption = f"{metric.upper()} of each scene in percent, and its clips a fold"
        blocks.append(Table(head, lines, caption, trial.groups()))
    return blocks


def recall_table(trial: Trial) -> Table:
    """Recall of each class in percent with its number of clips, pooled over folds and seeds."""
    best = {name: best_values({i: row.recall[name] for i, row in enumerate(trial.rows)}) for name in trial.counts}
    lines: list[list[Cell]] = []
    for i, (name, row) in enumerate(zip(trial.names, trial.rows, strict=True)):
        recalls = [
            None if value is None else Measure(100 * value, digits=trial.digits, best=i in best[label])
            for label, value in row.recall.items()
        ]
        lines.append([name, *recalls])
    head = ["method", *(f"{label} ({count:,})" for label, count in trial.counts.items())]
    caption = f"{trial.name}: recall in percent, pooled over folds and seeds; in brackets the clips of each class"
    return Table(head, lines, caption, trial.groups())


def confusions(trial: Trial) -> tuple[Table, dict[str, str]]:
    """The worst confusions of the best method with clips of each, the surest errors first; and what to say of the
    surest one of each, {key: text}."""
    row = trial.rows[trial.best]
    wrong: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for member in trial.members[trial.best]:
        if member.out is None:
            continue
        table = read_predictions(member.out / "predictions.csv")
        shares = table.matrix().max(axis=1, initial=0.0)
        for key, true, predicted, share in zip(table.keys, table.true, table.predicted, shares, strict=True):
            if true != predicted:
                wrong.setdefault((true, predicted), []).append((-float(share), key))
    lines: list[list[Cell]] = []
    shown: dict[str, str] = {}
    total = dict(zip(row.classes, np.sum(row.confusion, axis=1).tolist(), strict=True))
    for (true, predicted), found in sorted(wrong.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:WORST]:
        keys = list(dict.fromkeys(key for _, key in sorted(found)))[:LOOK]
        share = Measure(100 * len(found) / total[true], digits=0)
        lines.append([true, predicted, f"{len(found):,} of {total[true]:,}", share, ", ".join(keys)])
        shown.setdefault(keys[0], f"{keys[0]}: {true}, taken for {predicted}.")
    caption = f"{trial.names[trial.best]}: where it errs most, and clips to look at, its surest errors first"
    head = ["true", "taken for", "predictions", "% of the class", "clips"]
    return Table(head, lines, caption), shown


def cost_table(trial: Trial) -> list[Block]:
    """What the methods of a trial cost: trained parameters, seconds and memory of training a run; where it is known."""
    lines: list[list[Cell]] = []
    for name, row, members in zip(trial.names, trial.rows, trial.members, strict=True):
        made = [found for each in members if (found := _provenance(each.result.checkpoint, each.folder))]
        memory = [each.memory_mib for each in made if each.memory_mib is not None]
        lines.append(
            [
                name,
                row.trainable or 0,
                _mean([each.seconds for each in made]),
                max(memory, default=None),
                ", ".join(sorted({each.device for each in made})) or None,
            ]
        )
    head = ["method", "trained parameters", "seconds to train a run", "memory in MiB, at most", "device"]
    caption = f"{trial.name}: the last process of each run; a run that was resumed took longer"
    return [drop_empty_columns(Table(head, lines, caption, trial.groups()))] if any(line[2] for line in lines) else []


def _provenance(checkpoint: str | None, folder: Path | None) -> Provenance | None:
    """How the run behind a result was trained."""
    where = Path(checkpoint) if checkpoint else folder
    return read_provenance(where) if where else None


def _mean(values: Sequence[float]) -> Measure | None:
    return Measure(float(np.mean(values)), digits=1 if np.mean(values) < 100 else 0) if values else None
