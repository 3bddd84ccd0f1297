"""Matrices from files."""

import numpy as np
import pytest
import torch

from undiffuse.contracts.operator import check
from undiffuse.registry import OPERATORS

SHAPE = (3, 4, 5)


@pytest.mark.parametrize("rows", [1, 20, 60, 75])
def test_any_matrix(rows, tmp_path):
    values = np.random.default_rng(0).standard_normal((rows, 60))
    np.save(tmp_path / "A.npy", values)
    operator = OPERATORS["matrix"](SHAPE, file=tmp_path / "A.npy")
    x = torch.randn(2, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(operator(x), x.flatten(1) @ torch.from_numpy(values).mT, rtol=0, atol=1e-12)
    y = torch.randn(2, rows, dtype=torch.float64)
    expected = y @ torch.from_numpy(np.linalg.pinv(values)).mT
    torch.testing.assert_close(operator.pinv(y).flatten(1), expected, rtol=0, atol=1e-10)
    check(operator, tolerance=1e-9)  # a square random matrix has a condition of some hundreds


def test_a_matrix_of_lower_rank(tmp_path):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "A.npy", rng.standard_normal((30, 7)) @ rng.standard_normal((7, 60)))
    operator = OPERATORS["matrix"](SHAPE, file=tmp_path / "A.npy")
    assert int((operator.s > 0).sum()) == 7
    check(operator)


def test_what_does_not_fit_is_refused(tmp_path):
    np.save(tmp_path / "A.npy", np.ones((5, 61)))
    with pytest.raises(ValueError, match=r"\(5, 61\); \(M, 60\) with M up to 4096 is needed"):
        OPERATORS["matrix"](SHAPE, file=tmp_path / "A.npy")
    with pytest.raises(ValueError, match="12288 unknowns.*4096"):
        OPERATORS["matrix"]((3, 64, 64), file=tmp_path / "A.npy")
    np.save(tmp_path / "zero.npy", np.zeros((5, 60)))
    with pytest.raises(ValueError, match="nothing would be measured"):
        OPERATORS["matrix"](SHAPE, file=tmp_path / "zero.npy")
