import numpy as np
import pytest
import torch

from undiffuse.restore import summarise


@pytest.mark.parametrize("height", [5, 300])  # 300: more than one strip of rows
def test_against_numpy(height):
    draws = torch.randn(2, 9, 3, height, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    posterior = summarise(draws)
    low, median, high = np.quantile(draws.numpy(), [0.05, 0.5, 0.95], axis=1)
    np.testing.assert_allclose(posterior.low, low, atol=1e-12)
    np.testing.assert_allclose(posterior.median, median, atol=1e-12)
    np.testing.assert_allclose(posterior.high, high, atol=1e-12)
    np.testing.assert_allclose(posterior.mean, draws.mean(1), atol=1e-12)
    np.testing.assert_allclose(posterior.deviation, draws.numpy().std(1, ddof=1), atol=1e-12)


@pytest.mark.parametrize("count", [5, 50])
def test_coverage_of_honest_draws(count):
    draws = torch.randn(1, count, 1, 200, 200, generator=torch.Generator().manual_seed(1))
    truth = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(2))
    # The rule is exact for order statistics; between them the quantile is interpolated, which for a Gaussian
    # and K = 5 adds 0.02. 40000 independent pixels: standard error 0.0025.
    assert summarise(draws).coverage(truth) == pytest.approx(0.9 * (count - 1) / (count + 1), abs=0.03)


@pytest.mark.parametrize("by", [1.0, 2.5])
def test_draws_that_are_too_sure_are_honest_once_widened(by):
    """Draws of a deviation that is `by` times too small, about a mean of their own in each pixel."""
    count, shape = 8, (1, 1, 200, 200)
    noise = [torch.randn(n, *shape[1:], generator=torch.Generator().manual_seed(n)) for n in (1, count, 2)]
    draws, truth = 3 * noise[0] + noise[1] / by, 3 * noise[0] + noise[2][:1]
    found = summarise(draws[None])
    widened = found.widened(by)
    honest = 0.9 * (count - 1) / (count + 1)  # and a little more, as above: the mean of narrow draws is surer
    assert widened.coverage(truth) == pytest.approx(honest, abs=0.05)
    assert torch.equal(widened.mean, found.mean) and torch.equal(widened.median, found.median)
    torch.testing.assert_close(widened.deviation, by * found.deviation)
    torch.testing.assert_close(
        widened.high - found.mean, by * (found.high - found.mean), rtol=1e-4, atol=1e-5
    )
    assert (found.coverage(truth) < 0.4) == (by == 2.5)
    if by == 1.0:
        assert torch.equal(widened.low, found.low) and torch.equal(widened.high, found.high)


def test_what_draws_hold_they_hold_once_widened():
    """Pixels that the data determine, but for rounding, and skewed ones, whose mean lies beyond a quantile."""
    value = torch.full((1, 8, 1, 40, 40), 0.1) * (1 + 1e-7 * torch.arange(8.0).reshape(1, 8, 1, 1, 1))
    skewed = torch.zeros(1, 30, 1, 1, 1)
    skewed[:, 0] = -9.0  # its 5 % quantile is above its mean
    for draws, truth in ((value, value[:, 3]), (skewed, skewed[:, 5])):
        found = summarise(draws)
        assert found.widened(1.8).coverage(truth) == found.coverage(truth) == 1
    assert found.low > found.mean and found.widened(1.8).low == found.low


def test_one_draw_is_refused():
    with pytest.raises(ValueError, match="K >= 2"):
        summarise(torch.zeros(1, 1, 3, 4, 4))
