"""Parts of the networks: normalisation, embeddings, attention, residual blocks, changes of resolution.

Shapes: x and h (B, C, H, W); tokens (B, L, C) with L = H W; noise (B,); emb (B, E); labels (B,).
Attributes are named so that published ADM state dicts load key for key.
"""

import math
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.networks.packed import PackedConv, PackedDoubling, doubling_kernel

Layer = TypeVar("Layer", bound=nn.Module)


class GroupNorm(nn.GroupNorm):
    """Group normalisation with statistics in float32 or wider; the answer has the type of x."""

    def forward(self, input: Tensor) -> Tensor:
        wide = input if input.dtype.itemsize >= 4 else input.float()
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        return F.group_norm(wide, self.num_groups, weight, bias, self.eps).to(input.dtype)


class NormSiLU(torch.autograd.Function):
    """SiLU((1 + scale) norm(x) + shift) in the type of x, which keeps x alone for the gradient.

    As separate layers it would keep the normalised, the shifted and the rounded images too; they are made again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        groups: int,
        eps: float,
    ) -> Tensor:
        """scale and shift: (B, C, 1, 1), or neither."""
        h = _normalised(x, weight, bias, scale, shift, groups, eps)
        return F.silu(h, inplace=True).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the inputs."""
        *tensors, ctx.groups, ctx.eps = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """By the layers' own gradients; they can be differentiated again."""
        again = torch.is_grad_enabled()
        kept: list[Tensor | None] = list(ctx.saved_tensors)
        asked: list[bool] = list(ctx.needs_input_grad[: len(kept)])
        if not again:
            kept = [
                t if t is None else t.detach().requires_grad_(need)
                for t, need in zip(kept, asked, strict=True)
            ]
        x, weight, bias, scale, shift = kept
        assert x is not None and weight is not None and bias is not None
        with torch.enable_grad():
            h = _normalised(x, weight, bias, scale, shift, ctx.groups, ctx.eps)
            g = grads[0].to(h.dtype)
            if again:  # silu_backward has no derivative
                slope = g * h.sigmoid() * (1 + h * (1 - h.sigmoid()))
            else:  # in the memory of h, which its own gradient does not need
                slope = h.detach()
                torch.ops.aten.silu_backward.grad_input(g, slope, grad_input=slope)
                del g
            leaves = [t for t, need in zip(kept, asked, strict=True) if need and t is not None]
            found = iter(torch.autograd.grad(h, leaves, slope, create_graph=again))
        return *(next(found) if need else None for need in asked), None, None


def _normalised(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    groups: int,
    eps: float,
) -> Tensor:
    """(1 + scale) norm(x) + shift in the type of the statistics: float32 or wider."""
    wide = x if x.dtype.itemsize >= 4 else x.float()
    h = F.group_norm(wide, groups, weight.to(wide.dtype), bias.to(wide.dtype), eps)
    if scale is None or shift is None:
        return h
    return torch.addcmul(shift.to(wide.dtype), h, 1 + scale.to(wide.dtype))


def norm_silu(norm: nn.Module, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """SiLU((1 + scale) norm(x) + shift), or SiLU(norm(x)); scale and shift (B, C, 1, 1)."""
    if (
        isinstance(norm, GroupNorm)
        and not torch.compiler.is_compiling()  # the compiler chooses itself what to keep
        and torch.autograd.forward_ad.unpack_dual(x).tangent is None
    ):
        # Without gradients the bookkeeping of autograd is a tenth of a small picture's time.
        call = NormSiLU.apply if torch.is_grad_enabled() else NormSiLU.forward
        return call(x, norm.weight, norm.bias, scale, shift, norm.num_groups, norm.eps)  # type: ignore[no-any-return]
    h = norm(x)
    return F.silu(h if scale is None or shift is None else h * (1 + scale) + shift)


def dtype_of(layer: nn.Module) -> torch.dtype:
    """The type its parameters compute in."""
    return next(layer.parameters()).dtype


def lowered(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network with its convolutions and attention in half precision, in place; its parts in WIDE stay as they are.

    As guided-diffusion does: the embedding of the noise and the last layers in float32, for x0 takes their answer times
    sigma. ValueError for a network that cannot be called so.
    """
    wide = getattr(net, "WIDE", None)
    if wide is None:
        raise ValueError(f"{type(net).__name__} has no half precision; use fp32")
    for name, part in net.named_children():
        if name not in wide:
            part.to(dtype)
    return net


def zeroed(layer: Layer) -> Layer:
    """The layer with its parameters at zero: a residual branch that starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def conv3(width_in: int, width_out: int, stride: int = 1) -> nn.Conv2d:
    """3 x 3, same size at stride 1."""
    return nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1)


def halved(x: Tensor) -> Tensor:
    """Means of 2 x 2 blocks."""
    return F.avg_pool2d(x, 2)


def doubled(x: Tensor) -> Tensor:
    """Every pixel twice in each direction."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def conv_doubled(conv: nn.Conv2d | PackedDoubling, x: Tensor) -> Tensor:
    """conv(doubled(x)) for a 3 x 3 convolution, on a CPU with 4/9 of its work and without the doubled image.

    For few pixels the sums of the kernel would cost more than they save.
    """
    if isinstance(conv, PackedDoubling):
        return conv(x)
    if x.device.type != "cpu" or x[:, 0].numel() < 1024:
        return conv(doubled(x))
    return F.conv_transpose2d(x, doubling_kernel(conv.weight), conv.bias, stride=2, padding=1)


def timestep_embedding(noise: Tensor, width: int, convention: Literal["adm", "ddpm"]) -> Tensor:
    """Sinusoids of the noise level (Vaswani et al. 2017, section 3.5), (B, width), float32 or wider.

    adm: cos, then sin, of noise 10000^(-i / half), i < half = width // 2. ddpm: sin, then cos, of
    noise 10000^(-i / (half - 1)). An odd width ends with a zero.
    """
    half = width // 2
    noise = noise if noise.dtype == torch.float64 else noise.float()
    i = torch.arange(half, dtype=noise.dtype, device=noise.device)
    # Two orders of the same product: at noise 999 another rounding of the rates shows in the fifth digit.
    if convention == "adm":
        angles = noise[:, None] * torch.exp(-math.log(10000) * i / half)
        waves = (angles.cos(), angles.sin())
    else:
        angles = noise[:, None] * torch.exp(i * -(math.log(10000) / (half - 1)))
        waves = (angles.sin(), angles.cos())
    return F.pad(torch.cat(waves, 1), (0, width % 2))


class ClassEmbedding(nn.Embedding):
    """A vector for each class, and one more, at index num_classes, for none (Ho and Salimans 2022)."""

    def __init__(self, num_classes: int, width: int, null_class: bool):
        super().__init__(num_classes + null_class, width)
        self.null = num_classes if null_class else None


def with_labels(emb: Tensor, table: ClassEmbedding | None, labels: Tensor | None) -> Tensor:
    """emb with the classes added; labels=None takes the null class where the network has one."""
    if table is None:
        if labels is not None:
            raise ValueError("labels for a network without classes; leave them out, or set num_classes")
        return emb
    if labels is None:
        if table.null is None:
            raise ValueError(
                f"this network was built for {table.num_embeddings} classes without a null class; give labels"
            )
        labels = torch.full((len(emb),), table.null, device=emb.device)
    return emb + table(labels)


def per_token(layer: nn.Conv1d | nn.Conv2d | PackedConv, tokens: Tensor) -> Tensor:
    """A convolution of width 1 applied as a matrix to (B, L, C_in): free of copies in channels_last."""
    if isinstance(layer, PackedConv):
        return layer.per_token(tokens)
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)


def tokens_of(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H W, C)."""
    return x.flatten(2).transpose(1, 2)


def image_of(tokens: Tensor, like: Tensor) -> Tensor:
    """(B, H W, C) -> (B, C, H, W) of the height and width of `like`."""
    return tokens.transpose(1, 2).unflatten(2, like.shape[2:])


def split_heads(qkv: Tensor, heads: int, new_order: bool) -> list[Tensor]:
    """(B, L, 3 C) -> q, k, v, each (B, heads, L, C / heads).

    new_order: q, k, v, and heads within each. Else (legacy): heads, and q, k, v within each. A checkpoint
    does not tell which, and loads with either.
    """
    sizes, axis = ((3, heads, -1), 2) if new_order else ((heads, 3, -1), 3)
    parts = qkv.unflatten(2, sizes).unbind(axis)
    return [part.transpose(1, 2) for part in parts]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, heads joined: (B, heads, L, d) -> (B, L, heads d)."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """x + proj(attend(qkv(norm(x)))) over all pixels (ADM's AttentionBlock)."""

    def __init__(self, width: int, heads: int, *, new_order: bool, groups: int):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = GroupNorm(groups, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = zeroed(nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = per_token(self.qkv, tokens_of(self.norm(x)))
        mixed = attend(*split_heads(qkv, self.heads, self.new_order))
        return x + image_of(per_token(self.proj_out, mixed), x)


class ResidualBlock(nn.Module):
    """ADM's residual block (Dhariwal and Nichol 2021, section 3): told of the noise between two convolutions.

    scale_shift: norm(h) (1 + scale) + shift with both from emb (their AdaGN); else emb is added to h.
    resample: halves or doubles the resolution of both branches before the first convolution.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        emb_width: int,
        *,
        scale_shift: bool,
        dropout: float,
        groups: int,
        resample: Literal["down", "up"] | None = None,
    ):
        super().__init__()
        self.scale_shift, self.resample = scale_shift, resample
        self.in_layers = nn.Sequential(GroupNorm(groups, width_in), nn.SiLU(), conv3(width_in, width_out))
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(emb_width, 2 * width_out if scale_shift else width_out)
        )
        self.out_layers = nn.Sequential(
            GroupNorm(groups, width_out),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(conv3(width_out, width_out)),
        )
        self.skip_connection = nn.Identity() if width_in == width_out else nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        norm, _, conv = self.in_layers
        assert isinstance(conv, nn.Conv2d | PackedConv | PackedDoubling)
        h = norm_silu(norm, x)
        if self.resample == "up":
            assert not isinstance(conv, PackedConv)
            h, x = conv_doubled(conv, h), doubled(x)
        elif self.resample == "down":
            h, x = conv(halved(h)), halved(x)
        else:
            h = conv(h)
        told = self.emb_layers(emb)[:, :, None, None]
        norm, _, dropout, conv = self.out_layers
        h = norm_silu(norm, h, *told.chunk(2, 1)) if self.scale_shift else norm_silu(norm, h + told)
        return self.skip_connection(x) + conv(dropout(h))


class Downsample(nn.Module):
    """Half the resolution by a strided convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.op = conv3(width, width, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the resolution: nearest neighbour, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = conv3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return conv_doubled(self.conv, x)


def answer(norm: nn.Module, conv: nn.Module, h: Tensor) -> Tensor:
    """conv(SiLU(norm(h))) in the type of the weights, also under autocast.

    x0 takes F times sigma: at sigma 157, F rounded to bfloat16 would be an error of half the range.
    """
    with torch.autocast(h.device.type, enabled=False):
        return conv(norm_silu(norm, h.to(next(conv.parameters()).dtype)))
