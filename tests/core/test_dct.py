"""The cosine transform against scipy's, and as an orthonormal matrix."""

import pytest
import scipy.fft
import torch

from undiffuse.core.dct import dct, dct2, idct, idct2


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 17, 30, 127])
def test_equals_scipy(n):
    x = torch.randn(2, 3, n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    expected = torch.from_numpy(scipy.fft.dct(x.numpy(), axis=2, norm="ortho"))
    back = torch.from_numpy(scipy.fft.idct(x.numpy(), axis=2, norm="ortho"))
    torch.testing.assert_close(dct(x, 2), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(idct(x, 2), back, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 5e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("shape", [(1, 1), (7, 12), (48, 33)])
def test_inverse_and_norm(dtype, atol, shape):
    x = torch.randn(2, 3, *shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    c = dct2(x)
    assert c.dtype == dtype
    torch.testing.assert_close(idct2(c), x, rtol=0, atol=atol)
    torch.testing.assert_close(c.square().sum(), x.square().sum(), rtol=1e-5, atol=0)


def test_float32_keeps_its_digits_at_large_size():
    x = torch.randn(4, 4099, generator=torch.Generator().manual_seed(0))
    expected = dct(x.double())
    assert (dct(x) - expected).norm() / expected.norm() < 1e-6


def test_differentiable():
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(dct, (x, 0))
    assert torch.autograd.gradcheck(idct, (x, -1))


def test_refuses_other_types():
    with pytest.raises(ValueError, match=r"torch\.uint8.*float32 or float64"):
        dct(torch.zeros(4, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1), (2, 3), (8, 8), (7, 12), (30, 17)])
def test_two_dimensions_are_one_after_the_other(shape):
    x = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(dct2(x), dct(dct(x, -1), -2), rtol=0, atol=1e-13)
    torch.testing.assert_close(idct2(x), idct(idct(x, -2), -1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("transform", [dct2, idct2])
def test_what_is_kept_serves_every_mode(transform):
    """Angles first asked for in inference mode must not be inference tensors later on."""
    with torch.inference_mode():
        transform(torch.zeros(41, 43))
    x = torch.ones(41, 43, requires_grad=True)
    transform(x).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach(), rtol=1e-5, atol=0)  # orthonormal
