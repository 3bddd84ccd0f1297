"""Samplers against diffusers' schedulers on a mixture, with the same noise (tests/golden/README.md)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from undiffuse.core.grids import from_timesteps, karras
from undiffuse.core.loop import last, sample
from undiffuse.priors import DiscreteSchedule, GaussianMixture, schedules
from undiffuse.samplers import ancestral, ddim, dpmpp_2m, heun

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "samplers_diffusers.safetensors")
SCHEDULE = DiscreteSchedule.from_betas(schedules.linear())
PRIOR = GaussianMixture(GOLDEN["means"], GOLDEN["variances"])
TABLES = 2e-5  # theirs are float32 products of 1000 factors: 4e-6 was seen
EQUAL = [
    "ddim0.leading.20", "ddim0.leading.30", "ddim1.leading.20", "ddim0.trailing.20", "ddim1.trailing.20",
    "ddpm.fixed_small.leading.20", "ddpm.fixed_small.trailing.20", "ddpm.fixed_small.trailing.30",
    "ddpm.fixed_small.linspace.20", "ddpm.fixed_large.leading.20", "ddpm.fixed_large.linspace.20",
    "dpmpp.leading.20", "dpmpp.trailing.20", "dpmpp.trailing.30", "dpmpp.linspace.20",
]  # fmt: skip


def noise(like):
    return GOLDEN["noise"]


def sampler(name):
    if name.startswith("ddim"):
        return ddim(PRIOR, noise, eta=float(name[4]))
    if name.startswith("ddpm"):
        return ancestral(PRIOR, noise, variance="small" if "small" in name else "large")
    return dpmpp_2m(PRIOR, noise)


def ours(name):
    """On the timesteps that theirs visits; x_T = sqrt(abar) x as theirs begins."""
    levels = SCHEDULE.sigmas[GOLDEN[f"{name}.timesteps"]]
    sigmas = torch.cat([levels, levels.new_zeros(1)])
    return last(sample(sampler(name), GOLDEN["z"] * (1 + sigmas[0] ** 2).sqrt(), sigmas)).x


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name):
    torch.testing.assert_close(ours(name), GOLDEN[f"{name}.x"], rtol=0, atol=TABLES)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_timesteps_are_the_same_where_both_divide_the_schedule(spacing):
    theirs = SCHEDULE.sigmas[GOLDEN[f"ddim0.{spacing}.20.timesteps"]]
    assert torch.equal(from_timesteps(SCHEDULE, 20, spacing)[:-1], theirs)


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_steps_end_where_the_next_begins(spacing):
    """DDIMScheduler steps down by T // n = 1 timestep of 1000 where its 600 timesteps are 5 / 3 apart.

    So x is noisier than the network is told at every step, and no number of steps comes near the end of the exact path.
    Ours are where a first order method is with 600 steps.
    """
    name = f"ddim0.{spacing}.600"
    top = SCHEDULE.sigmas[GOLDEN[f"{name}.timesteps"][0]].item()
    start = GOLDEN["z"] * (1 + top**2) ** 0.5
    exact = last(sample(heun(PRIOR, noise), start, karras(300, sigma_max=top))).x
    mine, theirs = ((x - exact).square().mean().sqrt().item() for x in (ours(name), GOLDEN[f"{name}.x"]))
    assert mine < 0.006 and theirs > 50 * mine


def test_no_noise_is_left_in_the_picture():
    """DDPMScheduler adds noise in every step from t > 0, and its last trailing step is from t = 49 to the picture.

    What is left in it is sqrt(beta) n, beta = 1 - abar_49: a deviation of 0.17 on [-1, 1].
    """
    name = "ddpm.fixed_large.trailing.20"
    left = (1 - SCHEDULE.alphas_cumprod[49]).sqrt()
    torch.testing.assert_close(ours(name) + left * GOLDEN["noise"], GOLDEN[f"{name}.x"], rtol=0, atol=TABLES)
