"""The ADM U-Net (Dhariwal and Nichol 2021; github.com/openai/guided-diffusion), raw: F(x, noise, labels).

Shapes: x (B, in_channels, H, W), H and W multiples of 2^(levels - 1); noise (B,), a timestep or whatever the
scaling tells; labels (B,); emb (B, 4 width); the answer (B, out_channels, H, W), or twice the channels with
a learned variance. Published state dicts load key for key.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from undiffuse.networks import checks
from undiffuse.networks.blocks import (
    ClassEmbedding,
    GroupNorm,
    Upsample,
    answer,
    conv3,
    dtype_of,
    timestep_embedding,
    with_labels,
    zeroed,
)
from undiffuse.networks.encoder import (
    EncoderConfig,
    Stage,
    encoder,
    middle,
    residual,
    self_attention,
    time_embed,
)
from undiffuse.registry import NETWORKS


@NETWORKS.register(
    "adm",
    summary="ADM U-Net (Dhariwal and Nichol 2021): attention at several levels, classes, learned variance",
    example="adm:width=64,blocks=2",
)
@dataclass(frozen=True, kw_only=True)
class ADMConfig(EncoderConfig):
    """Sizes of an ADM U-Net."""

    out_channels: int = 3
    learned_variance: bool = False  # as many channels again, for the variance
    num_classes: int | None = None
    null_class: bool = False  # one label more, num_classes: no class
    heads_up: int | None = None  # in the expanding half, where it differs [num_heads_upsample]

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(out_channels=self.out_channels)
        checks.classes(self.num_classes, self.null_class)
        if self.heads_up is not None:
            checks.positive(heads_up=self.heads_up)
            for level in self.attention:
                checks.heads(self.widths[level], self.heads_up, self.head_channels)

    def build(self) -> "ADM":
        """The network, freshly initialised: its answer is zero."""
        return ADM(self)


class ADM(nn.Module):
    """F(x, noise, labels). For low-resolution conditioning, x holds the conditioning as further channels."""

    WIDE = ("time_embed", "label_emb", "out")  # parts that stay in float32 when the others are `lowered`

    def __init__(self, config: ADMConfig):
        super().__init__()
        self.config = config
        self.time_embed = time_embed(config.width)
        self.label_emb = (
            None
            if config.num_classes is None
            else ClassEmbedding(config.num_classes, 4 * config.width, config.null_class)
        )
        self.input_blocks, skips = encoder(config)
        self.middle_block = middle(config)
        self.output_blocks = _decoder(config, skips)
        channels = config.out_channels * (2 if config.learned_variance else 1)
        finest = config.widths[0]
        self.out = nn.Sequential(GroupNorm(config.groups, finest), nn.SiLU(), zeroed(conv3(finest, channels)))

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        checks.image(x, noise, self.config.in_channels, self.config.multiple)
        emb = self.time_embed(
            timestep_embedding(noise, self.config.width, "adm").to(dtype_of(self.time_embed))
        )
        h, skips = x.to(dtype_of(self.input_blocks)), []
        emb = with_labels(emb, self.label_emb, labels).to(h.dtype)
        for stage in self.input_blocks:
            h = stage(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for stage in self.output_blocks:
            h = stage(torch.cat((h, skips.pop()), 1), emb)
        norm, _, conv = self.out
        return answer(norm, conv, h)


def _decoder(config: ADMConfig, skips: list[int]) -> nn.ModuleList:
    """The expanding half: a stage for each of the encoder's, from the coarsest to the finest."""
    width, skips, stages = config.widths[-1], list(skips), list[Stage]()
    for level in reversed(range(len(config.widths))):
        goal = config.widths[level]
        for block in range(config.blocks + 1):
            stage = Stage(residual(config, width + skips.pop(), goal))
            width = goal
            if level in config.attention:
                stage.append(self_attention(config, width, config.heads_up))
            if level and block == config.blocks:
                stage.append(
                    residual(config, width, width, "up") if config.resblock_updown else Upsample(width)
                )
            stages.append(stage)
    return nn.ModuleList(stages)
