"""The two small convolutional networks of the bundled face back end `lite`, and the file their weights come in.

`FaceFinder` looks at a whole frame at 64 x 64 and says where faces are; `FaceReader` looks at one face at 96 x 96 and
gives 68 landmarks, the 11-class parsing and how sure it is that this is a face. Both are trained from scratch on
rendered and real faces by examples/weights.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fclip.errors import FclipError
from fclip.records import LANDMARKS, PARSING_CLASSES

FINDER_SIZE, FINDER_GRID = 64, 16  # pixels of the whole frame, cells of the map of face centres
READER_SIZE, READER_GRID = 96, 24  # pixels of the face crop, cells of the landmarks' maps
FORMAT = "fclip-lite-2"


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions with a skip around them; (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with what the two convolutions found added to them."""
        return functional.relu(features + self.norm(self.second(self.first(features))))


def _twice(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")


class FaceFinder(nn.Module):
    """Face centres and sizes on a grid over the frame, as CenterNet (Zhou et al., 2019) puts it.

    Fully convolutional: twice the input gives twice the grid, and finds faces half the size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, 2), conv(16, 32, 2), Residual(32))
        self.middle = nn.Sequential(conv(32, 64, 2), Residual(64))
        self.deep = nn.Sequential(conv(64, 96, 2), Residual(96), Residual(96))
        self.deep_up = conv(96, 64)
        self.middle_up = conv(64, 32)
        last = nn.Conv2d(32, 4, 1)
        last.bias = nn.Parameter(torch.tensor([-4.0, 0.0, 0.0, 0.0]))  # faces are rare among cells
        self.head = nn.Sequential(conv(32, 32), last)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, S, S) in [-1, 1] to (N, 4, S/4, S/4).

        Channels: logit that a face's centre lies in the cell; the centre's x and y from the cell's middle, in cells;
        the natural logarithm of the face's side in cells.
        """
        fine = self.stem(images)  # (N, 32, S/4, S/4)
        middle = self.middle(fine)  # (N, 64, S/8, S/8)
        middle = middle + _twice(self.deep_up(self.deep(middle)))
        return self.head(fine + _twice(self.middle_up(middle)))


class FaceReader(nn.Module):
    """Landmarks, parsing and presence of one face: an encoder-decoder with soft-argmax landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.level2 = nn.Sequential(conv(3, 16, 2), conv(16, 16))
        self.level4 = nn.Sequential(conv(16, 32, 2), Residual(32))
        self.level8 = nn.Sequential(conv(32, 64, 2), Residual(64))
        self.level16 = nn.Sequential(conv(64, 96, 2), Residual(96), Residual(96))
        self.presence = nn.Linear(96, 1)
        self.level8_up = conv(96, 64)
        self.level4_up = nn.Conv2d(64, 32, 1, bias=False)
        self.level4_mix = conv(32, 48)
        self.points = nn.Conv2d(48, LANDMARKS, 1)
        self.usual_places = nn.Parameter(torch.zeros(LANDMARKS, READER_GRID, READER_GRID))
        self.level2_up = nn.Conv2d(48, 16, 1, bias=False)
        self.level2_mix = nn.Sequential(conv(16, 24), conv(24, 24))
        self.classes = nn.Conv2d(24, len(PARSING_CLASSES) * 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read face crops (N, 3, 96, 96) in [-1, 1].

        Returns landmarks (N, 68, 2), x then y in [0, 1] of the crop (a little outside is possible), parsing logits
        (N, 11, 96, 96) and the logit (N,) that the crop shows a face.
        """
        half, _, quarter, _, presence = self.look(images)
        return self.place(quarter), functional.pixel_shuffle(self.parse(half, quarter).flatten(1, 2), 2), presence

    def locate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks and presence of `forward`, without the parsing: about two thirds of the work."""
        _, _, quarter, _, presence = self.look(images)
        return self.place(quarter), presence

    def look(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Features (N, 16, 48, 48), (N, 64, 12, 12), (N, 48, 24, 24) and (N, 96), and the presence (N,)."""
        half = self.level2(images)  # (N, 16, 48, 48)
        quarter = self.level4(half)  # (N, 32, 24, 24)
        eighth = self.level8(quarter)  # (N, 64, 12, 12)
        deep = self.level16(eighth)  # (N, 96, 6, 6)
        eighth = eighth + _twice(self.level8_up(deep))
        quarter = self.level4_mix(functional.relu(quarter + _twice(self.level4_up(eighth))))  # (N, 48, 24, 24)
        deep = deep.mean(dim=(2, 3))
        return half, eighth, quarter, deep, self.presence(deep)[:, 0]

    def place(self, quarter: Tensor) -> Tensor:
        """Landmarks (N, 68, 2) from the features (N, 48, 24, 24) of `look`."""
        return soft_argmax(self.points(quarter) + self.usual_places)

    def parse(self, half: Tensor, quarter: Tensor) -> Tensor:
        """Parsing logits from features of `look`, those of each pixel's four quarters apart: (N, 11, 4, 48, 48)."""
        half = self.level2_mix(half + _twice(self.level2_up(quarter)))  # (N, 24, 48, 48)
        return self.classes(half).unflatten(1, (len(PARSING_CLASSES), 4))


def soft_argmax(maps: Tensor) -> Tensor:
    """Mean position under the softmax of each map: (N, K, H, W) -> (N, K, 2), x then y."""
    height, width = maps.shape[-2:]
    mass = maps.float().flatten(2).softmax(-1).view(*maps.shape)
    across, down = cell_centres(width).to(maps.device), cell_centres(height).to(maps.device)
    return torch.stack([(mass.sum(2) * across).sum(-1), (mass.sum(3) * down).sum(-1)], -1)


def cell_centres(count: int) -> Tensor:
    """Where the cells of a landmark map lie along one side of the image, a little beyond it included: (count,)."""
    return torch.linspace(-0.15, 1.15, count)


class LiteNetworks(nn.Module):
    """Both networks as one module, so that one file holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.finder = FaceFinder()
        self.reader = FaceReader()


def save_lite(path: Path, networks: LiteNetworks, **metadata: object) -> None:
    """Write the weights as safetensors: kernels in float16, the short per-channel tensors in float32."""
    from safetensors.torch import save_file

    state = {
        name: tensor.detach().to(torch.float16 if tensor.ndim > 1 else torch.float32).contiguous()
        for name, tensor in networks.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, path, {"format": FORMAT, "training": json.dumps(metadata, sort_keys=True)})


def load_lite(path: Path) -> LiteNetworks:
    """Read a file of `save_lite` into float32 networks in evaluation mode; FclipError if it is not such a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("format") != FORMAT:
                raise FclipError(f"{path}: not weights of the face back end lite; make them with: make weights")
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise FclipError(f"{path}: cannot be read as lite weights ({error}); leave --weights out") from error
    networks = LiteNetworks()
    expected = {name for name in networks.state_dict() if not name.endswith("num_batches_tracked")}
    if set(state) != expected:
        raise FclipError(f"{path}: tensors are not those of lite networks; make them with: make weights")
    networks.load_state_dict(state, strict=False)
    return fold_norms(networks.eval()).requires_grad_(False)


def fold_norms(networks: LiteNetworks) -> LiteNetworks:
    """Put each batch norm into the convolution before it, in place: the same numbers in less time."""
    for module in networks.modules():
        if isinstance(module, Residual) and isinstance(module.norm, nn.BatchNorm2d):
            module.second, module.norm = fuse_conv_bn_eval(module.second, module.norm), nn.Identity()
        elif isinstance(module, nn.Sequential) and len(module) == 3:
            kernel, norm = module[0], module[1]
            if isinstance(kernel, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(kernel, norm), nn.Identity()
    return networks
