"""The page in a real browser (Chromium, headless): nothing sticks out of a phone's screen, all pictures load."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from fclip.report.explanations import write_explanations
from fclip.stages import report
from tests.report.runs import write_comparison, write_run
from tests.report.test_formats import WILD, explanations

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
WIDTHS = (390, 1280)
OVERFLOWING = (
    "<!doctype html><body style='margin:0'><div style='width:500px'>x</div><img src='data:image/jpeg;base64,AA'>"
)
MEASURE = """
window.onload = () => {
  const found = [...document.querySelectorAll('iframe')].map(frame => {
    const page = frame.contentDocument, root = page.documentElement, width = root.clientWidth;
    const outside = [...page.querySelectorAll('body *')].filter(
      e => !e.closest('.wide, nav, svg *') && e.getBoundingClientRect().right > width + 0.5).map(e => e.tagName);
    const images = [...page.images], resources = frame.contentWindow.performance.getEntriesByType('resource');
    return {
      width, scroll: root.scrollWidth, outside,
      images: images.length, loaded: images.filter(i => i.complete && i.naturalWidth > 0).length,
      plots: [...page.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width),
      ink: getComputedStyle(page.body).color, drawn: getComputedStyle(page.querySelector('svg text') || root).fill,
      small: [...page.querySelectorAll('body *')].filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
        .map(e => parseFloat(getComputedStyle(e).fontSize) * (e.ownerSVGElement ?
          e.ownerSVGElement.getBoundingClientRect().width / e.ownerSVGElement.viewBox.baseVal.width : 1))
        .reduce((a, b) => Math.min(a, b)),
      fetched: resources.filter(r => !r.name.startsWith('data:')).length,
      columns: getComputedStyle(page.querySelector('.row') || root).gridTemplateColumns.split(' ').length,
    };
  });
  document.body.dataset.found = JSON.stringify(found);
};
"""


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium: apt-get install chromium")
    return path


def measure(browser: str, folder, pages: list[tuple[int, str]]) -> list[dict]:
    """Lay each page out at its width and measure it, all in one start of the browser."""
    frames = "".join(
        f'<iframe style="border:0" width={width} height=900 srcdoc="{html.escape(text)}"></iframe>'
        for width, text in pages
    )
    copy = folder / "measure.html"
    copy.write_text(f"<!doctype html><meta charset=utf-8><script>{MEASURE}</script><body>{frames}", encoding="utf-8")
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", copy.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    found = re.search(r'data-found="([^"]*)"', result.stdout)
    assert found, f"the page did not load: {result.stdout[-300:]} {result.stderr[-300:]}"
    return json.loads(html.unescape(found[1]))


def test_page_fits_phone_and_desk(browser, tmp_path):
    write_comparison(tmp_path, folds=1, seeds=1)
    write_run(
        tmp_path,
        "base",
        "1",
        0,
        name="wild",
        set=(f"negative_word={WILD}",),
        classes=(WILD.replace("\n", " "), "a" * 60, "fear"),
        dataset="demo11",
    )
    write_explanations(tmp_path / "runs" / "demo7-dagger-fold1-seed0" / "eval" / "explanations.npz", explanations())
    report.run(report.Config(root=tmp_path, out=tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    dark = page.replace("color-scheme: light dark", "color-scheme: dark")
    shown = [*((width, page) for width in WIDTHS), (1280, dark), (390, OVERFLOWING)]
    *found, night, control = measure(browser, tmp_path, shown)
    assert (found[0]["ink"], night["ink"]) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
    assert all(seen["drawn"] == seen["ink"] for seen in (*found, night)), "plots take the text's colour"
    for width, seen in zip(WIDTHS, found, strict=True):
        assert seen["width"] == width
        assert seen["scroll"] <= width, seen
        assert seen["outside"] == []
        assert seen["images"] == seen["loaded"] == 6
        assert seen["fetched"] == 0
        assert len(seen["plots"]) > 15
        assert min(seen["plots"]) > 300
        assert seen["small"] >= 11, "no text is smaller, in plots neither"
    assert [seen["columns"] for seen in found] == [1, 3]
    # the same measurement does see a page that is too wide and a picture that is broken
    assert control["scroll"] == 500
    assert control["outside"] == ["DIV"]
    assert (control["images"], control["loaded"]) == (1, 0)
