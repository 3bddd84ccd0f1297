"""Parts of the networks that compute a layer in another way than it is written down."""

import pytest
import torch
import torch.nn.functional as F

from undiffuse.networks.blocks import GroupNorm, conv3, conv_doubled, doubled, norm_silu


@pytest.mark.parametrize("height", [3, 33])  # as written down, and as a transposed convolution
def test_conv_doubled(height):
    generator = torch.Generator().manual_seed(0)
    conv = conv3(3, 5).double()
    x = torch.randn(2, 3, height, 17, generator=generator, dtype=torch.float64, requires_grad=True)
    written, found = conv(doubled(x)), conv_doubled(conv, x)
    torch.testing.assert_close(found, written)
    slope = torch.randn(written.shape, generator=generator, dtype=torch.float64)
    leaves = (x, conv.weight, conv.bias)
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves, slope), torch.autograd.grad(written, leaves, slope)
    )


def told(batch=2, width=6):
    """A norm, an image, scale and shift, in float64."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    norm = GroupNorm(3, width).double()
    with torch.no_grad():
        norm.weight.copy_(drawn(width))
        norm.bias.copy_(drawn(width))
    return norm, drawn(batch, width, 2, 3), drawn(batch, width, 1, 1), drawn(batch, width, 1, 1)


def written_down(norm, x, scale=None, shift=None):
    h = norm(x)
    return F.silu(h if scale is None else h * (1 + scale) + shift)


@pytest.mark.parametrize("modulated", [False, True])
def test_norm_silu_and_its_gradients(modulated):
    norm, x, scale, shift = told()
    inputs = (x, scale, shift) if modulated else (x,)
    written, found = written_down(norm, *inputs), norm_silu(norm, *inputs)
    torch.testing.assert_close(found, written)
    leaves = (*inputs, norm.weight, norm.bias)
    slope = torch.linspace(-1, 1, written.numel(), dtype=torch.float64).reshape(written.shape)
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves, slope), torch.autograd.grad(written, leaves, slope)
    )
    assert torch.autograd.gradgradcheck(lambda *given: norm_silu(norm, *given), inputs)


def test_norm_silu_keeps_only_its_input():
    norm, x, scale, shift = told()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        norm_silu(norm, x, scale, shift)
    assert [t.data_ptr() for t in kept if t.shape == x.shape] == [x.data_ptr()]


@pytest.mark.parametrize("frozen", [False, True])
def test_norm_silu_of_half_precision(frozen):
    norm, x, scale, shift = told()
    norm = norm.float().requires_grad_(not frozen)
    half = x.detach().bfloat16().requires_grad_()
    found = norm_silu(norm, half, scale.bfloat16(), shift.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(
        found.double(), written_down(norm, x.float(), scale, shift), rtol=0.03, atol=0.03
    )
    found.sum().backward()
    assert half.grad is not None and half.grad.dtype == torch.bfloat16
    assert (norm.weight.grad is None) == frozen


def test_norm_silu_under_function_transforms():
    norm, x, scale, shift = (part.detach() if isinstance(part, torch.Tensor) else part for part in told())
    along = torch.ones_like(x)

    def total(function):
        return lambda x: function(norm, x, scale, shift).square().sum()

    for transform in (
        torch.func.grad,
        lambda f: torch.func.grad(lambda x: (torch.func.grad(f)(x) * along).sum()),
    ):
        torch.testing.assert_close(transform(total(norm_silu))(x), transform(total(written_down))(x))
    jvps = [torch.func.jvp(total(function), (x,), (along,)) for function in (norm_silu, written_down)]
    torch.testing.assert_close(*jvps)
    maps = [torch.func.vmap(lambda x, f=f: f(norm, x[None]))(x) for f in (norm_silu, written_down)]
    torch.testing.assert_close(*maps)
