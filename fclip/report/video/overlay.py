"""Drawing predictions into a video: each face with its label, bars of the shares, a timeline with its legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fclip.files import resource_json

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

Colour = tuple[int, ...]
PANEL, LINE, STRIP = 150, 14, 36  # pixels, at the least: width of the bars' panel, height of a text line, of a timeline
MOST_STRIPS, MOST_BARS = 6, 3  # faces that have a timeline; faces that have bars
DARK, LIGHT, GREY = (24, 24, 28), (245, 245, 245), (140, 140, 150)


@dataclass(frozen=True)
class FaceSeries:
    """A face's probabilities (n, C) over windows of seconds starts (n,) to ends (n,), in order."""

    starts: np.ndarray
    ends: np.ndarray
    probabilities: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """Probabilities (m, C) at times (m,): linear between the windows' middles; nan where no window is."""
        middles = (self.starts + self.ends) / 2
        values = np.stack([np.interp(times, middles, column) for column in self.probabilities.T], axis=1)  # (m, C)
        at = times[:, None]
        there = np.logical_and(at >= self.starts, at <= self.ends + 1e-6).any(axis=1, keepdims=True)  # (m, 1)
        return np.where(there, values, np.nan)


@dataclass(frozen=True)
class FaceMarks:
    """Where a face is in one frame, in pixels: box (4,) and landmarks (68, 2), None where unknown."""

    box: np.ndarray | None = None
    landmarks: np.ndarray | None = None


def class_colours(classes: Sequence[str]) -> list[Colour]:
    """A colour for each class: for emotions the one that people expect (anger red, disgust green), else any other."""
    from PIL import ImageColor

    known = resource_json("class_colours.json")
    others = [name for name in classes if name.lower() not in known["classes"]]
    free = {name: known["others"][i % len(known["others"])] for i, name in enumerate(others)}
    return [ImageColor.getrgb(free.get(name) or known["classes"][name.lower()]) for name in classes]


def _ink(colour: Colour) -> Colour:
    """Black or white, whichever is legible on a colour."""
    return DARK if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 125 else LIGHT


def _font(names: Sequence[str], size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, or one that has the letters of these names."""
    from PIL import ImageFont

    from fclip.report.fonts import fonts_for

    if all(name.isascii() for name in names):
        return ImageFont.load_default(size)
    (_, usual), *others = fonts_for([*names, "0123456789.% face"])
    return ImageFont.truetype(str(others[-1][1] if others else usual), size)


class Overlay:
    """Draws frames of one video; `series` {number of the face: FaceSeries}, seconds of the video, frame (H, W)."""

    def __init__(
        self, classes: Sequence[str], series: Mapping[int, FaceSeries], seconds: float, size: tuple[int, int]
    ) -> None:
        from PIL import Image, ImageDraw

        self.classes, self.series, self.seconds = list(classes), dict(series), max(seconds, 1e-6)
        self.colours = class_colours(classes)
        height, width = size
        self.width, self.panel, self.line = width, max(PANEL, width // 3), max(LINE, width // 40)
        self.strip, self.font = max(STRIP, width // 16), _font(classes, 0.72 * self.line)
        self.label_font = _font(classes, max(0.9 * self.line, 13))
        self.top = max(height, self.line * (len(classes) + 1))
        shown = list(self.series)[:MOST_STRIPS]
        self.bottom = self.top + (self.strip + 4) * len(shown)
        legend = self._legend_places(width + self.panel)
        rows = 2 + max((row for row, _ in legend), default=0)  # the seconds, and the legend's
        self._blank = Image.new("RGB", (width + self.panel, self.bottom + int(1.25 * self.line * rows)), DARK)
        draw = ImageDraw.Draw(self._blank)
        for place, face in enumerate(shown):
            y = self.top + place * (self.strip + 4)
            self._blank.paste(Image.fromarray(self._timeline(self.series[face], self._blank.width)), (0, y))
            if len(self.series) > 1:
                draw.text((3, y), f"face {face}", fill=LIGHT, font=self.font, stroke_width=1, stroke_fill=DARK)
        draw.text((3, self.bottom), "0 s", fill=GREY, font=self.font)
        draw.text((self._blank.width - 3, self.bottom), f"{seconds:.1f} s", fill=GREY, font=self.font, anchor="ra")
        middle = self._blank.width / 2, self.bottom
        draw.text(middle, "share of each class over time", fill=GREY, font=self.font, anchor="ma")
        self._legend(draw, legend)

    def _legend_places(self, width: int) -> list[tuple[int, float]]:
        """(row, left edge) of each class in the timeline's legend, as many in a row as there is room for."""
        places, row, x = [], 0, 3.0
        for name in self.classes:
            needs = self.font.getlength(name) + 1.9 * self.line
            if x > 3 and x + needs > width:
                row, x = row + 1, 3.0
            places.append((row, x))
            x += needs
        return places

    def _legend(self, draw: ImageDraw.ImageDraw, places: Sequence[tuple[int, float]]) -> None:
        for name, colour, (row, x) in zip(self.classes, self.colours, places, strict=True):
            y, side = self.bottom + 1.25 * self.line * (row + 1), 0.7 * self.line
            draw.rectangle([x, y + 2, x + side, y + 2 + side], fill=colour)
            draw.text((x + side + 4, y), name, fill=LIGHT, font=self.font)

    def _timeline(self, series: FaceSeries, width: int) -> np.ndarray:
        """The timeline of a face (strip, width, 3): in each column the classes' colours, as high as their shares."""
        values = series.at((np.arange(width) + 0.5) / width * self.seconds)  # (width, C)
        heights = (np.arange(self.strip) + 0.5) / self.strip  # (strip,)
        below = heights[:, None, None] >= np.cumsum(np.nan_to_num(values), axis=1)[None]  # (strip, width, C)
        index = np.minimum(below.sum(-1), len(self.classes) - 1)  # (strip, width)
        strip = np.array(self.colours, np.uint8)[index]
        strip[:, np.isnan(values[:, 0])] = 50
        return strip

    def draw(self, frame: np.ndarray, time: float, marks: Mapping[int, FaceMarks]) -> np.ndarray:
        """The frame (H, W, 3) uint8 with its faces marked, bars to its right and the timeline below."""
        from PIL import Image, ImageDraw

        picture = self._blank.copy()
        picture.paste(Image.fromarray(frame), (0, 0))
        draw = ImageDraw.Draw(picture)
        now = {face: series.at(np.array([time]))[0] for face, series in self.series.items()}
        now = {face: values for face, values in now.items() if np.isfinite(values).all()}
        for face, mark in marks.items():
            self._mark(draw, mark, now.get(face), f"{face}: " if len(self.series) > 1 else "")
        for place, (face, values) in enumerate(list(now.items())[:MOST_BARS]):
            title = f"face {face}" if len(self.series) > 1 else ""
            self._bars(draw, values, title, place * self.top / min(len(now), MOST_BARS), min(len(now), MOST_BARS))
        x = time / self.seconds * (picture.width - 1)
        draw.line([x, self.top, x, self.bottom], fill=LIGHT, width=2)
        return np.asarray(picture)

    def _mark(self, draw: ImageDraw.ImageDraw, mark: FaceMarks, shares: np.ndarray | None, number: str) -> None:
        """The face's box in its class's colour, and class and share on a plate at it; landmarks as dots."""
        best = None if shares is None else int(shares.argmax())
        colour = GREY if best is None else self.colours[best]
        thick, radius = max(2, self.width // 240), max(0.8, self.width / 600)
        for x, y in mark.landmarks if mark.landmarks is not None else ():
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=LIGHT)
        if mark.box is None:
            return
        left, top, right, bottom = (float(v) for v in mark.box)
        draw.rectangle([left, top, right, bottom], outline=colour, width=thick)
        text = (
            number.rstrip(": ") if shares is None else f"{number}{self.classes[best or 0]} {100 * shares.max():.0f} %"
        )
        if not text:
            return
        wide, high = draw.textbbox((0, 0), text, font=self.label_font)[2:]
        x = min(max(left, 0), max(self.width - wide - 8, 0))
        y = top - high - 6 if top - high - 6 >= 0 else min(bottom, self.top - high - 6)
        draw.rectangle([x, y, x + wide + 8, y + high + 6], fill=colour)
        draw.text((x + 4, y + 3), text, fill=_ink(colour), font=self.label_font)

    def _bars(self, draw: ImageDraw.ImageDraw, values: np.ndarray, title: str, top: float, sharing: int) -> None:
        """A bar a class; only the likeliest ones where several faces share the panel."""
        lines = max(1, int(self.top / sharing // self.line) - bool(title))
        shown = sorted(np.argsort(-values)[:lines].tolist())
        draw.text((self.width + 6, top), title, fill=LIGHT, font=self.font)
        top += self.line * bool(title)
        row = min((self.top / sharing - self.line * bool(title)) / len(shown), 3 * self.line)
        for place, index in enumerate(shown):
            y, share = top + place * row, float(values[index])
            length = share * (self.panel - 12)
            draw.rectangle([self.width + 6, y + 1, self.width + 6 + length, y + row - 2], fill=self.colours[index])
            draw.text(
                (self.width + 9, y + row / 2),
                f"{self.classes[index]} {100 * share:.0f}%",
                fill=LIGHT,
                font=self.font,
                anchor="lm",
                stroke_width=1,
                stroke_fill=DARK,
            )
