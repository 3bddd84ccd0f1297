"""Compressed sensing against the dense Hadamard matrix."""

import pytest
import torch
from scipy.linalg import hadamard

from undiffuse.contracts.operator import check
from undiffuse.operators import Hadamard, PaddedHadamard, fwht
from undiffuse.registry import OPERATORS


@pytest.mark.parametrize("n", [1, 2, 8, 64, 128, 2048])
def test_the_transform_is_the_matrix(n):
    x = torch.randn(3, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = torch.from_numpy(hadamard(n)).double() / n**0.5
    torch.testing.assert_close(fwht(x), x @ matrix, rtol=0, atol=1e-12)


def test_lengths_that_are_no_power_of_two_are_refused():
    with pytest.raises(ValueError, match="length 12"):
        fwht(torch.zeros(12))


def test_measurements_are_rows_of_the_matrix():
    operator = OPERATORS["cs"]((3, 8, 16), ratio=2.0, seed=5)
    assert isinstance(operator, Hadamard) and operator.out_shape == (3, 64)
    assert operator.kept[0] == 0, "the mean is always measured"
    x = torch.randn(2, 3, 8, 16, dtype=torch.float64)
    expected = (x.flatten(2) @ torch.from_numpy(hadamard(128)).double() / 128**0.5)[..., operator.kept]
    torch.testing.assert_close(operator(x), expected, rtol=0, atol=1e-12)
    assert not torch.equal(operator.kept, OPERATORS["cs"]((3, 8, 16), ratio=2.0, seed=6).kept)


@pytest.mark.parametrize("ratio", [2.0, 4.0])
def test_any_size_by_padding(ratio):
    operator = OPERATORS["cs"]((1, 9, 11), ratio=ratio)
    assert isinstance(operator, PaddedHadamard) and operator.out_shape == (1, round(99 / ratio))
    check(operator, solved=1e-9)  # conjugate gradient stops at a residual of 100 eps
