"""LPIPS: distance of deep features, as a network and its weights see two pictures. Weights: `open_lpips`."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SHIFT = (-0.030, -0.088, -0.188)  # of the published version 0.1: ImageNet's mean and deviation on [-1, 1]
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10  # as published; beside the length of a feature vector


@dataclass(frozen=True, slots=True)
class Trunk:
    """A classification network up to its last convolution, layers numbered as in torchvision's files."""

    build: Callable[[], nn.Sequential]
    ends: tuple[int, ...]  # layers after which features are compared
    widths: tuple[int, ...]  # channels there
    least: int  # pixels a side


def _alexnet() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )


def _vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for convolutions, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        if layers:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)


TRUNKS = {  # Krizhevsky 2014 (one weird trick), Simonyan and Zisserman 2015
    "alex": Trunk(_alexnet, (2, 5, 8, 10, 12), (64, 192, 384, 256, 256), 31),
    "vgg": Trunk(_vgg16, (4, 9, 16, 23, 30), (64, 128, 256, 512, 512), 16),
}


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al. 2018, eq. 1), freshly initialised.

    d = sum over layers l of the mean over positions of |sqrt(w_l) * (f_l - g_l)|^2, f and g the features of
    the two pictures, each position's scaled to length 1. `net` is "alex", the one that papers report as LPIPS
    unless they say VGG, or "vgg". Parameters are named as in the published files.
    """

    def __init__(self, net: str = "alex"):
        super().__init__()
        if net not in TRUNKS:
            raise ValueError(f"no LPIPS network named '{net}'; choose from {', '.join(TRUNKS)}")
        self.net, self.least = net, TRUNKS[net].least
        self.published = False  # `open_lpips` says whether the weights are the published ones
        self.features = TRUNKS[net].build()
        for level, width in enumerate(TRUNKS[net].widths):
            head = nn.Conv2d(width, 1, 1, bias=False)
            self.add_module(f"lin{level}", nn.ModuleDict({"model": nn.ModuleDict({"1": head})}))
        self.requires_grad_(False).eval()

    @property
    def mark(self) -> str:
        """A hash of its weights, whatever files they came in."""
        found = hashlib.sha256()
        for name, value in self.state_dict().items():
            found.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """Distance of each pair, (B,), 0 for equal pictures; (B, 3, H, W) in [-1, 1], clamped to it.

        Grey counts as three equal channels. One stage of both pictures is held at a time. ValueError for other
        numbers of channels, and for a side under 31 pixels (alex) or 16 (vgg).
        """
        trunk = TRUNKS[self.net]
        for picture in (x, reference):
            if picture.shape[1] not in (1, 3) or min(picture.shape[-2:]) < self.least:
                shape = "x".join(str(size) for size in picture.shape[1:])
                raise ValueError(
                    f"LPIPS needs 1 or 3 channels and {self.least} pixels a side; this is {shape}"
                )
        f, g = self._scaled(x), self._scaled(reference)
        total, begin = f.new_zeros(f.shape[0]), 0
        for level, end in enumerate(trunk.ends):
            for layer in list(self.features)[begin:end]:
                f, g = layer(f), layer(g)
            weight = self.get_parameter(f"lin{level}.model.1.weight")[0]  # (C, 1, 1)
            total = total + ((_directions(f) - _directions(g)) ** 2 * weight).sum(1).flatten(1).mean(1)
            begin = end
        return total

    def _scaled(self, x: Tensor) -> Tensor:
        weight = self.get_parameter("features.0.weight")
        x = x.to(weight).clamp(-1, 1).expand(-1, 3, -1, -1)
        shift, scale = (torch.tensor(values).to(x)[:, None, None] for values in (SHIFT, SCALE))
        return (x - shift) / scale


def _directions(f: Tensor) -> Tensor:
    return f / (f.square().sum(1, keepdim=True).sqrt() + EPSILON)
