"""A report in its three formats: the same figures, everything escaped, nothing fetched from anywhere."""

from __future__ import annotations

import contextlib
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.engine.evaluate.aggregate import make_rows
from fclip.engine.evaluate.metrics import Reliability
from fclip.errors import FclipError, MissingOutput, UsageError
from fclip.report.evaluated import find_evaluated, read_evaluated
from fclip.report.explanations import Explanations, read_explanations, spread_over_classes, write_explanations
from fclip.report.page import plots
from fclip.report.page.blocks import Flag, Heading, Interval, Measure, Picture, Pictures, Table, Text
from fclip.report.page.html import render_html
from fclip.report.page.markup import render_latex, render_markdown
from fclip.report.results import digits_for
from fclip.stages import report
from tests.report.runs import SEVEN, write_comparison, write_run

WILD = "<script>alert(1)</script> & \"x\" 'y' | $a_b^{c}$ \\ % # ~ [l](u) `code` *s*\nnew ± 5 → 6 ä 表"


class Page(HTMLParser):
    """Tags with their attributes, and the text outside style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    root = tmp_path_factory.mktemp("reported")
    write_comparison(root)
    for name in ("r.html", "r.md", "r.tex"):
        report.run(report.Config(root=root, out=root / name))
    return root


def test_the_three_formats_hold_the_same_figures(reported):
    rows = [row for row, _ in make_rows(find_evaluated(report.Config(root=reported), ()))]
    texts = {name: (reported / name).read_text() for name in ("r.html", "r.md", "r.tex")}
    texts["r.html"] = Page(texts["r.html"]).text
    for row in rows:
        for text in texts.values():
            assert f"{100 * row.war:.{digits_for(row.test_clips)}f}" in text
            assert f"{100 * row.uar_interval[0]:.{digits_for(row.test_clips)}f}" in text
    assert texts["r.tex"].count(r"\begin{tabular}") == texts["r.tex"].count(r"\end{tabular}") > 1
    assert all("BEST ON TEST" in text and "IN-DOMAIN" in text for text in texts.values())


def test_the_page_is_self_contained(reported):
    page = Page((reported / "r.html").read_text())
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "xlink:href", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,")), (tag, value)
    text = (reported / "r.html").read_text()
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)", text)) <= set(re.findall(r"url\((#[^)]*)", text))
    assert sum(tag == "svg" for tag, _ in page.tags) >= 14


def test_the_same_runs_give_the_same_bytes(reported, tmp_path):
    report.run(report.Config(root=reported, out=tmp_path / "r.html"))
    assert (tmp_path / "r.html").read_bytes() == (reported / "r.html").read_bytes()


def test_plots_are_well_formed_and_take_the_colour_of_the_text():
    names = (WILD, "happiness")
    recalls = {WILD: {WILD: 0.5, "happiness": None}, "b": {WILD: 0.25, "happiness": 1.0}}
    curve = Reliability((0, 5), (0.0, 0.75), (0.0, 0.5))
    drawn = [
        plots.confusion_plot([[3, 1], [0, 0]], names),
        plots.recall_plot(recalls),
        plots.reliability_plot({WILD: curve}),
        plots.curves_plot({WILD: ([1, 2], [3.0, 1.0])}, WILD, 2),
        plots.rates_plot({WILD: (0.5, (0.4, 0.6), True)}, 0.1, 1),
        plots.parameters_plot({WILD: (10**7, 0.5)}, {"p": (10**8, 0.7)}),
        plots.weights_plot([(0.1, 0.5, 0.6), (0.2, 0.4, 0.5)], (0.7, 0.8), WILD),
        plots.similarity_plot(names, np.array([0.2, np.nan]), np.array([0.1, np.nan]), (0, 1)),
    ]
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "currentColor" in svg
        assert "<script" not in svg
        assert any("alert(1)" in (element.text or "") for element in root.iter()), "the name is shown as it is"


def test_confusion_picture_is_a_png_with_the_same_bytes_each_time(tmp_path):
    for name in ("a.png", "b.png"):
        plots.confusion_picture([[3, 1], [0, 2]], ("joy", "fear"), tmp_path / name, title="run")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert data == (tmp_path / "b.png").read_bytes()


BLOCKS = [
    Heading(WILD),
    Text(WILD),
    Text(WILD, note=True),
    Table([WILD, "n"], [[WILD, 1.005], [Flag(WILD), None], ["x", 1234567]], WILD),
]


def test_wild_text_is_harmless_in_html():
    page = Page(render_html(WILD, [*BLOCKS, Pictures([Picture(b"\xff\xd8", WILD)])]))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") == 11  # also in the title, the links and the caption
    alt = next(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    assert alt == WILD


def test_wild_text_is_harmless_in_markdown():
    text = render_markdown(WILD, BLOCKS)
    assert "<script" not in text
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 5
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in table), "two columns"
    assert "1,234,567" in table[-1]
    assert table[3].startswith("| **")


def test_wild_text_is_harmless_in_latex():
    text = render_latex(WILD, BLOCKS)
    body = text.split("\n", 1)[1].replace(r"$\pm$", "").replace(r"$\rightarrow$", "")
    for special in "%#&_$^~":
        unescaped = re.findall(rf"(?<!\\){re.escape(special)}", body)
        assert len(unescaped) == (4 if special == "&" else 0), special  # & between the columns of a head and three rows
    assert body.count("{") == body.count("}")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.text(), st.floats(), st.integers(), st.none()), min_size=1, max_size=4))
def test_any_cell_can_be_written(cells):
    blocks = [Table([str(i) for i in range(len(cells))], [cells])]
    page = Page(render_html("t", blocks))
    assert sum(tag == "td" for tag, _ in page.tags) == len(cells)
    markdown = render_markdown("t", blocks).splitlines()
    assert len(re.findall(r"(?<!\\)\|", markdown[-1])) >= len(cells) + 1
    assert render_latex("t", blocks).count(r"\\") >= 2


def test_measures_and_intervals():
    assert str(Measure(71.254, 0.5)) == "71.25 ± 0.50"
    assert str(Interval(60.04, 72.06)) == "60.0 – 72.1"
    latex = render_latex("t", [Table(["a"], [[Measure(1, 2)], [Interval(3, 4)]])])
    assert r"1.00 $\pm$ 2.00" in latex
    assert "3.0 -- 4.0" in latex
    assert r"p{0.33\linewidth}}" in render_latex("t", [Table(["a"], [["a text that needs several lines of its own"]])])


def explanations(clips: int = 6, **change):
    rng = np.random.default_rng(0)
    labels = np.array([SEVEN[i % 3] for i in range(clips)])
    values = {
        "keys": np.array([f"k{i}" for i in range(clips)]),
        "labels": labels,
        "classes": np.array(SEVEN),
        "modalities": np.array(["frames", "caption"]),
        "positive": rng.random((clips, 2, 7)),
        "negative": rng.random((clips, 2, 7)),
        "weights": rng.random((clips, 2)),
        "logits": rng.random((clips, 7)),
        "frames": rng.integers(0, 255, (clips, 4, 20, 20, 3), np.uint8),
        "attention": rng.random((clips, 4, 5, 5)),
        "relevance": rng.normal(size=(clips, 4, 5, 5)),
        "occlusion": rng.normal(size=(clips, 5, 5)),
        "agreement": rng.random(clips),
    }
    return Explanations(**{**values, **change})


def test_explanations_are_stored_and_shown(tmp_path):
    found = explanations()
    for name in ("a.npz", "b.npz"):
        write_explanations(tmp_path / name, found)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = read_explanations(tmp_path / "a.npz")
    assert (back.attention == found.attention).all()
    run = write_run(tmp_path, "dagger", "1", 0)
    write_explanations(run / "eval" / "explanations.npz", found)
    report.run(report.Config(root=tmp_path, out=tmp_path / "r.html", clips=4))
    page = Page((tmp_path / "r.html").read_text())
    pictures = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 4
    assert {alt.split()[2].rstrip(",;") for alt in pictures} == set(SEVEN[:3])


def test_damaged_explanations_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"PK not a zip")
    with pytest.raises(FclipError, match=r"x\.npz: not an explanations file"):
        read_explanations(path)
    np.savez(path, keys=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FclipError, match=r"x\.npz: not an explanations file"):
        read_explanations(path)
    write_explanations(path, explanations())
    data = bytearray(path.read_bytes())
    for place in range(40, len(data), len(data) // 60):  # in compressed data, names, the table of contents
        changed = data.copy()
        changed[place] ^= 0xFF
        path.write_bytes(changed)
        with contextlib.suppress(FclipError):
            read_explanations(path)
    with pytest.raises(FclipError, match="weights has shape"):
        explanations(weights=np.zeros((6, 3)))


def test_clips_are_spread_over_classes():
    assert spread_over_classes(["a", "a", "a", "b", "c", "b"], 4) == [0, 1, 3, 4]
    assert spread_over_classes([], 3) == []


def test_format_and_place(reported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report.run(report.Config(root=reported, format="latex")).out.name == "report.tex"
    assert report.run(report.Config(root=reported, out=tmp_path / "x.md")).out.read_text().startswith("# Results")
    assert report.run(report.Config(root=reported, out=tmp_path / "x.txt", format="markdown")).out.read_text()[0] == "#"
    named = reported / "runs" / "demo7-base-fold1-seed0"
    found = report.run(report.Config(runs=(str(named),), out=tmp_path / "one.md"))
    assert found.counts == {"runs": 1, "rows": 1}
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["results"][0]["variant"] == "base"


def test_what_is_missing_is_named(reported, tmp_path):
    with pytest.raises(MissingOutput, match="fclip synth"):
        report.run(report.Config(root=tmp_path))
    with pytest.raises(MissingOutput, match="fclip eval"):
        report.run(report.Config(root=reported, runs=(str(tmp_path),)))
    with pytest.raises(UsageError, match="there are: finecliper-supervised"):
        report.run(report.Config(root=reported, table="tabel1"))
    with pytest.raises(FclipError, match="no evaluated run belongs to table dfer-clip-position"):
        write_run(tmp_path, "base", "1", 0)
        report.run(report.Config(root=tmp_path, table="dfer-clip-position"))


@pytest.mark.parametrize("name", ["predictions.csv", "results.json", "evaluation.json"])
def test_an_evaluation_that_was_changed_afterwards_is_not_reported(tmp_path, caplog, name):
    """A prediction or a figure edited by hand, or no record: named it is refused, among others it is left out."""
    run = write_run(tmp_path, "base", "1", 0)
    write_run(tmp_path, "star", "1", 0)
    path = run / "eval" / name
    path.write_text(path.read_text().replace("happiness", "sadness", 1).replace('"outputs"', '"output"'))
    named = report.Config(root=tmp_path, runs=(str(run),), out=tmp_path / "r.md")
    with pytest.raises(FclipError, match=rf"{name}: .*make it again: fclip eval .*{run.name}"):
        report.run(named)
    assert not (tmp_path / "r.md").exists()
    assert report.run(report.Config(root=tmp_path, out=tmp_path / "r.md")).counts["runs"] == 1
    assert f"left out: {path}" in caplog.text


@pytest.mark.parametrize("schema", [1, -3, None])
def test_the_record_of_an_evaluation_counts_whatever_schema_its_results_say(tmp_path, schema):
    run = write_run(tmp_path, "dagger", "1", 0)
    path = run / "eval" / "results.json"
    values = json.loads(path.read_text())
    values.update(schema=schema, seed=7)
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    with pytest.raises(FclipError, match=r"results\.json: is not as written"):
        read_evaluated(run)


def test_results_of_schema_1_are_read_with_the_figures_of_their_predictions(tmp_path):
    """Written before evaluations had a record; figures that were typed into results.json do not count."""
    run = write_run(tmp_path, "base", "1", 0)
    (run / "eval" / "evaluation.json").unlink()
    path = run / "eval" / "results.json"
    new = json.loads(path.read_text())
    later = ("schema", "source", "objective", "in_domain", "checkpoint", "prompts_sha256", "settings", "trained_with")
    path.write_text(json.dumps({**{k: v for k, v in new.items() if k not in later}, "war": 1.0, "uar": 1.0}))
    found = report.run(report.Config(root=tmp_path, out=tmp_path / "r.md")).values["results"][0]
    assert (found["war"], found["uar"]) == (new["war"], new["uar"]) != (1.0, 1.0)
    (run / "eval" / "predictions.csv").write_text("key,true,predicted\n1,a,b\n")
    with pytest.raises(FclipError, match="does not belong to results.json"):
        report.run(report.Config(root=tmp_path, runs=(str(run),)))
