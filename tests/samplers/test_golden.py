"""Samplers against guided-diffusion's loops on a Gaussian, with the same noise (tests/golden/README.md)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from undiffuse.core.grids import from_timesteps
from undiffuse.core.loop import sample
from undiffuse.priors import DiscreteSchedule, Gaussian, Prediction, clipped, schedules
from undiffuse.samplers import ancestral, ddim, euler

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "samplers_guided_ddim.safetensors")
GRIDS = {
    "linear.ddim20": (schedules.linear, 20, "leading"),
    "linear.ddim50": (schedules.linear, 50, "leading"),
    "cosine.ddim20": (schedules.cosine, 20, "leading"),
    "linear.50": (schedules.linear, 50, "linspace"),
}
PRIOR = Gaussian(GOLDEN["prior_mean"], 0.25)


def noise(like):
    return GOLDEN["fixed_noise"]


def states(grid, step):
    """The start is variance preserving in the reference: x_T = sqrt(abar) x."""
    betas, n, spacing = GRIDS[grid]
    sigmas = from_timesteps(DiscreteSchedule.from_betas(betas()), n, spacing)
    return list(sample(step, GOLDEN["z"] * (1 + sigmas[0] ** 2).sqrt(), sigmas))


def check(found, name):
    """The reference run in float64 without its cast of tables; sums of 50 steps leave 4e-14."""
    torch.testing.assert_close(found, GOLDEN[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
def test_ddim(grid):
    check(states(grid, ddim(PRIOR, noise))[-1].x, f"ddim.{grid}.clip0.float64_tables.final")
    check(states(grid, euler(PRIOR, noise))[-1].x, f"ddim.{grid}.clip0.float64_tables.final")
    check(states(grid, ddim(clipped(PRIOR), noise))[-1].x, f"ddim.{grid}.clip1.float64_tables.final")


def test_ddim_on_the_way():
    path = states("linear.ddim20", ddim(PRIOR, noise))
    on_the_way = [path[i].x / (1 + path[i].sigma ** 2).sqrt() for i in (3, 7, 10, 13, 17)]
    check(torch.stack(on_the_way), "ddim.linear.ddim20.clip0.float64_tables.intermediate")


@pytest.mark.parametrize("grid", GRIDS)
def test_chains_with_noise(grid):
    check(states(grid, ddim(PRIOR, noise, eta=1.0))[-1].x, f"ddim_eta1_fixed_noise.{grid}.final")
    check(states(grid, ancestral(PRIOR, noise))[-1].x, f"ddpm_fixedsmall_fixed_noise.{grid}.final")
    large = ancestral(PRIOR, noise, variance="large")
    check(states(grid, large)[-1].x, f"ddpm_fixedlarge_fixed_noise.{grid}.final")


@pytest.mark.parametrize("grid", GRIDS)
def test_learned_variance(grid):
    class Learned:
        def __call__(self, x, sigma, /):
            return PRIOR(x, sigma)

        def predict(self, x, sigma, /):
            return Prediction(PRIOR(x, sigma), torch.full_like(x, 0.3))

    learned = ancestral(Learned(), noise, variance="learned")
    check(states(grid, learned)[-1].x, f"ddpm_learnedrange0.3_fixed_noise.{grid}.final")
