"""Laws and choices of sizes."""

import math

import pytest

from undiffuse.analysis.sizes import nearest, power_law, spread_over, within


def test_a_power_law_is_found_exactly():
    sizes = [0.1, 0.2, 0.35, 1.0]
    law = power_law(sizes, [3.0 * s**-0.5 for s in sizes])
    assert law is not None
    assert (law.exponent, law.factor) == pytest.approx((0.5, 3.0), rel=1e-12)
    assert law.error == pytest.approx(0, abs=1e-12)
    assert law(0.25) == pytest.approx(6.0, rel=1e-12)


def test_a_value_that_does_not_fall_has_exponent_0():
    law = power_law([0.1, 1.0], [2.0, 2.0])
    assert law is not None and law.exponent == 0


def test_the_error_of_a_law_that_does_not_hold():
    # ln values 0, d, 0 at evenly spaced ln sizes: the line is d / 3, residuals -d/3, 2d/3, -d/3
    law = power_law([1.0, 2.0, 4.0], [1.0, math.e, 1.0])
    assert law is not None
    assert law.exponent == pytest.approx(0, abs=1e-12)
    assert law.error == pytest.approx(math.sqrt((1 + 4 + 1) / 9 / 3))


@pytest.mark.parametrize(
    ("sizes", "values"), [([0.1], [1.0]), ([0.1, 0.1], [1.0, 2.0]), ([0.1, 1.0], [1.0, 0.0])]
)
def test_what_has_no_law(sizes, values):
    assert power_law(sizes, values) is None


def test_ranges_and_choices():
    sizes = [1.0, 0.1, 0.5, 0.3]
    assert within(sizes, 0.1, 0.5) == [1, 3, 2]
    assert nearest(sizes, [0.28, 0.9, 0.31]) == [3, 0]
    assert spread_over(sizes) == [1, 3, 0]  # 0.316 is halfway from 0.1 to 1 by ratio
    assert spread_over([0.2]) == [0] and spread_over([]) == []
