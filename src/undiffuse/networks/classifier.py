"""The classifier of noisy images for guidance (Dhariwal and Nichol 2021, section 4): ADM's encoder and a pool.

Shapes: x (B, in_channels, H, W); noise (B,), a timestep; the answer (B, num_classes), logits. With pool
'attention', H = W = size; otherwise H and W are multiples of 2^(levels - 1). Published state dicts load key
for key.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from undiffuse.networks import checks
from undiffuse.networks.blocks import (
    GroupNorm,
    attend,
    per_token,
    split_heads,
    timestep_embedding,
    tokens_of,
    zeroed,
)
from undiffuse.networks.encoder import EncoderConfig, encoder, middle, time_embed
from undiffuse.registry import NETWORKS

HIDDEN = 2048  # units between the features and the classes of the pool 'spatial'


@NETWORKS.register(
    "classifier",
    summary="ADM's classifier of noisy images (Dhariwal and Nichol 2021)",
    example="classifier:size=64,num_classes=10",
)
@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(EncoderConfig):
    """Sizes of a classifier; the defaults are those of the published one for 64 x 64 ImageNet."""

    blocks: int = 4
    attention: tuple[int, ...] = (1, 2, 3)
    head_channels: int | None = 64
    resblock_updown: bool = True
    num_classes: int = 1000
    pool: Literal["attention", "adaptive", "spatial"] = "attention"
    size: int = 64  # pixels a side; only the pool 'attention' depends on it

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(num_classes=self.num_classes, size=self.size)
        if self.pool not in ("attention", "adaptive", "spatial"):
            raise ValueError(f"no pool named '{self.pool}'; choose from adaptive, attention, spatial")
        if self.pool == "attention" and self.size % self.multiple:
            raise ValueError(f"size = {self.size}; expected a multiple of {self.multiple}, or fewer levels")

    def build(self) -> "Classifier":
        """The network, freshly initialised."""
        return Classifier(self)


class AttentionPool(nn.Module):
    """The logits from one query, the mean of all pixels (Radford et al. 2021), q, k and v in new order."""

    def __init__(self, side: int, width: int, heads: int, num_classes: int):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(width, side**2 + 1) / width**0.5)
        self.qkv_proj = nn.Conv1d(width, 3 * width, 1)
        self.c_proj = nn.Conv1d(width, num_classes, 1)

    def forward(self, h: Tensor) -> Tensor:
        tokens = tokens_of(h)
        tokens = torch.cat((tokens.mean(1, keepdim=True), tokens), 1) + self.positional_embedding.T
        q, k, v = split_heads(per_token(self.qkv_proj, tokens), self.heads, new_order=True)
        return per_token(self.c_proj, attend(q[:, :, :1], k, v))[:, 0]


class Classifier(nn.Module):
    """Logits of the class of x at a noise level; `priors.classifier_guided` takes their log-softmax."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        self.time_embed = time_embed(config.width)
        self.input_blocks, given = encoder(config)
        self.middle_block = middle(config)
        width = config.widths[-1]
        norm = GroupNorm(config.groups, width)
        if config.pool == "spatial":
            features = sum(given) + width
            self.out = nn.Sequential(
                nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, config.num_classes)
            )
        elif config.pool == "adaptive":
            last = zeroed(nn.Conv2d(width, config.num_classes, 1))
            self.out = nn.Sequential(norm, nn.SiLU(), nn.AdaptiveAvgPool2d(1), last, nn.Flatten())
        else:
            heads = checks.heads(width, config.heads, config.head_channels)
            side = config.size // config.multiple
            self.out = nn.Sequential(norm, nn.SiLU(), AttentionPool(side, width, heads, config.num_classes))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        checks.image(x, noise, self.config.in_channels, self.config.multiple)
        size = self.config.size
        if self.config.pool == "attention" and x.shape[2:] != (size, size):
            found = f"x of {x.shape[2]} x {x.shape[3]} pixels"
            raise ValueError(f"{found}; this classifier takes {size} x {size}, resize the image")
        emb = self.time_embed(timestep_embedding(noise, self.config.width, "adm").to(x.dtype))
        h = x
        means: list[Tensor] = []
        for stage in [*self.input_blocks, self.middle_block]:
            h = stage(h, emb)
            if self.config.pool == "spatial":
                means.append(h.mean((2, 3)))
        return self.out(torch.cat(means, 1) if means else h)
