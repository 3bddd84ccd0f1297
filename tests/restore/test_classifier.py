"""A mixture pulled towards one of its Gaussians by its exact classifier is that Gaussian, by Bayes' rule.

So sampling and restoring with it must give what the Gaussian gives, in algorithms that differentiate the denoiser, too.
"""

import pytest
import torch

from undiffuse import samplers  # noqa: F401 (fills the registry)
from undiffuse.contracts.restorer import run
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.operators import build
from undiffuse.priors import Gaussian, GaussianMixture, classifier_guided
from undiffuse.registry import RESTORERS, SAMPLERS
from undiffuse.restore import Problem

SHAPE, STD, CHOSEN = (1, 4, 4), 0.2, 1
MEANS = 0.5 * torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MIXTURE, CLASS = GaussianMixture(MEANS, STD**2), Gaussian(MEANS[CHOSEN], STD**2)
GUIDED = classifier_guided(MIXTURE, lambda x, sigma: MIXTURE.responsibilities(x, sigma).log()[:, CHOSEN])


@pytest.mark.parametrize(("name", "steps", "options"), [("heun", 40, {}), ("ancestral", 200, {})])
def test_draws_have_the_moments_of_the_class(name, steps, options):
    """250 draws of 16 pixels: means to 4 of their deviations; the variance, of 4000 numbers, to 4 of 2.2 %.

    The grids leave less than that. The mixture's own mean, a third of the three, is further off.
    """
    n, sigmas = 250, karras(steps, sigma_min=0.01, sigma_max=40.0)
    noise = SeededNoise(range(n))
    x = sigmas[0] * noise(torch.empty(n, *SHAPE, dtype=torch.float64))
    draws = last(sample(SAMPLERS[name](GUIDED, noise, **options), x, sigmas)).x
    allowed = 4 * STD / n**0.5
    assert (draws.mean(0) - MEANS[CHOSEN]).abs().max() < allowed < (MEANS.mean(0) - MEANS[CHOSEN]).abs().max()
    assert draws.var(0).mean() == pytest.approx(STD**2, rel=0.09)


@pytest.mark.parametrize("name", ["ddrm", "ddnm_plus", "diffpir", "dpir", "daps", "dps", "pigdm", "reddiff"])
def test_restoration_is_that_of_the_class(name):
    """Same seeds, same pictures: to rounding, which 1 / sigma^2 of the gradient's factor and back leaves small."""
    A = build("sr2", SHAPE)
    y = A(MEANS[CHOSEN : CHOSEN + 1] + 0.2).repeat(2, 1, 1, 1)
    entry, problem = RESTORERS[name], Problem(A, y, 0.1)
    found, expected = (run(entry, denoise, problem, [3, 4], steps=6) for denoise in (GUIDED, CLASS))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)
    plain = run(entry, MIXTURE, problem, [3, 4], steps=6)
    assert (plain - expected).abs().max() > 1e-4, "the class makes no difference here"
