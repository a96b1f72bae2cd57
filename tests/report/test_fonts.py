"""Names beyond Latin are drawn with a font that has their letters; where none has, that is told."""

from __future__ import annotations

import pytest

from fclip.report import fonts
from fclip.report.page.figures import canvas

CHINESE = ("愤怒", "高兴")


def _picture(names: tuple[str, ...]) -> bytes:
    with canvas(1.5) as figure:
        figure.axes.set_yticks(range(len(names)), names)
        return figure.png()


def test_letters_and_not_boxes() -> None:
    """Two names of as many letters give two pictures; boxes would be the same."""
    found = fonts.fonts_for(CHINESE)
    assert found[0][0] == fonts.USUAL
    if len(found) == 1:
        pytest.skip("no font with Chinese letters is installed")
    assert _picture(("愤怒", "高兴")) != _picture(("惊讶", "悲伤"))
    assert _picture(CHINESE) == _picture(CHINESE)


def test_usual_letters_need_no_other_font() -> None:
    assert fonts.fonts_for(["anger", "Ärger", "гнев", "θυμός"]) == fonts.fonts_for([])
    assert _picture(("a", "b")) == _picture(("a", "b"))


def test_what_no_font_has_is_told(caplog: pytest.LogCaptureFixture) -> None:
    fonts._tell_missing.cache_clear()
    assert [family for family, _ in fonts.fonts_for(["\U0001e900\U000e0fff"])][0] == fonts.USUAL
    fonts._tell_missing.cache_clear()
    fonts._tell_missing("怒")
    assert (
        "no font here has 怒, which are drawn as boxes; install Noto Sans CJK (Debian: fonts-noto-cjk)" in caplog.text
    )
