"""Methods that were tested on the same clips of one data set: what may stand in one table, in order, and what it says.

Only inside a trial are figures compared, so that neither another data set nor other clips decide who is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fclip.engine.evaluate.aggregate import Evaluated
from fclip.engine.evaluate.bootstrap import Clips, fold_clips
from fclip.engine.evaluate.compare import Difference, compare_folds
from fclip.engine.evaluate.results import Row
from fclip.records import RENDERED
from fclip.report.results import digits_for, folds_text, is_flattered, method_name, row_names

FINECLIPER = ("base", "star", "dagger", "star-dagger")
GROUPS = ("FineCLIPER's variants", "Baselines", "Transfer: trained on other data, or not at all")
Members = Sequence[Evaluated]


@dataclass(frozen=True)
class Trial:
    """Rows tested on the same clips, group by group (GROUPS), in each the best UAR first; `members[i]`: the results
    that `rows[i]` is the mean of."""

    rows: tuple[Row, ...]
    members: tuple[Members, ...]

    @property
    def dataset(self) -> str:
        """The data set that was tested."""
        return self.rows[0].dataset

    @cached_property
    def names(self) -> list[str]:
        """Names that tell the rows apart."""
        return row_names(self.rows)

    @property
    def name(self) -> str:
        """Data set and folds."""
        return f"{self.dataset}, {folds_text(self.rows[0].folds)}"

    @property
    def digits(self) -> int:
        """Digits of a percentage that its clips can carry: one clip more or less changes the last one."""
        return digits_for(self.rows[0].test_clips)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Test clips of each class."""
        classes, folds = self.rows[0].classes, [fold_clips(seeds) for seeds in self.tables(0)]
        found = np.bincount(np.concatenate([fold.true for fold in folds]), minlength=len(classes)).tolist()
        return dict(zip(classes, found, strict=True))

    def tables(self, index: int) -> list[list[Clips]]:
        """The predictions of a row: of each fold those of its seeds."""
        by_fold: dict[str, list[Clips]] = {}
        for member in self.members[index]:
            by_fold.setdefault(member.result.fold, []).append(member.clips)
        return [group for _, group in sorted(by_fold.items())]

    def groups(self) -> list[tuple[int, str]]:
        """(index of its first row, name) of each group, where there are several."""
        kinds = [group_of(row) for row in self.rows]
        starts = [(i, GROUPS[kind]) for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]
        return starts if len(starts) > 1 else []

    @cached_property
    def best(self) -> int:
        """Index of the row with the highest UAR among those that nothing flatters; among all where all are."""
        honest = [i for i, row in enumerate(self.rows) if not is_flattered(row)] or range(len(self.rows))
        return max(honest, key=lambda i: (self.rows[i].uar, self.rows[i].war, -i))

    @cached_property
    def rival(self) -> int | None:
        """Index of the row that the best one is tested against: the best baseline, or of a baseline the best variant.

        Without such a row the plain variant `base`, else the best one of the rest; None where there is no other.
        """
        others = [i for i, row in enumerate(self.rows) if i != self.best and not is_flattered(row)]
        wanted = 0 if group_of(self.rows[self.best]) == 1 else 1
        plain = [i for i in others if method_name(self.rows[i]) == "base"]
        chosen = [i for i in others if group_of(self.rows[i]) == wanted] or plain or others
        return max(chosen, key=lambda i: self.rows[i].uar, default=None)

    def difference(self, first: int, second: int) -> Difference:
        """The first row less the second, on the same clips."""
        return compare_folds(self.tables(first), self.tables(second), len(self.rows[0].classes))


def group_of(row: Row) -> int:
    """Index in GROUPS of the group that a row belongs to."""
    return 2 if row.source is not None else 0 if row.variant in FINECLIPER else 1


def make_trials(rows: Sequence[Row], members: Sequence[Members]) -> list[Trial]:
    """The trials of these rows, by data set, those with the most methods first."""
    found: dict[tuple[str, tuple[str, ...], frozenset[tuple[str, str]]], list[tuple[Row, Members]]] = {}
    for row, group in zip(rows, members, strict=True):
        clips = frozenset((each.result.fold, key) for each in group for key in each.clips)
        found.setdefault((row.dataset, row.classes, clips), []).append((row, group))
    trials = []
    for pairs in found.values():
        pairs.sort(key=lambda pair: (group_of(pair[0]), -pair[0].uar, -pair[0].war))
        trials.append(Trial(tuple(row for row, _ in pairs), tuple(group for _, group in pairs)))
    return sorted(trials, key=lambda trial: (trial.dataset, -len(trial.rows), -trial.rows[0].test_clips))


def measured(trial: Trial) -> str:
    """What was measured and on what, in a sentence."""
    row, methods = trial.rows[0], len(trial.rows)
    seeds = sorted({len(each.seeds) for each in trial.rows})
    of_seeds = " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))
    rendered = " The faces are rendered: nothing here is said of real ones." if trial.dataset in RENDERED else ""
    return (
        f"{_plural(methods, 'method')} tested on the same {row.test_clips:,} clips of {trial.dataset} "
        f"({folds_text(row.folds)}, {_plural(len(row.classes), 'class', 'classes')}), trained with "
        f"{of_seeds} seed{'s' * (seeds != [1])} each.{rendered}"
    )


def verdict(trial: Trial) -> list[str]:
    """Which method wins, and whether its lead over the baseline is more than chance, in sentences."""
    best, name = trial.rows[trial.best], trial.names[trial.best]
    low, high = best.uar_interval
    present = sum(count > 0 for count in trial.counts.values())
    aside = ", results that something flatters left aside" if any(row.uar > best.uar for row in trial.rows) else ""
    lines = [
        f"{name} has the highest UAR{aside}: {_percent(trial, best.uar)} % (95 % interval {_percent(trial, low)} to "
        f"{_percent(trial, high)}; guessing gives {100 / max(present, 1):.0f} %), and a WAR of "
        f"{_percent(trial, best.war)} %."
    ]
    if trial.rival is not None:
        lines.append(_paired(trial, trial.rival))
    if len(trial.rows) > 2:
        lines.append(f"It was picked as the best of {len(trial.rows)} after the test, which flatters it a little.")
    if len(best.seeds) == 1 and best.trainable:
        lines.append("With one seed, the intervals say how much hangs on the clips, not on the luck of training.")
    return lines


def _paired(trial: Trial, rival: int) -> str:
    """The lead of the best row over another, tested on the same clips."""
    found, row, best = trial.difference(trial.best, rival), trial.rows[rival], trial.rows[trial.best]
    digits, points = max(1, trial.digits), 100 * found.uar
    low, high = (100 * bound for bound in found.uar_interval)
    if group_of(row) == 1:
        what = ", the strongest baseline"
    elif group_of(row) == 0 and group_of(best) == 1:
        what = ", the best of FineCLIPER's variants"
    else:
        what = ", which reads frames only" if method_name(row) == "base" else ", the next best"
    lead = f"{abs(points):.{digits}f} points of UAR {'ahead of' if points >= 0 else 'behind'}"
    sure = low > 0 or high < 0
    says = "more than chance" if sure else f"no more than chance can do on {found.clips:,} clips"
    test = "" if found.mcnemar_p is None else f" Of WAR, McNemar's test says p = {found.mcnemar_p:.2g}."
    return (
        f"On the same clips it is {lead} {trial.names[rival]}{what} (paired bootstrap, 95 % interval of the "
        f"difference {low:+.{digits}f} to {high:+.{digits}f}): {says}.{test}"
    )


def _percent(trial: Trial, rate: float) -> str:
    return f"{100 * rate:.{trial.digits}f}"


def _plural(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def best_values(values: Mapping[int, float | None]) -> set[int]:
    """Indices of the highest of some values; several where they are equal."""
    there = {i: value for i, value in values.items() if value is not None}
    return {i for i, value in there.items() if value == max(there.values())}
