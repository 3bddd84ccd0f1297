from functools import partial

import pytest
import torch

from tests.pictures import photograph, smooth
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import invented, power
from undiffuse.metrics.spectrum import _bins
from undiffuse.operators import build
from undiffuse.operators.base import LinearOperator, SVDOperator
from undiffuse.restore.measured import determined


def picture(n=64):
    return photograph(n, n)[None].double()


def operator(text, n=64):
    return build(text, (3, n, n)).double()


def share(A, x, sigma_y, **options):
    noise = SeededNoise(list(range(len(x))))
    return invented(x, partial(determined, A), sigma_y, noise, **options)[1]


def test_nothing_is_invented_where_all_is_seen():
    x = picture()
    assert share(operator("deno"), x, 0).abs().max() < 1e-9


def test_noise_alone_gives_the_wiener_weight():
    """A = I: the share is sigma^2 / (P + sigma^2), P the power of the bin, exactly."""
    x, sigma = torch.cat([picture(), smooth(1, 3, 64, 64)]), 0.1
    _, spectrum = power(x)
    expected = sigma**2 / (spectrum + sigma**2)
    torch.testing.assert_close(share(operator("deno"), x, sigma, probes=1), expected, rtol=1e-9, atol=1e-9)


def of_bins(values, n):
    """Means of values (n, n) of the cosines over the bins."""
    bins, _, counts = _bins(n, n, 2, torch.device("cpu"))
    return torch.zeros_like(counts).index_add_(0, bins[bins >= 0], values[bins >= 0]) / counts


def test_blur_and_noise_by_cosines():
    """A reflecting Gaussian blur of deviation 1.5 and 9 taps: g(f) = sum of taps times cosines, along each axis."""
    n, sigma, x = 64, 0.1, picture()
    A = operator("blur:kernel=gaussian,taps=9,std=1.5,boundary=reflect")
    taps = torch.exp(-(torch.arange(-4, 5).double() ** 2) / (2 * 1.5**2))
    phases = torch.outer(torch.arange(n).double(), torch.arange(-4, 5).double()) * torch.pi / n
    gain = (phases.cos() * taps / taps.sum()).sum(1)
    s = (gain[:, None] * gain) ** 2
    _, spectrum = power(x)
    expected = [of_bins(sigma**2 / (s * level + sigma**2), n)[b] for b, level in enumerate(spectrum[0])]
    torch.testing.assert_close(share(A, x, sigma, probes=1)[0], torch.stack(expected), rtol=1e-9, atol=1e-9)


def test_what_block_means_leave_unknown():
    """Means over 4 pixels keep (sin(4 pi f) / (4 sin(pi f)))^2 of a cosine's power, along each axis."""
    n = 64
    f = torch.arange(n, dtype=torch.float64).clamp(min=1e-6) / (2 * n)
    kept = (torch.sin(4 * torch.pi * f) / (4 * torch.sin(torch.pi * f))) ** 2
    kept[n // 4 :: n // 4] = 0  # odd about the middle of each block
    found = share(operator("sr4"), picture(), 0)[0]
    # the signs of cosines that alias to one and share a bin: a deviation of 0.004 over 12 seeds at most
    torch.testing.assert_close(found, of_bins(1 - kept[:, None] * kept, n), rtol=0, atol=0.016)


def test_missing_pixels_are_missing_at_all_frequencies():
    A = operator("inp:random,missing=0.5")
    assert isinstance(A, SVDOperator)
    missing = 1 - A.measurements / (3 * 64 * 64)
    found = share(A, picture(), 0)[0]
    # a cosine's share varies with the mask by sqrt(0.25 / 4096) x 1.2 = 0.01 at most: three of them
    torch.testing.assert_close(found, torch.full_like(found, missing), rtol=0, atol=0.03)


class Averages(LinearOperator):
    """Means of x and its neighbour below, without an SVD: by conjugate gradient."""

    def forward(self, x):
        return (x[..., ::2, :] + x[..., 1::2, :]) / 2

    def adjoint(self, y):
        return y.repeat_interleave(2, -2) / 2


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_determined_without_an_svd(lam):
    x = smooth(2, 3, 16, 12)
    A = Averages((3, 16, 12), (3, 8, 12))
    mean = A(x).repeat_interleave(2, -2)  # the range part; s^2 = 1/2
    torch.testing.assert_close(determined(A, x, lam), mean * 0.5 / (0.5 + lam), rtol=0, atol=1e-9)


def test_more_noise_leaves_more_to_the_prior_and_images_do_not_mix():
    x = torch.cat([picture(), 0.1 * picture()])
    A = operator("sr4")
    low, high = share(A, x, 0.02), share(A, x, 0.2)
    assert (high > low).all() and (low >= 0).all() and (high <= 1).all()
    torch.testing.assert_close(share(A, x[:1], 0.2), high[:1], rtol=1e-9, atol=1e-9)


def test_of_a_flat_picture_noise_leaves_nothing():
    x = torch.zeros(1, 3, 64, 64).double()
    assert (share(operator("deno"), x, 0.1) == 1).all()


def test_what_is_not_linear_is_refused():
    A = build("jpeg:quality=10", (3, 64, 64))
    with pytest.raises(ValueError, match="not linear"):
        determined(A, torch.zeros(1, 3, 64, 64), 0)
