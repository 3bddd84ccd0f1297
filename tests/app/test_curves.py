import numpy as np
import pytest

from undiffuse.app.axes import axis, shown
from undiffuse.app.series import smooth, thinned


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "span", [(0.03, 1.1), (1, 14000), (1e-9, 3e5), (7.0001, 7.0002), (2.5, 2.5), (3.1, 4.6)]
)
def test_ticks_are_few_round_numbers_within(log, span):
    found = axis([np.array(span, float)], log=log, pad=0.05)
    assert found is not None
    ticks = found.ticks()
    assert 2 <= len(ticks) <= 6 and ticks == sorted(set(ticks))
    assert found.low <= ticks[0] and ticks[-1] <= found.high
    places = found(np.array(ticks))
    assert places.min() >= 0 and places.max() <= 1
    if not log:
        assert f"{np.diff(ticks)[0]:.3e}".startswith(("1.000", "2.000", "5.000"))


def test_numbers_on_an_axis_are_short():
    values = (0, 0.05, 3e-4, 5000, 12500, 2e6, -3e9, 1e15)
    assert [shown(v) for v in values] == ["0", "0.05", "3e-4", "5000", "12.5k", "2M", "-3G", "1e15"]


def test_smoothing_keeps_lines_gaps_and_the_first_point():
    x = np.arange(50.0)
    smoothed = smooth(x, 11)
    np.testing.assert_allclose(smoothed[:45], x[:45])  # at the end there is nothing beyond to weigh against
    x[20] = np.nan
    smoothed = smooth(x, 11)
    assert np.isnan(smoothed[20]) and np.isfinite(np.delete(smoothed, 20)).all()


def test_thinning_keeps_the_mean_and_the_range():
    table = np.random.default_rng(0).normal(size=(1200, 3))
    mean, low, high = thinned(table, 100)
    assert mean.shape == (100, 3)
    np.testing.assert_allclose(mean.mean(0), table.mean(0))
    np.testing.assert_array_equal((low.min(0), high.max(0)), (table.min(0), table.max(0)))
