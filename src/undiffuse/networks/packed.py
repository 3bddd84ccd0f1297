"""Layers for inference on a CPU: weights in oneDNN's own layout, images channels last.

torch's convolutions lay images and weights out anew at every call, and its products of matrices are MKL's, which
take twice as long as oneDNN's on some processors. These layers do neither: benchmarks/sampling.py has the difference.
The sums are the same, in another order: answers agree to the rounding of float32. They answer without gradients, and
refuse to be asked for them.

Shapes: x (B, C, H, W); tokens (B, L, C) with L = H W.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ONES, PLAIN = [1, 1], ("none", [], "")  # no dilation; nothing is done to the sums
CLOSE = 1e-4  # of sums of nine products near 1: float32


class PackedConv(nn.Module):
    """The same as a convolution of one group, with or without its image laid out as tokens."""

    def __init__(self, conv: nn.Conv1d | nn.Conv2d):
        super().__init__()
        weight = conv.weight.detach()
        self.padding = [int(n) for n in conv.padding] if isinstance(conv, nn.Conv2d) else [0, 0]
        self.stride = [int(n) for n in conv.stride] if isinstance(conv, nn.Conv2d) else [1, 1]
        self.kernel = _ops()._reorder_convolution_weight(
            weight if weight.ndim == 4 else weight[..., None], self.padding, self.stride, ONES, 1
        )
        self.bias = _bias(conv)

    def forward(self, x: Tensor) -> Tensor:
        x = _laid_out(x)
        return _ops()._convolution_pointwise(
            x, self.kernel, self.bias, self.padding, self.stride, ONES, 1, *PLAIN
        )

    def per_token(self, tokens: Tensor) -> Tensor:
        """A convolution of width 1 applied to (B, L, C), which is an image of one column that lies channels last."""
        return self(tokens.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)


class PackedDoubling(nn.Module):
    """A 3 x 3 convolution of an image that is doubled first, as one transposed convolution."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        kernel = doubling_kernel(conv.weight.detach()).contiguous()
        self.kernel = _ops()._reorder_convolution_transpose_weight(kernel, [1, 1], [0, 0], [2, 2], ONES, 1)
        self.bias = _bias(conv)

    def forward(self, x: Tensor) -> Tensor:
        x = _laid_out(x)
        return _ops()._convolution_transpose_pointwise(
            x, self.kernel, self.bias, [1, 1], [0, 0], [2, 2], ONES, 1, *PLAIN
        )


def doubling_kernel(weight: Tensor) -> Tensor:
    """(C_in, C_out, 4, 4): at stride 2 and padding 1, the transposed convolution that doubles and convolves at once.

    Doubling is a transposed convolution with ones, so that it is 2 x 2 sums of the flipped kernel, (C_out, C_in, 3, 3).
    """
    kernel = F.pad(weight.transpose(0, 1).flip(2, 3), (1, 1, 1, 1))
    kernel = kernel[:, :, 1:] + kernel[:, :, :-1]
    return kernel[..., 1:] + kernel[..., :-1]


def can_pack(conv: nn.Module) -> bool:
    """Whether it is a convolution in float32 on a CPU that these layers stand in for, and torch has what they use."""
    if not isinstance(conv, nn.Conv1d | nn.Conv2d) or conv.bias is None or isinstance(conv.padding, str):
        return False
    plain = conv.groups == 1 and set(conv.dilation) == {1} and conv.padding_mode == "zeros"
    narrow = isinstance(conv, nn.Conv2d) or (conv.kernel_size, conv.stride, conv.padding) == (
        (1,),
        (1,),
        (0,),
    )
    here = conv.weight.device.type == "cpu" and conv.weight.dtype == torch.float32
    return plain and narrow and here and available()


@cache
def available() -> bool:
    """Whether torch's operators for this, which are its own and may change, are here and right: they are tried."""
    if not torch.backends.mkldnn.is_available():
        return False
    conv, x = nn.Conv2d(1, 1, 3, padding=1), torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4)
    with torch.no_grad():
        for layer, value in ((PackedConv, 0.5), (PackedDoubling, 0.25)):
            conv.weight.copy_(torch.linspace(value, 1, 9).reshape(1, 1, 3, 3))
            seen = x if layer is PackedConv else F.interpolate(x, scale_factor=2.0)
            try:
                found = layer(conv)(x)
            except (RuntimeError, AttributeError, TypeError):
                return False
            if not torch.allclose(found, conv(seen), atol=CLOSE):
                return False
    return True


def _ops() -> Any:
    return torch.ops.mkldnn


def _bias(conv: nn.Conv1d | nn.Conv2d) -> nn.Parameter:
    assert conv.bias is not None
    return nn.Parameter(conv.bias.detach(), requires_grad=False)


def _laid_out(x: Tensor) -> Tensor:
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("a network that was packed for inference has no gradient; open the prior anew")
    return x.contiguous(memory_format=torch.channels_last)
