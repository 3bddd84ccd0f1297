"""DINOv2's vision transformer (Oquab et al. 2023), for the weights of its authors."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, PATCH = 224, 14
HEAD = 64  # channels of an attention head, in all sizes
MEAN = (0.485, 0.456, 0.406)  # ImageNet's, on [0, 1]
DEVIATION = (0.229, 0.224, 0.225)
SHA256 = "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"  # of ViT-L/14
OFFSET = 0.1  # as published: added to the number of patches a side when positions are interpolated


class Scale(nn.Module):
    """Each channel by a factor of its own (Touvron et al. 2021, LayerScale)."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Attention(nn.Module):
    """Multi-head self-attention; (B, tokens, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        out = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Two layers with GELU."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and perceptron, each normalised before and scaled after."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width), Perceptron(width, inner)
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DINOv2(nn.Module):
    """ViT-S, B or L with patches of 14, freshly initialised, named as in dinov2_vitl14_pretrain.pth.

    grid: positions a side as trained; 37 of the published.
    """

    def __init__(self, width: int, depth: int, inner: int, grid: int):
        super().__init__()
        self.width = width
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.blocks = nn.ModuleList(Block(width, inner) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1], sides multiples of 14 -> the class token (B, width), normalised."""
        mean, deviation = (torch.tensor(values).to(x)[:, None, None] for values in (MEAN, DEVIATION))
        x = self.patch_embed["proj"]((x - (2 * mean - 1)) / (2 * deviation))
        positions = self._positions(x.shape[2], x.shape[3])
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1) + positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def _positions(self, height: int, width: int) -> Tensor:
        grid = math.isqrt(self.pos_embed.shape[1] - 1)
        if (height, width) == (grid, grid):
            return self.pos_embed
        first, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        rest = rest.unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        scale = ((height + OFFSET) / grid, (width + OFFSET) / grid)
        rest = functional.interpolate(rest, scale_factor=scale, mode="bicubic")
        return torch.cat([first, rest.flatten(2).transpose(1, 2)], 1)


def fitting(shapes: Mapping[str, tuple[int, ...]]) -> DINOv2:
    """The network whose tensors have these shapes. ValueError if none has."""
    try:
        _, positions, width = shapes["pos_embed"]
        inner, _ = shapes["blocks.0.mlp.fc1.weight"]
    except (KeyError, ValueError):
        raise ValueError("no pos_embed and blocks.0.mlp of a DINOv2 ViT-S, B or L") from None
    depth = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    grid = math.isqrt(max(0, positions - 1))
    if width % HEAD or not 0 < width <= 2048 or inner > 4 * 2048 or grid**2 + 1 != positions or depth > 64:
        raise ValueError(f"{width} channels, {inner} inside, {depth} blocks and {positions} positions")
    return DINOv2(width, depth, inner, grid)
