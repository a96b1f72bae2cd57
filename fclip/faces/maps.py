"""Parsing and landmarks as RGB images, the form in which the model's face encoder takes them.

Runs inside the training step on the batch's device. Every value is the maximum over all dots that reach a pixel, so
neither the order of points nor the device changes the image (beyond rounding, under 1/255).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fclip.errors import UsageError
from fclip.faces.landmarks import flip_landmarks, flip_parsing, landmark_parts
from fclip.files import resource_json
from fclip.records import PARSING_CLASSES

__all__ = ["STYLES", "flip_landmarks", "flip_parsing", "landmark_images", "parsing_images"]

STYLES = ("discs", "contours", "gaussians")
DOT = 0.0125  # radius of a dot as a share of the image's side


def parsing_images(parsing: Tensor) -> Tensor:
    """Parsing ids (..., H, W) uint8 -> float32 (..., 3, H, W) in [0, 1]: the palette's colours, black for other ids."""
    palette = torch.zeros(256, 3)
    palette[: len(PARSING_CLASSES)] = (
        torch.tensor([resource_json("parsing_palette.json")[name] for name in PARSING_CLASSES]) / 255
    )
    palette = palette.to(parsing.device)
    ids = parsing.int().flatten()  # (N,)
    channels = [palette[:, c].index_select(0, ids).view(parsing.shape) for c in range(3)]
    return torch.stack(channels, dim=-3)  # (..., 3, H, W)


@torch.no_grad()
def landmark_images(
    landmarks: Tensor, size: int | tuple[int, int], style: str = "discs", radius: float | None = None
) -> Tensor:
    """Landmarks (..., 68, 2) in [0, 1] of the frame -> float32 (..., 3, H, W) in [0, 1], coloured by part on black.

    style "discs": a disc with a soft edge of one pixel at each point; "contours": lines along each part; "gaussians":
    exp(-d^2 / 2 sigma^2) at each point, lowered to 0 at 3 sigma. `radius` (a line's width, sigma) is in pixels, by
    default 1.25 % of the longer side, at least 1. A frame whose landmarks are all 0 or not finite (no face) is black.
    """
    if style not in STYLES:
        raise UsageError(f"unknown style {style!r} of landmark images; there are: {', '.join(STYLES)}")
    height, width = (size, size) if isinstance(size, int) else size
    radius = max(1.0, DOT * max(height, width)) if radius is None else radius
    lead = landmarks.shape[:-2]
    points = landmarks.reshape(-1, *landmarks.shape[-2:]).float()  # (N, 68, 2)
    present = (points.isfinite().all(-1).all(-1) & (points != 0).any(-1).any(-1))[:, None]  # (N, 1)
    points = points.nan_to_num(0, 0, 0)
    colours = _point_colours(points.device)
    scale = torch.tensor([width, height], device=points.device)
    pixels = (points * scale - 0.5).clamp(-1e4, 1e4)  # (N, 68, 2), pixel (0, 0) has its centre at 0, 0
    if style == "contours":
        dots, line, colours = _along_contours(pixels, colours, max(height, width))
        image = _draw(dots, line, colours, present, (height, width), radius / 2)
    else:
        image = _draw(pixels, None, colours, present, (height, width), radius, soft=style == "gaussians")
    return image.view(*lead, 3, height, width)


def _point_colours(device: torch.device) -> Tensor:
    """Colour of each of the 68 points, (68, 3) in [0, 1]."""
    rows = [part.colour for part in landmark_parts() for _ in range(part.start, part.stop)]
    return torch.tensor(rows, device=device) / 255


def _along_contours(pixels: Tensor, colours: Tensor, side: int) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Dots (N, S, 2) along the lines through pixels (N, 68, 2), the line of each (start and way, (N, S, 2) each), and
    the colours (S, 3). The dots are near enough to cover lines of up to a quarter of the image.
    """
    ends = [
        (index, index + 1 if index + 1 < part.stop else part.start)
        for part in landmark_parts()
        for index in range(part.start, part.stop if part.closed else part.stop - 1)
    ]
    first, last = torch.tensor(ends, device=pixels.device).T
    count = max(4, math.ceil(side / 16))
    start = pixels[:, first].repeat_interleave(count, 1)  # (N, S, 2)
    way = pixels[:, last].repeat_interleave(count, 1) - start
    place = torch.linspace(0, 1, count, device=pixels.device).repeat(len(ends))[:, None]  # (S, 1)
    return start + place * way, (start, way), colours[first].repeat_interleave(count, 0)


def _draw(
    dots: Tensor,
    line: tuple[Tensor, Tensor] | None,
    colours: Tensor,
    present: Tensor,
    size: tuple[int, int],
    radius: float,
    soft: bool = False,
) -> Tensor:
    """Dots (N, P, 2) x, y, or the lines (start, way) that they lie on, in colours (P, 3), in frames `present` (N, 1).

    Returns (N, 3, H*W), the maximum of all. Touches only the few pixels around each dot, not all of the image.
    """
    height, width = size
    reach = math.ceil(3 * radius if soft else radius + 0.5)
    span = torch.arange(-reach, reach + 2, device=dots.device)
    offsets = torch.stack(torch.meshgrid(span, span, indexing="xy"), -1).reshape(-1, 2)  # (K, 2) x, y
    cells = dots.floor().long()[:, :, None] + offsets  # (N, P, K, 2)
    squared = _squared_distance(cells, dots, line)  # (N, P, K)
    if soft:
        edge = math.exp(-4.5)  # lowered to 0 at 3 sigma, or rounding would decide about the pixels there
        alpha = (((squared / (-2 * radius**2)).exp() - edge) / (1 - edge)).clamp(min=0)
    else:
        alpha = (radius + 0.5 - squared.sqrt()).clamp(0, 1)
    x, y = cells.unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & present[:, :, None]
    index = torch.where(inside, y * width + x, 0).flatten(1)  # (N, P*K)
    alpha = (alpha * inside)[:, None]  # (N, 1, P, K)
    values = (alpha * colours.T[None, :, :, None]).flatten(2)  # (N, 3, P*K)
    image = torch.zeros(len(dots), 3, height * width, device=dots.device)
    return image.scatter_reduce_(2, index[:, None].expand_as(values), values, "amax")


def _squared_distance(cells: Tensor, dots: Tensor, line: tuple[Tensor, Tensor] | None) -> Tensor:
    """Squared distance (N, P, K) of cells (N, P, K, 2) to their dot (N, P, 2), or to the line it lies on."""
    if line is None:
        return (cells - dots[:, :, None]).square().sum(-1)
    start, way = (x[:, :, None] for x in line)  # (N, P, 1, 2)
    share = ((cells - start) * way).sum(-1, keepdim=True) / way.square().sum(-1, keepdim=True).clamp(min=1e-6)
    return (cells - start - share.clamp(0, 1) * way).square().sum(-1)
