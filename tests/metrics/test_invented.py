import pytest
import torch
from scipy.fft import idctn

from tests.pictures import photograph, smooth
from undiffuse.metrics import invented, power
from undiffuse.metrics.spectrum import _bins
from undiffuse.operators import build
from undiffuse.operators.base import LinearOperator, SVDOperator
from undiffuse.restore.measured import determined


def picture(n=64):
    return photograph(n, n)[None].double()


def operator(text, n=64):
    return build(text, (3, n, n)).double()


def share(A, x, sigma_y):
    return invented(x, determined(A, x), sigma_y)[1]


def test_nothing_is_invented_where_all_is_seen():
    x = picture()
    assert share(operator("deno"), x, 0).abs().max() < 1e-9


def test_noise_alone_gives_the_wiener_weight():
    """A = I: the share is sigma^2 / (P + sigma^2), P the power of the bin, exactly."""
    x, sigma = torch.cat([picture(), smooth(1, 3, 64, 64)]), 0.1
    A = operator("deno")
    _, spectrum = power(x)
    expected = sigma**2 / (spectrum + sigma**2)
    torch.testing.assert_close(share(A, x, sigma), expected, rtol=1e-9, atol=1e-9)


class Averages(LinearOperator):
    """Means of x and its neighbour below, without an SVD: what conjugate gradient makes of it."""

    def forward(self, x):
        return (x[..., ::2, :] + x[..., 1::2, :]) / 2

    def adjoint(self, y):
        return y.repeat_interleave(2, -2) / 2


def test_the_power_invented_is_that_of_the_null_part():
    """<x, n> = |n|^2 for n = x - A^+ A x, and all of x lies in the bins."""
    bins, _, counts = _bins(32, 32, 2, torch.device("cpu"))
    coefficients = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.from_numpy(idctn((coefficients * (bins >= 0)).numpy(), axes=(2, 3), norm="ortho"))
    A = Averages((3, 32, 32), (3, 16, 32))
    null = x - A.pinv(A(x))
    _, spectrum = power(x)
    found = (share(A, x, 0) * spectrum * counts * 3).sum(1)
    torch.testing.assert_close(found, null.square().flatten(1).sum(1), rtol=1e-9, atol=0)


def test_what_block_means_leave_unknown():
    """Means over 4 pixels keep (sin(4 pi f) / (4 sin(pi f)))^2 of a cosine's power, along each axis."""
    n = 64
    x = torch.randn(100, 3, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    A = operator("sr4")
    f = torch.arange(n, dtype=torch.float64).clamp(min=1e-6) / (2 * n)
    kept = (torch.sin(4 * torch.pi * f) / (4 * torch.sin(torch.pi * f))) ** 2
    kept[n // 4 :: n // 4] = 0  # odd about the middle of each block
    bins, _, counts = _bins(n, n, 2, torch.device("cpu"))
    lost = (1 - kept[:, None] * kept)[bins >= 0]
    expected = torch.zeros_like(counts).index_add_(0, bins[bins >= 0], lost) / counts
    _, spectrum = power(x)
    found = (share(A, x, 0) * spectrum).mean(0) / spectrum.mean(0)
    # what aliases is uncorrelated: below 1 / sqrt(900), 300 planes of at least 3 coefficients
    torch.testing.assert_close(found, expected, rtol=0, atol=0.033)
    torch.testing.assert_close(found[-4:], expected[-4:], rtol=0, atol=0.006)  # of 200 and more: 0.004


def test_more_noise_invents_more():
    x, A = picture(), operator("blur:kernel=gaussian,taps=9,std=2")
    assert isinstance(A, SVDOperator)
    low, high = share(A, x, 0.02), share(A, x, 0.2)
    assert (high >= low - 1e-9).all()
    assert high.mean() > low.mean() + 0.1


def test_a_flat_picture_has_no_share():
    x = torch.zeros(1, 3, 64, 64).double()
    assert share(operator("deno"), x, 0.1).isnan().all()


def test_what_is_not_linear_is_refused():
    A = build("jpeg:quality=10", (3, 64, 64))
    with pytest.raises(ValueError, match="not linear"):
        determined(A, torch.zeros(1, 3, 64, 64))
