"""The known bias of the algorithms that are no posterior samplers, stated as numbers; and DAPS, which can be one.

N(m, 0.4^2 I), means over 2x2 pixels (16 of each 64 numbers are measured), 20 levels, 200 draws. `bias` is the
rms error of the mean in posterior deviations, with a floor of 1 / sqrt(200) = 0.07 (less for algorithms whose
draws are narrower); `spread` is the variance over the exact one, which scatters by sqrt(2 / (200 * 144)) =
0.01. Tolerance: three of those.
"""

import pytest

from tests.restore.test_exact import posed
from undiffuse.contracts.restorer import gaussian_posterior, moments, run
from undiffuse.registry import RESTORERS

DRAWS = 200
KNOWN = {  # algorithm: {sigma_y: (bias, spread)}
    "ddrm": {0.0: (0.06, 0.64), 0.05: (0.06, 0.64), 0.2: (0.06, 0.55)},
    "ddnm": {0.0: (0.06, 0.64)},
    "ddnm_plus": {0.0: (0.06, 0.64), 0.05: (0.06, 0.64), 0.2: (0.06, 0.55)},
    "diffpir": {0.0: (0.06, 0.67), 0.05: (0.06, 0.67), 0.2: (0.07, 0.65)},
    "ilvr": {0.0: (0.05, 0.56), 0.05: (0.10, 0.60), 0.2: (0.18, 0.61)},
    "daps": {0.0: (0.08, 1.26), 0.05: (0.08, 1.24), 0.2: (0.09, 1.23)},
    "dps": {0.0: (0.07, 0.96), 0.05: (0.07, 0.94), 0.2: (0.36, 0.82)},
    "dpir": {0.0: (0.0, 0.0), 0.05: (0.016, 0.0), 0.2: (0.12, 0.0)},  # one answer, near the posterior mean
    "dpir_wiener": {0.0: (0.002, 0.0), 0.05: (0.017, 0.0), 0.2: (0.12, 0.0)},
    "reddiff": {0.0: (0.05, 0.58), 0.05: (0.06, 0.57), 0.2: (0.36, 0.50)},
}
STEPS = {"dps": 300, "reddiff": 200}
CASES = [(name, sigma_y) for name, known in KNOWN.items() for sigma_y in known]


def found(algorithm, sigma_y, **options):
    prior, problem = posed("sr2", sigma_y)
    mean, covariance = gaussian_posterior(problem.A, prior, problem.y, sigma_y)
    seeds = list(range(DRAWS))
    steps = STEPS.get(algorithm, 20)
    draws = run(RESTORERS[algorithm], prior, problem.repeat(DRAWS), seeds, steps=steps, **options)
    return moments(draws, mean, covariance)


@pytest.mark.parametrize(("algorithm", "sigma_y"), CASES)
def test_known_bias(algorithm, sigma_y):
    bias, spread = KNOWN[algorithm][sigma_y]
    options = {"data_std": 0.4} if algorithm == "daps" else {}
    measured = found(algorithm, sigma_y, **options)
    assert measured.spread == pytest.approx(spread, abs=0.03)
    assert measured.bias == pytest.approx(bias, abs=0.03)


@pytest.mark.parametrize("sigma_y", [0.0, 0.05, 0.2])
def test_daps_with_one_call_a_level_is_exact(sigma_y):
    measured = found("daps", sigma_y, ode_steps=1, data_std=0.4)
    assert measured.spread == pytest.approx(1, abs=0.03)
    assert measured.bias == pytest.approx(0.07, abs=0.03)


def test_every_algorithm_states_its_bias():
    exact, published = {"pigdm", "exact"}, {"ddrm_published", "repaint"}  # repaint: test_repaint.py
    assert set(KNOWN) | exact | published == set(RESTORERS)
