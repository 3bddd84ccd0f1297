"""The contract of every registered degradation, on odd and non-square sizes with 1, 3 and 4 channels."""

import pytest

from tests.contracts.operator import check
from undiffuse.registry import OPERATORS

SHAPES = [(1, 9, 13), (3, 16, 12), (4, 8, 8)]

EXTRA = {  # options beside the defaults, for each entry
    "pool": [{"factor": 3}, {"factor": 1}],
    "gray": [{"weights": "channels"}],
    "inp": [{"mask": "box"}, {"mask": "half"}, {"mask": "brush", "seed": 3}, {"channels": [0]}],
}
CASES = [(name, options) for name in OPERATORS for options in [{}, *EXTRA.get(name, [])]]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_contract(name, options, shape, tmp_path):
    options = dict(options)
    if options.get("weights") == "channels":
        options["weights"] = [0.1, 0.7, 0.2, -0.3][: shape[0]]
    if options.get("channels") and shape[0] == 1:
        pytest.skip("a grey image without its only channel")
    operator = OPERATORS[name](shape, **options)
    assert operator.in_shape == shape
    check(operator)
