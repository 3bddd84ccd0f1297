"""A small fully convolutional U-Net for photographs of any size, raw: F(x, noise, labels).

Most of its time goes into few wide layers at half the resolution and below: pixels enter as stem x stem
blocks, no layer attends, and the long connections add instead of concatenating (as in DRUNet, Zhang et al.
2021). Norms are modulated by the noise level (Perez et al. 2018).

Shapes: x (B, in_channels, H, W), any H and W; noise (B,); labels (B,); emb (B, embedding); level l
(B, widths[l], H / (stem 2^l), W / (stem 2^l)) of the padded image; the answer (B, out_channels, H, W), or
twice the channels with a learned variance.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.networks import checks
from undiffuse.networks.blocks import (
    ClassEmbedding,
    GroupNorm,
    answer,
    conv3,
    dtype_of,
    norm_silu,
    timestep_embedding,
    with_labels,
    zeroed,
)
from undiffuse.registry import NETWORKS

WAVES = 64  # sinusoids that tell the noise level
CYCLES = (
    1 / 8,
    4.0,
)  # lowest and highest frequency of ln(sigma) / 4: the finest wave spans a factor e of sigma


@NETWORKS.register(
    "photo",
    summary="fully convolutional U-Net for photographs of any size, without attention",
    example="photo:embedding=128,blocks=2",
)
@dataclass(frozen=True, kw_only=True)
class PhotoConfig:
    """Sizes of a photograph U-Net."""

    in_channels: int = 3
    out_channels: int = 3
    learned_variance: bool = False  # as many channels again, for the variance
    stem: int = 2  # pixels a side that enter as one
    widths: tuple[int, ...] = (64, 96, 128)  # of each level, the finest first
    blocks: int = 2  # residual blocks a level, on the way down and again on the way up
    embedding: int = 128  # width of what the blocks are told
    told: Literal["log", "timestep"] = "log"  # noise is ln(sigma) / 4, as EDM's scaling tells, or 0 to 1000
    norm: Literal["group", "pixel", "none"] = "group"  # the others do not depend on the size of the image
    groups: int = 8  # of the norm 'group'
    dropout: float = 0.0
    num_classes: int | None = None
    null_class: bool = False  # one label more, num_classes: no class

    def __post_init__(self) -> None:
        checks.positive(
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            stem=self.stem,
            blocks=self.blocks,
            embedding=self.embedding,
            groups=self.groups,
        )
        checks.levels(self.widths, self.groups if self.norm == "group" else 1)
        checks.probability(dropout=self.dropout)
        checks.classes(self.num_classes, self.null_class)
        if self.told not in ("log", "timestep"):
            raise ValueError(f"told = '{self.told}'; expected 'log' (ln(sigma) / 4) or 'timestep'")
        if self.norm not in ("group", "pixel", "none"):
            raise ValueError(f"no norm named '{self.norm}'; choose from group, none, pixel")

    @property
    def multiple(self) -> int:
        """What height and width are padded to a multiple of."""
        return self.stem * 2 ** (len(self.widths) - 1)

    def build(self) -> "Photo":
        """The network, freshly initialised: its answer is zero."""
        return Photo(self)


class PixelNorm(nn.Module):
    """Each pixel divided by the root mean square of its channels, with a gain a channel."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, h: Tensor) -> Tensor:
        wide = h if h.dtype.itemsize >= 4 else h.float()
        size = wide.square().mean(1, keepdim=True).add(1e-5).rsqrt()
        return (wide * size * self.weight.to(wide.dtype)[:, None, None]).to(h.dtype)


class Block(nn.Module):
    """h + conv(SiLU((1 + scale) norm(conv(SiLU(norm(h)))) + shift)), scale and shift from emb."""

    def __init__(self, width: int, config: PhotoConfig):
        super().__init__()
        self.norm1, self.norm2 = _norm(width, config), _norm(width, config)
        self.conv1, self.conv2 = conv3(width, width), zeroed(conv3(width, width))
        self.told = nn.Linear(config.embedding, 2 * width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.told(emb)[:, :, None, None].chunk(2, 1)
        h = norm_silu(self.norm2, self.conv1(norm_silu(self.norm1, x)), scale, shift)
        return x + self.conv2(self.dropout(h))


class Photo(nn.Module):
    """F(x, noise, labels). For low-resolution conditioning, x holds the conditioning as further channels."""

    WIDE = ("embed", "label_emb", "norm_out", "conv_out")  # stay in float32 when the others are `lowered`

    def __init__(self, config: PhotoConfig):
        super().__init__()
        self.config = config
        widths, pairs = config.widths, list(zip(config.widths, config.widths[1:], strict=False))
        answers = config.out_channels * (2 if config.learned_variance else 1)
        self.embed = nn.Sequential(
            nn.Linear(WAVES, config.embedding), nn.SiLU(), nn.Linear(config.embedding, config.embedding)
        )
        self.label_emb = (
            None
            if config.num_classes is None
            else ClassEmbedding(config.num_classes, config.embedding, config.null_class)
        )
        self.stem = conv3(config.in_channels * config.stem**2, widths[0])
        self.down = nn.ModuleList(_blocks(width, config) for width in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.mid = _blocks(widths[-1], config)
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in reversed(pairs)
        )
        self.up = nn.ModuleList(_blocks(width, config) for width in reversed(widths[:-1]))
        self.norm_out = _norm(widths[0], config)
        self.conv_out = zeroed(conv3(widths[0], answers * config.stem**2))

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        checks.image(x, noise, self.config.in_channels, 1)
        height, width = x.shape[2:]
        waves = self._waves(noise).to(dtype_of(self.embed))
        x = x.to(dtype_of(self.stem))
        emb = F.silu(with_labels(self.embed(waves), self.label_emb, labels)).to(x.dtype)
        h = self.stem(F.pixel_unshuffle(reflected(x, self.config.multiple), self.config.stem))
        skips: list[Tensor] = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            h = _run(blocks, h, emb)
            skips.append(h)
            h = shrink(h)
        h = _run(self.mid, h, emb)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            h = _run(blocks, grow(h) + skips.pop(), emb)
        h = answer(self.norm_out, self.conv_out, h)
        return F.pixel_shuffle(h, self.config.stem)[:, :, :height, :width]

    def _waves(self, noise: Tensor) -> Tensor:
        if self.config.told == "timestep":
            return timestep_embedding(noise, WAVES, "adm")
        noise = noise if noise.dtype == torch.float64 else noise.float()
        low, high = (math.log(2 * math.pi * cycles) for cycles in CYCLES)
        rates = torch.linspace(low, high, WAVES // 2, dtype=noise.dtype, device=noise.device).exp()
        return torch.cat(((noise[:, None] * rates).cos(), (noise[:, None] * rates).sin()), 1)


def reflected(x: Tensor, multiple: int) -> Tensor:
    """x continued to the right and down, to sides that `multiple` divides, by reflection about the last pixel.

    Sides shorter than what is missing are reflected to and fro, which torch's own padding refuses.
    """
    for axis in (2, 3):
        size = x.shape[axis]
        missing = -size % multiple
        if missing:
            period = max(2 * size - 2, 1)
            position = torch.arange(size + missing, device=x.device) % period
            x = x.index_select(axis, torch.minimum(position, period - position) if size > 1 else position)
    return x


def _norm(width: int, config: PhotoConfig) -> nn.Module:
    if config.norm == "group":
        return GroupNorm(config.groups, width)
    return PixelNorm(width) if config.norm == "pixel" else nn.Identity()


def _blocks(width: int, config: PhotoConfig) -> nn.ModuleList:
    return nn.ModuleList(Block(width, config) for _ in range(config.blocks))


def _run(blocks: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
    for block in blocks.children():
        h = block(h, emb)
    return h
