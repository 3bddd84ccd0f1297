"""The Inception network of FID (Szegedy et al. 2015), as TensorFlow's graph of 2015-12-05 computes, for its weights.

It departs from torchvision's in three places: average pools count no padding, the last block pools by maximum, and
there are 1008 classes. Parameters are named as in pt_inception-2015-12-05-6726825d.pth of pytorch-fid and
torch-fidelity.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, WIDTH, CLASSES = 299, 2048, 1008
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

Size = int | tuple[int, int]


class Convolution(nn.Module):
    """Convolution, batch normalisation as trained, rectifier."""

    def __init__(self, channels: int, width: int, size: Size, stride: int = 1, padding: Size = 0):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


def _wide(channels: int, width: int, taps: int) -> Convolution:
    return Convolution(channels, width, (1, taps), padding=(0, taps // 2))


def _tall(channels: int, width: int, taps: int) -> Convolution:
    return Convolution(channels, width, (taps, 1), padding=(taps // 2, 0))


class Branches(nn.Module):
    """Chains of convolutions side by side, and a pooled one; their outputs as one.

    A chain names its layers; a tuple of names at its end stands for layers side by side.
    """

    def __init__(
        self,
        layers: Mapping[str, Convolution],
        chains: tuple[tuple[str | tuple[str, ...], ...], ...],
        pool: str,
    ):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.chains, self.pool = chains, pool

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for chain in self.chains:
            y = x
            for name in chain:
                names = (name,) if isinstance(name, str) else name
                y = torch.cat([self.get_submodule(part)(y) for part in names], 1)
            outputs.append(y)
        return torch.cat([*outputs, self._pooled(x)], 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "halving":
            return functional.max_pool2d(x, 3, 2)
        if self.pool == "maximum":
            pooled = functional.max_pool2d(x, 3, 1, 1)
        else:
            pooled = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return self.get_submodule("branch_pool")(pooled)


def _block_a(channels: int, pooled: int) -> Branches:
    layers = {
        "branch1x1": Convolution(channels, 64, 1),
        "branch5x5_1": Convolution(channels, 48, 1),
        "branch5x5_2": Convolution(48, 64, 5, padding=2),
        "branch3x3dbl_1": Convolution(channels, 64, 1),
        "branch3x3dbl_2": Convolution(64, 96, 3, padding=1),
        "branch3x3dbl_3": Convolution(96, 96, 3, padding=1),
        "branch_pool": Convolution(channels, pooled, 1),
    }
    double = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return Branches(layers, (("branch1x1",), ("branch5x5_1", "branch5x5_2"), double), "average")


def _block_b(channels: int) -> Branches:
    layers = {
        "branch3x3": Convolution(channels, 384, 3, 2),
        "branch3x3dbl_1": Convolution(channels, 64, 1),
        "branch3x3dbl_2": Convolution(64, 96, 3, padding=1),
        "branch3x3dbl_3": Convolution(96, 96, 3, 2),
    }
    double = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return Branches(layers, (("branch3x3",), double), "halving")


def _block_c(channels: int, inner: int) -> Branches:
    layers = {
        "branch1x1": Convolution(channels, 192, 1),
        "branch7x7_1": Convolution(channels, inner, 1),
        "branch7x7_2": _wide(inner, inner, 7),
        "branch7x7_3": _tall(inner, 192, 7),
        "branch7x7dbl_1": Convolution(channels, inner, 1),
        "branch7x7dbl_2": _tall(inner, inner, 7),
        "branch7x7dbl_3": _wide(inner, inner, 7),
        "branch7x7dbl_4": _tall(inner, inner, 7),
        "branch7x7dbl_5": _wide(inner, 192, 7),
        "branch_pool": Convolution(channels, 192, 1),
    }
    single = tuple(f"branch7x7_{i}" for i in (1, 2, 3))
    double = tuple(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))
    return Branches(layers, (("branch1x1",), single, double), "average")


def _block_d(channels: int) -> Branches:
    layers = {
        "branch3x3_1": Convolution(channels, 192, 1),
        "branch3x3_2": Convolution(192, 320, 3, 2),
        "branch7x7x3_1": Convolution(channels, 192, 1),
        "branch7x7x3_2": _wide(192, 192, 7),
        "branch7x7x3_3": _tall(192, 192, 7),
        "branch7x7x3_4": Convolution(192, 192, 3, 2),
    }
    long = tuple(f"branch7x7x3_{i}" for i in (1, 2, 3, 4))
    return Branches(layers, (("branch3x3_1", "branch3x3_2"), long), "halving")


def _block_e(channels: int, pool: str) -> Branches:
    layers = {
        "branch1x1": Convolution(channels, 320, 1),
        "branch3x3_1": Convolution(channels, 384, 1),
        "branch3x3_2a": _wide(384, 384, 3),
        "branch3x3_2b": _tall(384, 384, 3),
        "branch3x3dbl_1": Convolution(channels, 448, 1),
        "branch3x3dbl_2": Convolution(448, 384, 3, padding=1),
        "branch3x3dbl_3a": _wide(384, 384, 3),
        "branch3x3dbl_3b": _tall(384, 384, 3),
        "branch_pool": Convolution(channels, 192, 1),
    }
    single = ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b"))
    double = ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b"))
    return Branches(layers, (("branch1x1",), single, double), pool)


class Inception(nn.Module):
    """Features and logits of pictures, freshly initialised."""

    def __init__(self):
        super().__init__()
        layers: dict[str, nn.Module] = {
            "Conv2d_1a_3x3": Convolution(3, 32, 3, 2),
            "Conv2d_2a_3x3": Convolution(32, 32, 3),
            "Conv2d_2b_3x3": Convolution(32, 64, 3, padding=1),
            "pool_1": nn.MaxPool2d(3, 2),
            "Conv2d_3b_1x1": Convolution(64, 80, 1),
            "Conv2d_4a_3x3": Convolution(80, 192, 3),
            "pool_2": nn.MaxPool2d(3, 2),
            "Mixed_5b": _block_a(192, 32),
            "Mixed_5c": _block_a(256, 64),
            "Mixed_5d": _block_a(288, 64),
            "Mixed_6a": _block_b(288),
            "Mixed_6b": _block_c(768, 128),
            "Mixed_6c": _block_c(768, 160),
            "Mixed_6d": _block_c(768, 160),
            "Mixed_6e": _block_c(768, 192),
            "Mixed_7a": _block_d(768),
            "Mixed_7b": _block_e(1280, "average"),
            "Mixed_7c": _block_e(2048, "maximum"),
        }
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.trunk = tuple(layers)
        self.fc = nn.Linear(WIDTH, CLASSES)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 299, 299) in [-1, 1] -> features (B, 2048) and logits (B, 1008) without bias, as scores are published.

        The graph sees (v - 128) / 128 of bytes v, which is not quite [-1, 1].
        """
        x = (127.5 * x - 0.5) / 128
        for name in self.trunk:
            x = self.get_submodule(name)(x)
        features = x.mean((2, 3))
        return features, features @ self.fc.weight.T


def resized(x: Tensor, side: int = SIDE) -> Tensor:
    """(B, C, H, W) to a square as TensorFlow 1 does it: bilinear, pixel i of the new from i H / side of the old.

    No half-pixel centres and no filter when it shrinks: how FID was defined, and why it sees aliasing (Parmar et al.
    2022).
    """
    for dim in (3, 2):
        n = x.shape[dim]
        at = torch.arange(side, dtype=torch.float32, device=x.device) * torch.tensor(n / side)
        low = at.long().clamp(max=n - 1)
        high = (low + 1).clamp(max=n - 1)
        weight = (at - low).reshape((-1, 1) if dim == 2 else (-1,))
        below, above = x.index_select(dim, low), x.index_select(dim, high)
        x = below + (above - below) * weight
    return x
