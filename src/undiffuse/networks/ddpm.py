"""The DDPM U-Net (Ho et al. 2020, appendix B; the 'simple' model of DDIM and DDRM), raw: F(x, noise, labels).

Shapes: x (B, in_channels, H, W), H and W multiples of 2^(levels - 1); noise (B,), a timestep or whatever the
scaling tells; labels (B,); emb (B, 4 width); the answer (B, out_channels, H, W), or twice the channels with
a learned variance. Published state dicts load key for key.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.networks import checks
from undiffuse.networks.blocks import (
    ClassEmbedding,
    GroupNorm,
    Upsample,
    answer,
    attend,
    conv3,
    dtype_of,
    image_of,
    norm_silu,
    per_token,
    timestep_embedding,
    tokens_of,
    with_labels,
    zeroed,
)
from undiffuse.registry import NETWORKS

EPS = 1e-6  # of the normalisation; torch's and ADM's is 1e-5


@NETWORKS.register(
    "ddpm",
    summary="DDPM U-Net (Ho et al. 2020): one head of attention, the noise added",
    example="ddpm:width=64,blocks=2",
)
@dataclass(frozen=True, kw_only=True)
class DDPMConfig:
    """Sizes of a DDPM U-Net; the defaults are those for CIFAR-10."""

    in_channels: int = 3
    out_channels: int = 3
    learned_variance: bool = False  # as many channels again, for the variance
    width: int = 128
    multipliers: tuple[float, ...] = (1, 2, 2, 2)  # of the width, a level each, the finest first
    blocks: int = 2  # residual blocks a level
    attention: tuple[int, ...] = (1,)  # levels, 0 the finest; the middle always attends
    dropout: float = 0.1
    num_classes: int | None = None
    null_class: bool = False  # one label more, num_classes: no class
    groups: int = 32  # of the normalisation

    def __post_init__(self) -> None:
        checks.positive(
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            width=self.width,
            blocks=self.blocks,
            groups=self.groups,
        )
        if self.width < 4:
            raise ValueError(f"width = {self.width}; expected at least 4, as the noise embedding has pairs")
        checks.probability(dropout=self.dropout)
        checks.levels(self.widths, self.groups, self.attention)
        checks.classes(self.num_classes, self.null_class)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(int(multiplier * self.width) for multiplier in self.multipliers)

    @property
    def multiple(self) -> int:
        """What height and width have to be multiples of."""
        return 2 ** (len(self.multipliers) - 1)

    def build(self) -> "DDPM":
        """The network, freshly initialised: its answer is zero."""
        return DDPM(self)


class Block(nn.Module):
    """Residual block: the noise is added between two convolutions."""

    def __init__(self, width_in: int, width_out: int, config: DDPMConfig):
        super().__init__()
        self.norm1 = GroupNorm(config.groups, width_in, EPS)
        self.conv1 = conv3(width_in, width_out)
        self.temb_proj = nn.Linear(4 * config.width, width_out)
        self.norm2 = GroupNorm(config.groups, width_out, EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = zeroed(conv3(width_out, width_out))
        self.nin_shortcut = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(norm_silu(self.norm1, x)) + self.temb_proj(F.silu(emb))[:, :, None, None]
        h = self.conv2(self.dropout(norm_silu(self.norm2, h)))
        return (x if self.nin_shortcut is None else self.nin_shortcut(x)) + h


class Attention(nn.Module):
    """Self-attention over all pixels with one head; q, k and v are layers of their own."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.norm = GroupNorm(groups, width, EPS)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        tokens = tokens_of(self.norm(x))
        mixed = attend(*(per_token(layer, tokens)[:, None] for layer in (self.q, self.k, self.v)))
        return x + image_of(per_token(self.proj_out, mixed), x)


class Downsample(nn.Module):
    """Half the resolution by a strided convolution that looks to the right and down, as TensorFlow pads."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Residual blocks of one resolution; `attn` is empty, or has one layer a block."""

    def __init__(self, widths_in: list[int], width: int, attends: bool, config: DDPMConfig):
        super().__init__()
        self.block = nn.ModuleList(Block(width_in, width, config) for width_in in widths_in)
        self.attn = nn.ModuleList(Attention(width, config.groups) for _ in widths_in if attends)

    def step(self, index: int, h: Tensor, emb: Tensor) -> Tensor:
        """Block `index` with its attention."""
        h = self.block[index](h, emb)
        return self.attn[index](h) if len(self.attn) else h


class Down(Level):
    """A level of the contracting half: answers with all that the expanding half is handed, h last."""

    def __init__(self, widths_in: list[int], width: int, attends: bool, last: bool, config: DDPMConfig):
        super().__init__(widths_in, width, attends, config)
        self.downsample = None if last else Downsample(width)

    def forward(self, h: Tensor, emb: Tensor) -> list[Tensor]:
        made: list[Tensor] = []
        for index in range(len(self.block)):
            h = self.step(index, h, emb)
            made.append(h)
        return made if self.downsample is None else [*made, self.downsample(h)]


class Up(Level):
    """A level of the expanding half: takes what it needs from the end of `skips`."""

    def __init__(self, widths_in: list[int], width: int, attends: bool, last: bool, config: DDPMConfig):
        super().__init__(widths_in, width, attends, config)
        self.upsample = None if last else Upsample(width)

    def forward(self, h: Tensor, emb: Tensor, skips: list[Tensor]) -> Tensor:
        for index in range(len(self.block)):
            h = self.step(index, torch.cat((h, skips.pop()), 1), emb)
        return h if self.upsample is None else self.upsample(h)


class Middle(nn.Module):
    """Block, attention, block at the coarsest resolution."""

    def __init__(self, width: int, config: DDPMConfig):
        super().__init__()
        self.block_1 = Block(width, width, config)
        self.attn_1 = Attention(width, config.groups)
        self.block_2 = Block(width, width, config)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(h, emb)), emb)


class TimeEmbedding(nn.Module):
    """Sinusoids (B, width) -> emb (B, 4 width)."""

    def __init__(self, width: int):
        super().__init__()
        self.dense = nn.ModuleList([nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)])

    def forward(self, waves: Tensor) -> Tensor:
        return self.dense[1](F.silu(self.dense[0](waves)))


class DDPM(nn.Module):
    """F(x, noise, labels). For low-resolution conditioning, x holds the conditioning as further channels."""

    WIDE = ("temb", "label_emb", "norm_out", "conv_out")  # stay in float32 when the others are `lowered`

    def __init__(self, config: DDPMConfig):
        super().__init__()
        self.config = config
        widths = config.widths
        self.temb = TimeEmbedding(config.width)
        self.label_emb = (
            None
            if config.num_classes is None
            else ClassEmbedding(config.num_classes, 4 * config.width, config.null_class)
        )
        self.conv_in = conv3(config.in_channels, config.width)
        self.down, skips = _contracting(config)
        self.mid = Middle(widths[-1], config)
        self.up = _expanding(config, skips)
        self.norm_out = GroupNorm(config.groups, widths[0], EPS)
        self.conv_out = zeroed(conv3(widths[0], config.out_channels * (2 if config.learned_variance else 1)))

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        checks.image(x, noise, self.config.in_channels, self.config.multiple)
        emb = self.temb(timestep_embedding(noise, self.config.width, "ddpm").to(dtype_of(self.temb)))
        x = x.to(dtype_of(self.conv_in))
        emb = with_labels(emb, self.label_emb, labels).to(x.dtype)
        skips = [self.conv_in(x)]
        for level in self.down:
            skips += level(skips[-1], emb)
        h = self.mid(skips[-1], emb)
        for level in reversed(self.up):
            h = level(h, emb, skips)
        return answer(self.norm_out, self.conv_out, h)


def _contracting(config: DDPMConfig) -> tuple[nn.ModuleList, list[int]]:
    """The levels from the finest on, and the channels of all that the expanding half is handed."""
    width, levels, skips = config.width, list[Down](), [config.width]
    for index, goal in enumerate(config.widths):
        last = index == len(config.widths) - 1
        widths_in = [width] + [goal] * (config.blocks - 1)
        levels.append(Down(widths_in, goal, index in config.attention, last, config))
        skips += [goal] * (config.blocks if last else config.blocks + 1)
        width = goal
    return nn.ModuleList(levels), skips


def _expanding(config: DDPMConfig, skips: list[int]) -> nn.ModuleList:
    """The levels, numbered from the finest, but run from the coarsest."""
    width, levels, skips = config.widths[-1], list[Up](), list(skips)
    for index in reversed(range(len(config.widths))):
        goal = config.widths[index]
        widths_in = [before + skips.pop() for before in [width] + [goal] * config.blocks]
        levels.append(Up(widths_in, goal, index in config.attention, index == 0, config))
        width = goal
    return nn.ModuleList(reversed(levels))
