"""What a row of results is called, what it rests on, and its figures as cells. Rates are fractions in rows, percent in
cells."""

from __future__ import annotations

from collections.abc import Sequence

from fclip.engine.evaluate.results import Metric, Row
from fclip.records import RENDERED, CaptionSource
from fclip.report.page.blocks import Block, Cell, Flag, Interval, Measure, Text

METRICS: tuple[Metric, ...] = ("uar", "war")
FLATTERING = ("IN-DOMAIN", "BEST ON TEST", "SAW THE LABEL")
SELECTIONS = {"last": "last checkpoint", "val": "best on a held-out part", "best-on-test": "BEST ON TEST"}


def is_in_domain(row: Row) -> bool:
    """Whether a transfer was tested on the data set that it was trained on."""
    return row.source == row.dataset


def data_name(row: Row) -> str:
    """The data set, with the source of a transfer before it."""
    if row.source in (None, "none"):
        return str(row.dataset)
    return f"{row.source} → {row.dataset}"


def method_name(row: Row) -> str:
    """The variant with the options and modalities that make it differ from its default, or from other rows."""
    notes = [f"{name}={value}" for name, value in {**row.options, **row.differs}.items()]
    without = row.without or ()
    if row.source is None:
        notes += [f"without {name}" for name in without]
    elif row.source != "none" and "caption" not in without:  # a transfer is tested without captions unless told to
        notes.append("tested with captions")
    return f"{row.variant} ({', '.join(notes)})" if notes else row.variant


def row_names(rows: Sequence[Row]) -> list[str]:
    """Short names that tell rows from one another: the method, and what else varies or is unusual."""
    several_sets, several_clips = len({row.dataset for row in rows}) > 1, len({row.clip for row in rows} - {None}) > 1
    names: list[str] = []
    for row in rows:
        parts = [row.dataset] if several_sets else []
        parts.append(method_name(row))
        if row.source not in (None, "none"):
            parts.append(f"trained on {row.source}")
        if several_clips and row.clip:
            parts.append(row.clip)
        if row.selection != "last":
            parts.append(str(row.selection))
        name = ", ".join(parts)
        if name in names and row.trained_with:
            name += f", captions by {row.trained_with.kind}"
        names.append(name if name not in names else f"{name} ({names.count(name) + 1})")
    return names


def rests_on(row: Row) -> str:
    """What a result rests on: data, selection mode, captions and whether they saw the label. A Flag if it flatters."""
    seen, used = row.trained_with, row.captions
    parts = ["rendered faces"] if row.dataset in RENDERED else []
    if row.source is not None:
        parts.append("IN-DOMAIN, not zero-shot" if is_in_domain(row) else "zero-shot")
    if row.trainable or row.source not in (None, "none"):
        parts.append(SELECTIONS.get(str(row.selection), str(row.selection)))
    for captions, where in _uses(seen, used):
        how = "that SAW THE LABEL" if captions.label_shown else "label-blind"
        alone = row.leak if captions is used or row.source is None else None
        told = f"; the words alone tell {100 * alone:.1f} % of labels" if alone is not None else ""
        parts.append(f"{where} captions ({captions.model}, {how}{told})")
    if not seen and not used:
        parts.append("no captions")
    elif seen and row.source not in (None, "none") and not used:
        parts.append("tested without captions")
    text = "; ".join(parts)
    return Flag(text) if any(word in text for word in FLATTERING) else text


def is_flattered(row: Row) -> bool:
    """Whether a result rests on something that makes it look better than it is."""
    return isinstance(rests_on(row), Flag)


def _uses(seen: CaptionSource | None, used: CaptionSource | None) -> list[tuple[CaptionSource, str]]:
    """The captions that were used, and what for."""
    if seen and seen == used:
        return [(used, "trained and tested with")]
    return [(captions, where) for captions, where in ((seen, "trained with"), (used, "tested with")) if captions]


def folds_text(folds: Sequence[str]) -> str:
    """fold 1; folds 1 to 5; folds 1, 3."""
    numbers = sorted(int(fold) for fold in folds) if all(fold.isdecimal() for fold in folds) else []
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"folds {numbers[0]} to {numbers[-1]}"
    return f"fold{'s' * (len(folds) > 1)} {', '.join(folds)}"


def digits_for(clips: int) -> int:
    """Digits of a percentage of so many clips: one clip more or less changes the last one."""
    return 0 if clips < 100 else 1 if clips < 2000 else 2


def figures(row: Row, best: Sequence[bool] = (False, False)) -> list[Cell]:
    """UAR and WAR in percent with deviation over seeds, and their intervals; `best`: which of the two is."""
    digits, several = digits_for(row.test_clips), len(row.seeds) > 1
    rates = [row.rate(metric) for metric in METRICS]
    measures: list[Cell] = [
        Measure(100 * rate.mean, 100 * rate.deviation if several else None, digits, is_best)
        for rate, is_best in zip(rates, best, strict=True)
    ]
    return measures + [interval(rate.interval, min(digits, 1)) for rate in rates]


def interval(bounds: Sequence[float], digits: int = 1) -> Interval:
    """An interval in percent."""
    return Interval(100 * bounds[0], 100 * bounds[1], digits)


FIGURES = ("UAR", "WAR", "UAR 95 %", "WAR 95 %")
PUBLISHED = ("published UAR", "published WAR")


def legend() -> Text:
    """What the columns of every table of results mean."""
    return Text(
        "UAR: mean recall over the classes that a fold has, which decides the order; WAR: accuracy; ECE: expected "
        "calibration error; all in percent, with as many digits as the number of clips can carry. Means over folds, "
        "then over seeds; ± is the deviation over seeds; intervals are bootstrap over the test clips. Bold: the best "
        "of its column, flattered results left aside."
    )


def caveats(rows: Sequence[Row]) -> list[Block]:
    """What a reader of the table must know, only as far as it applies."""
    notes = []
    if any(row.selection == "best-on-test" for row in rows):
        notes.append(
            "BEST ON TEST: the checkpoint was chosen on the test part, as published figures of the field often"
            " are; such figures are optimistic."
        )
    if any(is_in_domain(row) for row in rows):
        notes.append("IN-DOMAIN: trained on the data set that is tested; this is no zero-shot transfer.")
    if any(used and used.label_shown for row in rows for used in (row.captions, row.trained_with)):
        notes.append("SAW THE LABEL: the captions were written by someone, or a model, that knew the label.")
    for row in rows:
        name = f"{method_name(row)} on {data_name(row)}"
        for fold, seed in row.repeated[:1]:
            notes.append(
                f"{name}: fold {fold}, seed {seed} was run several times with other settings; the row is the "
                "mean. Name the runs to tell them apart."
            )
        for fold, seed in row.lacking[:1]:
            notes.append(f"{name}: fold {fold}, seed {seed} is missing; seeds are not comparable until it has run.")
    return [Text(note, note=True) for note in notes]
