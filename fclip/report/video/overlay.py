"""Drawing predictions into a video: boxes, landmarks, bars of the class probabilities and a timeline of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

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
        from PIL import Image, ImageColor, ImageDraw

        self.classes, self.series, self.seconds = list(classes), dict(series), max(seconds, 1e-6)
        self.colours = [ImageColor.getrgb(f"hsl({360 * i // len(classes)}, 60%, 55%)") for i in range(len(classes))]
        height, width = size
        self.width, self.panel, self.line = width, max(PANEL, width // 3), max(LINE, width // 40)
        self.strip, self.font = max(STRIP, width // 16), _font(classes, 0.72 * self.line)
        self.top = max(height, self.line * (len(classes) + 1))
        shown = list(self.series)[:MOST_STRIPS]
        self._blank = Image.new("RGB", (width + self.panel, self.top + (self.strip + 4) * len(shown) + self.line), DARK)
        draw = ImageDraw.Draw(self._blank)
        for place, face in enumerate(shown):
            y = self.top + place * (self.strip + 4)
            self._blank.paste(Image.fromarray(self._timeline(self.series[face], self._blank.width)), (0, y))
            if len(self.series) > 1:
                draw.text((3, y), f"face {face}", fill=LIGHT, font=self.font, stroke_width=1, stroke_fill=DARK)
        foot = self._blank.height - self.line
        draw.text((3, foot), "0 s", fill=GREY, font=self.font)
        draw.text((self._blank.width - 3, foot), f"{seconds:.1f} s", fill=GREY, font=self.font, anchor="ra")

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
            colour = self.colours[int(now[face].argmax())] if face in now else GREY
            self._mark(draw, mark, colour, f"{face}" if len(self.series) > 1 else "")
        for place, (face, values) in enumerate(list(now.items())[:MOST_BARS]):
            title = f"face {face}" if len(self.series) > 1 else ""
            self._bars(draw, values, title, place * self.top / min(len(now), MOST_BARS), min(len(now), MOST_BARS))
        x = time / self.seconds * (picture.width - 1)
        draw.line([x, self.top, x, picture.height - self.line], fill=LIGHT, width=2)
        return np.asarray(picture)

    def _mark(self, draw: ImageDraw.ImageDraw, mark: FaceMarks, colour: Any, name: str) -> None:
        thick, radius = max(1, self.width // 320), max(0.8, self.width / 500)
        if mark.box is not None:
            draw.rectangle([float(v) for v in mark.box], outline=colour, width=thick)
            place = float(mark.box[0]) + 4, float(mark.box[1]) + 2
            draw.text(place, name, fill=LIGHT, font=self.font, stroke_width=1, stroke_fill=DARK)
        for x, y in mark.landmarks if mark.landmarks is not None else ():
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(255, 210, 70))

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
