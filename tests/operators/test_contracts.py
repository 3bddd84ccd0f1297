"""The contract of every registered degradation, on odd and non-square sizes with 1, 3 and 4 channels."""

import math

import numpy as np
import pytest

from undiffuse.config import validated
from undiffuse.contracts.operator import EXACT, check, distance, images
from undiffuse.operators import LinearOperator
from undiffuse.registry import OPERATORS

SHAPES = [(1, 9, 13), (3, 16, 12), (4, 8, 8)]
ONLY = {"ddrm_cs": (4, 8, 8), "ddrm_color": (3, 16, 12)}  # published code that takes nothing else

EXTRA = {  # options beside the defaults, for each entry
    "pool": [{"factor": 3}, {"factor": 1}],
    "gray": [{"weights": "channels"}],
    "blur": [
        {"kernel": "uniform", "boundary": "circular"},
        {"kernel": "motion", "angle": 20.0, "boundary": "circular"},
        {"std": 0.8, "boundary": "zero"},
        {"kernel": "uniform", "taps": 4},
    ],
    "downsample": [{"kernel": "lanczos3", "factor": 2}, {"kernel": "gaussian", "factor": 3}, {"factor": 1}],
    "ddrm_deblur": [{"fixed": True}],
    "cs": [{"ratio": 1.0}],
    "inp": [{"mask": "box"}, {"mask": "half"}, {"mask": "brush", "seed": 3}, {"channels": [0]}],
}
CASES = [(name, options) for name in OPERATORS for options in [{}, *EXTRA.get(name, [])]]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_contract(name, options, shape, tmp_path):
    if shape != ONLY.get(name, shape):
        pytest.skip("published code that does not take this shape")
    options = dict(options)
    if name == "matrix":
        unknowns = math.prod(shape)
        np.save(tmp_path / "A.npy", np.random.default_rng(0).standard_normal((unknowns // 3, unknowns)))
        options["file"] = tmp_path / "A.npy"
    if name == "jpeg" and shape[0] == 4:
        pytest.skip("JPEG stores 1 or 3 channels")
    if options.get("weights") == "channels":
        options["weights"] = [0.1, 0.7, 0.2, -0.3][: shape[0]]
    if options.get("channels") and shape[0] == 1:
        pytest.skip("a grey image without its only channel")
    operator = OPERATORS[name](shape, **options)
    assert operator.in_shape == shape
    check(operator)
    of_no_pictures(operator)
    if "direct" in OPERATORS[name].facts:
        x, given = images(operator, seed=4), validated(OPERATORS[name], options)
        assert distance(operator(x), OPERATORS[name].facts["direct"](x, **given)) < EXACT


def of_no_pictures(operator):
    none = images(operator, 0, batch=0)
    y = operator(none)
    assert y.shape == (0, *operator.out_shape)
    if isinstance(operator, LinearOperator):
        found = [operator.adjoint(y), operator.pinv(y), operator.ridge(none, y, 0.1)]
        assert [one.shape for one in found] == 3 * [none.shape]
