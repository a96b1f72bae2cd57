"""Pictures for training the bundled networks: cutting squares out of rendered frames, changing light and colour, and
pictures without a face.

All randomness comes from one torch.Generator, so that a seed fixes the training. Images are float (N, 3, H, W) in
[0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


def uniform(count: int, low: float, high: float, random: torch.Generator) -> Tensor:
    """`count` numbers, evenly distributed between `low` and `high`."""
    return torch.rand(count, generator=random) * (high - low) + low


def chance(count: int, probability: float, random: torch.Generator) -> Tensor:
    """`count` booleans, each True with the given probability."""
    return torch.rand(count, generator=random) < probability


@dataclass
class Square:
    """Squares in N images: centre (N, 2) and side (N,) in pixels, turned by angle (N,) radians, flip (N,) mirrors."""

    centre: Tensor
    side: Tensor
    angle: Tensor
    flip: Tensor

    def pick(self, index: slice) -> Square:
        """The squares at `index`."""
        return Square(self.centre[index], self.side[index], self.angle[index], self.flip[index])

    def points(self, pixels: Tensor) -> Tensor:
        """Points (N, K, 2) in pixels of the image -> [0, 1] of the square."""
        x, y = ((pixels - self.centre[:, None]) / self.side[:, None, None]).unbind(-1)  # (N, K)
        cosine, sine = self.angle.cos()[:, None], self.angle.sin()[:, None]
        across = (cosine * x + sine * y) * (1 - 2 * self.flip.float()[:, None])
        return torch.stack([across, cosine * y - sine * x], -1) + 0.5

    def grid(self, size: int, width: int, height: int) -> Tensor:
        """Where each of size x size pixels of the square lies in the image, as `grid_sample` wants it (N, s, s, 2)."""
        steps = (torch.arange(size) + 0.5) / size - 0.5
        side, cosine, sine = (value[:, None, None] for value in (self.side, self.angle.cos(), self.angle.sin()))
        across, down = steps * (1 - 2 * self.flip.float()[:, None, None]) * side, steps[:, None] * side
        x = cosine * across - sine * down + self.centre[:, 0, None, None]  # (N, s, s)
        y = sine * across + cosine * down + self.centre[:, 1, None, None]
        return torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)

    def cut(self, images: Tensor, size: int) -> Tensor:
        """The squares' pixels (N, C, size, size), shrunk without aliasing; border pixels are repeated outside."""
        result = torch.empty(len(images), images.shape[1], size, size)
        level = (self.side / size).log2().round().clamp(0, 3).long()
        grid = self.grid(size, images.shape[3], images.shape[2])
        for step in level.unique().tolist():
            index = (level == step).nonzero()[:, 0]
            source = functional.avg_pool2d(images[index], 2**step) if step else images[index]
            result[index] = functional.grid_sample(source, grid[index], padding_mode="border", align_corners=False)
        return result

    def cut_labels(self, labels: Tensor, size: int) -> Tensor:
        """The squares' class ids: uint8 (N, H, W) -> (N, size, size) int64, -1 outside the image."""
        grid = self.grid(size, labels.shape[2], labels.shape[1])
        shifted = functional.grid_sample(
            labels[:, None].float() + 1, grid, mode="nearest", padding_mode="zeros", align_corners=False
        )
        return shifted[:, 0].long() - 1


def relight(images: Tensor, random: torch.Generator) -> Tensor:
    """Change brightness, contrast, gamma and colour of each image, and drop the colour of some."""
    count = len(images)

    def each(low: float, high: float, channels: int = 1) -> Tensor:
        return uniform(count * channels, low, high, random).view(count, channels, 1, 1)

    images = images + each(-0.7, 0.7) * images * (1 - images)  # bends the tone curve as a gamma does, but cheaply
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * each(0.55, 1.35) + mean + each(-0.2, 0.2)
    grey = images.mean(1, keepdim=True)
    saturation = each(0.4, 1.5) * (~chance(count, 0.12, random)).float().view(-1, 1, 1, 1)
    images = grey + (images - grey) * saturation
    return (images * each(0.85, 1.15, 3)).clamp(0, 1)


def degrade(images: Tensor, random: torch.Generator) -> Tensor:
    """Blur some images, lower the resolution of some, add noise to half of them."""
    images = images.clone()
    size = images.shape[-1]
    blurred = chance(len(images), 0.3, random)
    images[blurred] = functional.avg_pool2d(functional.pad(images[blurred], (1, 1, 1, 1), mode="replicate"), 3, 1)
    coarse = chance(len(images), 0.15, random)
    if coarse.any():
        small = functional.interpolate(images[coarse], (size // 2, size // 2), mode="bilinear", antialias=True)
        images[coarse] = functional.interpolate(small, (size, size), mode="bilinear", align_corners=False)
    noisy = chance(len(images), 0.5, random)
    strength = uniform(int(noisy.sum()), 0, 0.06, random).view(-1, 1, 1, 1)
    images[noisy] += strength * torch.randn(images[noisy].shape, generator=random)
    return images.clamp(0, 1)


def lower(images: Tensor, random: torch.Generator) -> Tensor:
    """Shrink some images to a quarter to a half of their size and back, and darken some, as film stills are."""
    images = images.clone()
    size = images.shape[-1]
    for index in chance(len(images), 0.2, random).nonzero()[:, 0].tolist():
        small = int(torch.randint(size // 4, size // 2, (1,), generator=random))
        part = functional.interpolate(images[index : index + 1], (small, small), mode="bilinear", antialias=True)
        images[index] = functional.interpolate(part, (size, size), mode="bilinear", align_corners=False)[0]
    dark = chance(len(images), 0.2, random)
    images[dark] *= uniform(int(dark.sum()), 0.25, 0.8, random).view(-1, 1, 1, 1)
    return images


def occlude(images: Tensor, patches: Tensor, random: torch.Generator, probability: float = 0.25) -> Tensor:
    """Put a piece of another picture over a part of some images, at most 45 % of the width and height."""
    images = images.clone()
    size = images.shape[-1]
    for index in chance(len(images), probability, random).nonzero()[:, 0].tolist():
        width, height = (uniform(2, 0.1, 0.45, random) * size).int().tolist()
        x, y = (int(torch.randint(0, size - side, (1,), generator=random)) for side in (width, height))
        patch = patches[int(torch.randint(0, len(patches), (1,), generator=random))]
        images[index, :, y : y + height, x : x + width] = patch[:, y : y + height, x : x + width]
    return images


def pictures_without_face(count: int, size: int, random: torch.Generator) -> Tensor:
    """Pictures that show no face (N, 3, size, size): clouds, stripes, blobs, blocks and two photographs' pieces."""
    makers = (_clouds, _stripes, _blobs, _photographs, _photographs)
    shares = torch.randint(0, len(makers), (count,), generator=random)
    pictures = torch.empty(count, 3, size, size)
    for kind, maker in enumerate(makers):
        index = (shares == kind).nonzero()[:, 0]
        pictures[index] = maker(len(index), size, random)
    return pictures.clamp(0, 1)


def _clouds(count: int, size: int, random: torch.Generator) -> Tensor:
    total = torch.rand(count, 3, 1, 1, generator=random).expand(-1, -1, size, size).clone()
    for cells in (2, 5, 11, 24, size):
        strength = uniform(count, 0, 0.6, random).view(-1, 1, 1, 1) * 4 / (cells + 4)
        colour = chance(count, 0.5, random).float().view(-1, 1, 1, 1)
        noise = torch.randn(count, 3, cells, cells, generator=random)
        noise = noise * colour + noise[:, :1] * (1 - colour)
        total += strength * functional.interpolate(noise, (size, size), mode="bicubic", align_corners=False)
    return total


def _stripes(count: int, size: int, random: torch.Generator) -> Tensor:
    steps = torch.linspace(-1, 1, size)
    angle, speed = uniform(count, 0, math.pi, random), uniform(count, 2, 40, random)
    wave = angle.cos()[:, None, None] * steps + angle.sin()[:, None, None] * steps[:, None]
    wave = (wave * speed[:, None, None]).sin()[:, None]  # (N, 1, size, size)
    sharp = chance(count, 0.5, random).view(-1, 1, 1, 1)
    wave = torch.where(sharp, wave.sign(), wave) * 0.5 + 0.5
    first, second = torch.rand(2, count, 3, 1, 1, generator=random)
    return first * wave + second * (1 - wave)


def _blobs(count: int, size: int, random: torch.Generator) -> Tensor:
    """Flat ellipses and boxes over clouds, skin-coloured ones among them: a head's outline is not yet a face."""
    pictures = _clouds(count, size, random)
    steps = torch.linspace(-1, 1, size)
    for _ in range(6):
        centre = uniform(2 * count, -1, 1, random).view(2, -1)
        radius = uniform(2 * count, 0.08, 0.7, random).view(2, -1)
        across = ((steps - centre[0, :, None]) / radius[0, :, None]).abs()[:, None, :]
        down = ((steps - centre[1, :, None]) / radius[1, :, None]).abs()[:, :, None]
        oval = chance(count, 0.6, random).view(-1, 1, 1)
        inside = torch.where(oval, across**2 + down**2, torch.maximum(across, down)) < 1
        colour = torch.rand(count, 3, generator=random)
        skin = torch.tensor([0.85, 0.62, 0.5]) * uniform(count, 0.3, 1.1, random)[:, None]
        colour = torch.where(chance(count, 0.4, random)[:, None], skin, colour)
        pictures = torch.where(inside[:, None], colour[:, :, None, None], pictures)
    return pictures


def _photographs(count: int, size: int, random: torch.Generator) -> Tensor:
    """Pieces of the two photographs (a temple, a flower) that come with scikit-learn, at all scales and colours."""
    from sklearn.datasets import load_sample_images

    photographs = torch.stack([torch.from_numpy(image.copy()) for image in load_sample_images().images])
    photographs = functional.avg_pool2d(photographs.permute(0, 3, 1, 2).float() / 255, 2)  # (2, 3, 213, 320)
    side = uniform(count, math.log(20), math.log(213), random).exp()
    where = torch.rand(count, 2, generator=random) * (torch.tensor([320.0, 213.0]) - side[:, None]) + side[:, None] / 2
    square = Square(where, side, uniform(count, -math.pi, math.pi, random), chance(count, 0.5, random))
    which = torch.randint(0, 2, (count,), generator=random).tolist()
    pictures = torch.empty(count, 3, size, size)
    for index in range(count):
        one = slice(index, index + 1)
        pictures[one] = square.pick(one).cut(photographs[which[index]][None], size)
    shuffled = torch.rand(count, 3, generator=random).argsort(1)[:, :, None, None].expand(-1, -1, size, size)
    swap = chance(count, 0.3, random).view(-1, 1, 1, 1)
    return torch.where(swap, pictures.gather(1, shuffled), pictures)
