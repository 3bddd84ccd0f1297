"""The contracting half that ADM's U-Net and its classifier have in common.

Shapes: x (B, in_channels, H, W); level l of the encoder (B, width multipliers[l], H / 2^l, W / 2^l);
emb (B, 4 width).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from undiffuse.networks import checks
from undiffuse.networks.blocks import Downsample, ResidualBlock, SelfAttention, conv3


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of the contracting half; the defaults are guided-diffusion's (its flags in brackets)."""

    in_channels: int = 3
    width: int = 128  # [num_channels]
    multipliers: tuple[float, ...] = (
        1,
        2,
        3,
        4,
    )  # of the width, a level each, the finest first [channel_mult]
    blocks: int = 2  # residual blocks a level [num_res_blocks]
    attention: tuple[int, ...] = (2, 3)  # levels, 0 the finest; the middle always attends
    heads: int = 4  # [num_heads]
    head_channels: int | None = None  # channels a head, in place of `heads` [num_head_channels]
    new_attention_order: bool = False  # [use_new_attention_order]
    scale_shift: bool = True  # [use_scale_shift_norm]
    resblock_updown: bool = False
    dropout: float = 0.0
    groups: int = 32  # of the normalisation

    def __post_init__(self) -> None:
        checks.positive(
            in_channels=self.in_channels,
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            groups=self.groups,
            head_channels=1 if self.head_channels is None else self.head_channels,
        )
        checks.probability(dropout=self.dropout)
        checks.levels(self.widths, self.groups, self.attention)
        for level in (*self.attention, len(self.widths) - 1):
            checks.heads(self.widths[level], self.heads, self.head_channels)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(int(multiplier * self.width) for multiplier in self.multipliers)

    @property
    def multiple(self) -> int:
        """What height and width have to be multiples of."""
        return 2 ** (len(self.multipliers) - 1)


class Stage(nn.Sequential):
    """Layers in a row, of which the residual blocks are told of the noise."""

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        for layer in self:
            h = layer(h, emb) if isinstance(layer, ResidualBlock) else layer(h)
        return h


def time_embed(width: int) -> nn.Sequential:
    """Sinusoids (B, width) -> emb (B, 4 width)."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))


def residual(
    config: EncoderConfig, width_in: int, width_out: int, resample: Literal["down", "up"] | None = None
) -> ResidualBlock:
    """A residual block as the configuration has them."""
    return ResidualBlock(
        width_in,
        width_out,
        4 * config.width,
        scale_shift=config.scale_shift,
        dropout=config.dropout,
        groups=config.groups,
        resample=resample,
    )


def self_attention(config: EncoderConfig, width: int, heads: int | None = None) -> SelfAttention:
    """Attention as the configuration has it; `heads` in place of its own."""
    count = checks.heads(width, config.heads if heads is None else heads, config.head_channels)
    return SelfAttention(width, count, new_order=config.new_attention_order, groups=config.groups)


def encoder(config: EncoderConfig) -> tuple[nn.ModuleList, list[int]]:
    """The stages of the contracting half, and how many channels each answers with."""
    width = config.widths[0]
    stages, given = [Stage(conv3(config.in_channels, width))], [width]
    for level, goal in enumerate(config.widths):
        for _ in range(config.blocks):
            stage = Stage(residual(config, width, goal))
            width = goal
            if level in config.attention:
                stage.append(self_attention(config, width))
            stages.append(stage)
            given.append(width)
        if level < len(config.widths) - 1:
            down = residual(config, width, width, "down") if config.resblock_updown else Downsample(width)
            stages.append(Stage(down))
            given.append(width)
    return nn.ModuleList(stages), given


def middle(config: EncoderConfig) -> Stage:
    """Residual block, attention, residual block at the coarsest level."""
    width = config.widths[-1]
    return Stage(
        residual(config, width, width), self_attention(config, width), residual(config, width, width)
    )
