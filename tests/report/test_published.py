"""Every published figure: as in its source, in the report, and beside those of our results that are the same."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from fclip.engine.evaluate.aggregate import make_rows
from fclip.errors import UsageError
from fclip.records import CaptionSource
from fclip.registry import VARIANTS
from fclip.report.comparison import published_table
from fclip.report.evaluated import find_evaluated
from fclip.report.page.blocks import Block, Flag, Heading, Table, Text
from fclip.report.page.sections import paper_sections, published_points, weight_pictures
from fclip.report.published import (
    contradictions,
    find_table,
    published_figures,
    published_methods,
    published_tables,
)
from fclip.report.tables import results_table
from fclip.report.trials import make_trials
from fclip.stages import report
from tests.report.runs import SEVEN, column, rows_of, write_comparison, write_run

SAW = CaptionSource("video-llava", True)
PAPERS = {"finecliper": "FineCLIPER (MM 2024)", "dfer-clip": "DFER-CLIP (BMVC 2023)"}


def table_of(blocks: list[Block]) -> Table:
    return next(block for block in blocks if isinstance(block, Table))


def tables_of(blocks: list[Block]) -> list[Table]:
    return [block for block in blocks if isinstance(block, Table)]


def published_cells(blocks: list[Block]) -> dict[tuple[str, ...], tuple[object, ...]]:
    """{(where, row, backbone, data set): (UAR, WAR, parameters)} of all lines with published figures."""
    cells = {}
    for table in (block for block in blocks if isinstance(block, Table) and "published WAR" in block.head):
        names = ("method", "published backbone", "data", "published UAR", "published WAR")
        more = ("published parameters in millions", "published figures rest on")
        lines = zip(
            *(column(table, n) if n in table.head else [None] * len(table.rows) for n in (*names, *more)), strict=True
        )
        for label, backbone, data, uar, war, millions, basis in lines:
            if war is not None and "ours" not in str(label):
                cells[str(basis).partition(";")[0], label, backbone or "", data] = (uar, war, millions)
    return cells


def test_every_cell_of_the_source_stands_in_the_report(reference: Path) -> None:
    """Whatever lines the source holds: each is a line of the page, with its figures, and there are no others."""
    with (reference / "published-tables.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert lines
    shown = published_cells(paper_sections([], published=True))
    for line in lines:
        number = re.match(r"\d+", line["table"])
        assert number is not None
        where = f"{PAPERS[line['paper']]}, Table {number[0]}"
        found = shown.pop((where, line["row"], line["backbone"], line["dataset"]))
        millions = int(line["tunable_millions"]) if line["tunable_millions"] else None
        assert found == (float(line["uar"]), float(line["war"]), millions), line
        venue = next(
            r.venue for t in published_tables().values() for r in t.rows if (r.where, r.label) == (where, line["row"])
        )
        assert venue == line["venue"]
    assert shown == {}


def test_every_recall_of_the_source_stands_in_the_report(reference: Path) -> None:
    with (reference / "published-recall-dfew.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    blocks = published_table(find_table("finecliper-classes"), [], everything=True)
    table = table_of(blocks)
    assert column(table, "method") == [line["row"] for line in lines]
    notes = " ".join(block.text for block in blocks if isinstance(block, Text))
    for line, row in zip(lines, table.rows, strict=True):
        shown = dict(zip(table.head, row, strict=True))
        for name in (*SEVEN, "UAR", "WAR"):
            assert shown[name] == float(line[name.lower()]), (line["row"], name)
        told = f"{line['row']}: the printed recalls average to {line['mean_of_recalls']}" in notes
        assert told == (abs(float(line["mean_of_recalls"]) - float(line["uar"])) > 0.05), line["row"]


def test_the_record_names_real_variants_and_options_and_its_own_methods():
    methods, tables = published_methods(), published_tables()
    for method in methods.values():
        VARIANTS.make_options(method.variant, method.set)
    used = {id(row.method) for table in tables.values() for row in table.rows if row.method}
    assert used == {id(method) for method in methods.values()}
    assert len(tables) == 17 and all(table.rows for table in tables.values())
    numbers = [title.partition(":")[0] for title in (table.title for table in tables.values())]
    assert numbers[:10] == [f"FineCLIPER, {n}" for n in (*(f"Table {i}" for i in range(1, 10)), "Fig. 8")]
    assert numbers[10:15] == [f"DFER-CLIP, Table {i}" for i in range(1, 6)]
    with pytest.raises(UsageError, match="finecliper-supervised"):
        find_table("nonsense")


def test_where_the_papers_contradict_themselves_the_notes_say_so():
    notes = {name: " ".join((*table.notes, *contradictions(table))) for name, table in published_tables().items()}
    for uar, mean in (("62.81", "61.21"), ("64.89", "64.61"), ("65.72", "66.71"), ("65.98", "67.87")):
        assert f"average to {mean}, the printed UAR is {uar}" in notes["finecliper-classes"]
    for method in ("S2D", "EST"):
        assert (
            f"{method} on dfew" in notes["finecliper-supervised"] and f"{method} on dfew" in notes["finecliper-classes"]
        )
    rows = {row.backbone: row.figures for row in find_table("finecliper-backbones").rows}
    assert all(rows["CLIP ViT-B/32"][d][1] > rows["CLIP ViT-B/16"][d][1] for d in rows["CLIP ViT-B/16"])
    assert "ViT-B/32 above ViT-B/16, and 20 M" in notes["finecliper-backbones"]
    scales = {row.label: row.figures["mafw"] for row in find_table("finecliper-scale").rows}
    assert scales["0.7"][1] > scales["0.5"][1] and scales["0.7"][0] < scales["0.5"][0]
    assert "s = 0.7 on MAFW" in notes["finecliper-scale"]


def test_in_domain_cells_of_the_zero_shot_table_are_flagged():
    total = 0
    for table in tables_of(published_table(find_table("finecliper-zeroshot"), [], everything=True)):
        assert set(column(table, "data")) == {table.caption}, "no table mixes data sets"
        trained = [
            (str(method).partition(", ")[2][:4].strip().lower(), data)
            for method, data in zip(column(table, "method"), column(table, "data"), strict=True)
        ]
        bases = column(table, "published figures rest on")
        flagged = [isinstance(basis, Flag) and "IN-DOMAIN" in basis for basis in bases]
        assert flagged == [source == str(data)[:4] and bool(source) for source, data in trained]
        total += sum(flagged)
    assert total == 6


def test_published_figures_stand_only_beside_the_same_data_method_clip_and_captions(tmp_path):
    real = {"dataset": "dfew", "clip": "ViT-B-16"}
    write_run(tmp_path, "base", "1", 0, **real)
    write_run(tmp_path, "base", "1", 0, **real, name="scaled", set=("scale=0.3", "negative_word=no"))
    write_run(tmp_path, "base", "1", 0, **real, name="other", set=("scale=0.4",))
    write_run(tmp_path, "base", "1", 0, **real, name="from another version", set=("gone=1",))
    write_run(tmp_path, "star", "1", 0, dataset="dfew", clip="ViT-B-32")
    write_run(tmp_path, "star", "1", 0, **real, name="cut", without=("parsing",))
    write_run(tmp_path, "base", "1", 0, dataset="demo7")
    write_run(tmp_path, "r3d-18", "1", 0, dataset="dfew", clip="ViT-B-32", set=("weights=pretrained",))
    pairs = make_rows(find_evaluated(report.Config(root=tmp_path), ()))
    by_name = {group[0].result.run: row for row, group in pairs}
    quoted = {name: found[1] for name, row in by_name.items() if (found := published_figures(row))}
    assert quoted == {
        "dfew-base-fold1-seed0": (62.81, 72.86),
        "scaled": (62.51, 72.68),
        "dfew-r3d-18-fold1-seed0": (46.52, 58.27),
    }
    tables = [results_table(trial) for trial in make_trials(*zip(*pairs, strict=True))]
    quoted_there = [v for table in tables if "published WAR" in table.head for v in column(table, "published WAR") if v]
    assert sorted(quoted_there) == [58.27, 72.68, 72.86]


def test_whose_captions_the_source_had_decides_which_row_a_transfer_repeats(tmp_path):
    """MAFW's own captions, a model's that saw the label, and a label-blind model's, which no paper ran."""
    people, blind = CaptionSource("human", True), CaptionSource("video-llava", False)
    transfer = {"dataset": "dfew", "source": "mafw", "without": ("caption",)}
    expected = {}
    for name, captions in (("people", people), ("saw", SAW), ("blind", blind)):
        for variant, clip in (("dagger", "ViT-B-16"), ("emoclip", "ViT-B-32")):
            write_run(tmp_path, variant, "1", 0, name=f"{variant}-{name}", clip=clip, trained_with=captions, **transfer)
    expected = {"dagger-people": 57.12, "emoclip-people": 46.27, "dagger-saw": 62.03}
    classes = {"clip": "ViT-B-32", "set": ("objective=labels",), **transfer}
    write_run(tmp_path, "emoclip", "1", 0, name="emoclip-classes", **classes)
    pairs = make_rows(find_evaluated(report.Config(root=tmp_path), ()))
    quoted = {group[0].result.run: found[1][1] for row, group in pairs if (found := published_figures(row))}
    assert quoted == {**expected, "emoclip-classes": 24.96}
    table = table_of(published_table(find_table("finecliper-zeroshot"), [row for row, _ in pairs]))
    lines = list(zip(*(column(table, c) for c in ("method", "WAR", "published WAR", "rests on")), strict=True))
    (own,) = [
        line
        for line in lines
        if "label-blind" in str(line[3])
        and "trained with captions" in str(line[3])
        and line[0].startswith("FineCLIPER")
    ]
    assert own[1] is not None and own[2] is None and "tested without captions" in own[3]
    assert {war for _, _, war, _ in lines if war} >= set(quoted.values())


def test_a_papers_table_has_its_order_ours_and_what_we_did_not_run(tmp_path):
    for variant in ("star", "base"):
        write_run(tmp_path, variant, "1", 0, dataset="dfew", clip="ViT-B-16")
    table = table_of(published_table(find_table("finecliper-supervised"), rows_of(tmp_path)))
    assert column(table, "method") == [
        row.label for row in find_table("finecliper-supervised").rows if "dfew" in row.figures
    ]
    ours = {
        str(n): (war, basis)
        for n, war, basis in zip(*(column(table, c) for c in ("method", "WAR", "rests on")), strict=True)
    }
    assert [name for name, (war, _) in ours.items() if war is not None] == ["FineCLIPER", "FineCLIPER*"]
    assert (ours["DFER-CLIP"][1], ours["EC-STFL"][1]) == ("not run", "published only")
    assert column(table, "venue")[0] == "MM 2020" and column(table, "published parameters in millions")[0] == 78


def test_figure_8_is_a_curve_over_the_fixed_weight_beside_the_adaptive_line(tmp_path):
    for share in (0.6, 0.1, 0.3):
        given = {"set": (f"fusion_weights=video={share}",), "name": f"video-{share}"}
        write_run(tmp_path, "star-dagger", "1", 0, skill=share, **given)
    write_run(tmp_path, "star-dagger", "1", 0, name="listed", set=("fusion_weights=[1,2,2,1]",))
    assert [p.caption for p in weight_pictures(rows_of(tmp_path))] == [
        "demo7, star-dagger, tiny; weight of video fixed, the rest split evenly; dashed: adaptive weights"
    ]
    write_run(tmp_path, "star-dagger", "1", 0, name="adaptive")
    (picture,) = weight_pictures(rows_of(tmp_path))
    assert "stroke-dasharray" in picture.data and "weight of video" in picture.data


def test_figure_7_has_every_method_whose_parameters_are_printed():
    points = published_points("dfew")
    assert points["MAE-DFER"] == (85_000_000, pytest.approx(0.7443))
    assert points["FineCLIPER*†"] == (20_000_000, pytest.approx(0.7621))
    assert len(points) == 13 and set(published_points("mafw")) < set(points) and published_points("demo7") == {}


def test_a_papers_table_on_rendered_faces_quotes_nothing(tmp_path):
    write_comparison(tmp_path, folds=1, seeds=1)
    rows = rows_of(tmp_path)
    for name, lines in {"supervised": 5, "scale": 2, "fusion": 2, "zeroshot": 3}.items():
        blocks = published_table(find_table(f"finecliper-{name}"), rows)
        table = table_of(blocks)
        assert len(table.rows) == lines, name
        assert "published WAR" not in table.head
        assert any(isinstance(block, Text) and "rendered" in block.text for block in blocks)
    recall = table_of(published_table(find_table("finecliper-classes"), rows))
    assert list(recall.head)[2:9] == list(SEVEN)
    assert published_table(find_table("dfer-clip-position"), [r for r in rows if r.variant == "base"]) == []


def test_headings_of_papers_tables_only_with_real_data(tmp_path):
    write_comparison(tmp_path, folds=1, seeds=1)
    assert paper_sections(rows_of(tmp_path)) == []
    for variant in ("base", "star"):
        write_run(tmp_path, variant, "1", 0, dataset="dfew", clip="ViT-B-16")
    headings = [b.text for b in paper_sections(rows_of(tmp_path)) if isinstance(b, Heading)]
    assert "FineCLIPER, Table 1: supervised" in headings


def test_the_published_figures_alone_are_a_page(tmp_path):
    found = report.run(report.Config(root=tmp_path, published=True, out=tmp_path / "papers.html"))
    page = (tmp_path / "papers.html").read_text(encoding="utf-8")
    assert found.counts == {"runs": 0, "rows": 0}
    assert all(table.title in page for table in published_tables().values() if table.has_figures)
    one = report.Config(root=tmp_path, published=True, table="finecliper-scale", out=tmp_path / "scale.md")
    report.run(one)
    assert "53.66" in (tmp_path / "scale.md").read_text(encoding="utf-8")
