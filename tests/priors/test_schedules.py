"""Schedules against guided-diffusion's and DDRM's tables (tests/golden/README.md), and the linter."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from undiffuse.core.grids import from_timesteps
from undiffuse.priors import DiscreteSchedule, lint, schedules

FOLDER = Path(__file__).parents[1] / "golden"
GUIDED = load_file(FOLDER / "schedules_guided.safetensors")
DDRM = load_file(FOLDER / "schedules_ddrm.safetensors")


def close(found, expected, rtol=1e-12):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=0)


def test_betas():
    close(schedules.linear(), GUIDED["linear1000.betas"])
    close(schedules.cosine(), GUIDED["cosine1000.betas"], rtol=1e-9)  # 1 - a ratio near 1 loses four digits
    close(schedules.quad(), DDRM["quad1000.betas"])
    close(schedules.sigmoid(), DDRM["sigmoid1000.betas"])


@pytest.mark.parametrize(
    ("name", "betas"),
    [
        ("linear1000", schedules.linear),
        ("cosine1000", schedules.cosine),
        ("linear4000", lambda: schedules.linear(4000)),
    ],
)
def test_cumulative_products(name, betas):
    close(DiscreteSchedule.from_betas(betas()).alphas_cumprod, GUIDED[f"{name}.alphas_cumprod"], rtol=1e-10)


def test_sigmas():
    found = DiscreteSchedule.from_betas(schedules.linear()).sigmas
    close(found, GUIDED["linear1000.sqrt_recipm1_alphas_cumprod"], rtol=1e-10)
    assert found[-1].item() == pytest.approx(157.407, abs=1e-3)


def test_ddrm_products_in_float32():
    """DDRM multiplies 1000 factors in float32: a relative 1e-5. Its first entry is t = -1."""
    for name, betas in (("quad", schedules.quad), ("linear", schedules.linear)):
        abar = DiscreteSchedule.from_betas(betas()).alphas_cumprod
        close(abar, DDRM[f"{name}1000.compute_alpha_f32"][1:].double(), rtol=5e-5)


@pytest.mark.parametrize(
    ("name", "n", "spacing", "T"),
    [
        ("linear1000.ddim50", 50, "leading", 1000),
        ("linear1000.ddim25", 25, "leading", 1000),
        ("linear1000.250", 250, "linspace", 1000),
        ("linear1000.50", 50, "linspace", 1000),
        ("linear4000.100", 100, "linspace", 4000),
    ],
)
def test_respaced_timesteps(name, n, spacing, T):
    schedule = DiscreteSchedule.from_betas(schedules.linear(T))
    steps = schedule.t(from_timesteps(schedule, n, spacing)[:-1]).flip(0)
    assert steps.tolist() == GUIDED[f"respaced.{name}.timesteps"].tolist()


def test_respaced_timesteps_at_a_tie():
    """27 of 1000 has 499.5 in its middle: Python rounds it to 500, sums of 999/26 to 499."""
    schedule = DiscreteSchedule.from_betas(schedules.linear())
    steps = schedule.t(from_timesteps(schedule, 27, "linspace")[:-1]).flip(0).long().tolist()
    expected = GUIDED["respaced.linear1000.27.timesteps"].tolist()
    assert [pair for pair in zip(steps, expected, strict=True) if pair[0] != pair[1]] == [(500, 499)]


def test_cos6_is_the_cube_of_the_cosine_schedule():
    two = DiscreteSchedule.from_betas(schedules.cosine()).alphas_cumprod
    six = DiscreteSchedule.from_betas(schedules.cos6()).alphas_cumprod
    close(six[:900], two[:900] ** 3, rtol=1e-9)  # above, the cap of beta at 0.999 bites
    assert lint(six) == []


@pytest.mark.parametrize("make", [schedules.linear, schedules.cosine, schedules.quad])
def test_timesteps_and_back(make):
    schedule = DiscreteSchedule.from_betas(make())
    assert torch.equal(schedule.t(schedule.sigmas), torch.arange(1000).double())
    close(schedule.sigma(torch.arange(1000).double()), schedule.sigmas)
    t = torch.linspace(0, 999, 4567, dtype=torch.float64)
    torch.testing.assert_close(schedule.t(schedule.sigma(t)), t, rtol=0, atol=1e-8)
    middle = (schedule.sigmas[4] * schedule.sigmas[5]).sqrt()
    assert schedule.t(middle).item() == pytest.approx(4.5)


def test_timesteps_are_clamped_and_keep_their_shape():
    schedule = DiscreteSchedule.from_betas(schedules.linear())
    sigma = torch.tensor([0.0, 1e-4, 1e4]).reshape(3, 1, 1, 1)
    t = schedule.t(sigma)
    assert t.dtype == torch.float32 and t.shape == sigma.shape
    assert t.flatten().tolist() == [0, 0, 999]
    close(schedule.sigma(torch.tensor([-3.0, 5000.0])), schedule.sigmas[[0, -1]].float(), rtol=1e-6)
    assert schedule.t(torch.tensor(0.0)).item() == 0


def test_lint_finds_nothing_in_good_schedules():
    for betas in (schedules.linear(), schedules.linear(4000), schedules.cosine(), schedules.quad()):
        assert lint(DiscreteSchedule.from_betas(betas)) == []


@pytest.mark.parametrize(
    ("abar", "words"),
    [
        (torch.tensor([0.995, 0.5, 0.6, 1e-4]), ["do not decrease", "not all within"]),
        (torch.tensor([0.995, 0.5, 0.0]), ["to 1 are not all within"]),
        ((1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2).cumprod(0), ["keeps 6.8 %"]),
        (torch.tensor([0.9, 0.5, 1e-4]), ["first level has sigma 0.333"]),
        ((1 - schedules.linear(4000, rescale=False)).cumprod(0), ["multiply them by 1000/T for T = 4000"]),
        (
            (1 - schedules.linear(250, rescale=False)).cumprod(0),
            ["keeps 28.2 %", "multiply them by 1000/T for T = 250"],
        ),
        ((1 - schedules.quad(2000)).cumprod(0), ["betas 0.0001 to 0.02 are for T = 1000"]),
        ((1 - schedules.sigmoid(2000)).cumprod(0), ["multiply them by 1000/T for T = 2000"]),
        ((1 - schedules.quad(4000, 0.00085, 0.012)).cumprod(0), ["betas 0.00085 to 0.012 are for T = 1000"]),
    ],
)
def test_lint(abar, words):
    findings = lint(abar)
    assert len(findings) == len(words), findings
    for finding, word in zip(findings, words, strict=True):
        assert word in finding


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiscreteSchedule(torch.tensor([0.9, 0.5, 0.0])), "leave out a level that is 0"),
        (lambda: DiscreteSchedule(torch.tensor([0.1, 0.5])), "flip them"),
        (lambda: DiscreteSchedule(torch.tensor([0.5])), "T >= 2"),
        (lambda: schedules.linear(10), "betas from 0.01 to 2 for T = 10"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
