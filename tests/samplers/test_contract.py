"""Every sampler in the registry: the step contract, its order, its variance, its calls."""

import functools

import pytest

import undiffuse.samplers  # noqa: F401 (fills the registry)
from undiffuse.config import from_term, parse_term
from undiffuse.contracts import step as contract
from undiffuse.registry import SAMPLERS

REQUIRED = {"churn": {"steps": 8}}
STOCHASTIC = {
    "ddim eta 1": ("ddim", {"eta": 1.0}),
    "ddim eta 0.5": ("ddim", {"eta": 0.5}),
    "ancestral small": ("ancestral", {}),
    "churn": ("churn", {"steps": 8, "s_noise": 1.0}),
    "consistency": ("consistency", {}),
}


def factory(name, **options):
    return functools.partial(SAMPLERS[name], **{**REQUIRED.get(name, {}), **options})


DETERMINISTIC = [name for name in SAMPLERS if not SAMPLERS[name].facts.get("stochastic")]


@pytest.mark.parametrize("name", SAMPLERS)
def test_contract(name):
    contract.step_contract(factory(name))


@pytest.mark.parametrize("case", STOCHASTIC)
def test_contract_with_noise(case):
    name, options = STOCHASTIC[case]
    contract.step_contract(factory(name, **options))


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls(name):
    calls = 2 * 12 - 1 if SAMPLERS[name].facts.get("calls") == 2 else 12
    contract.calls_the_denoiser(factory(name), 12, calls)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_noise_level(name):
    contract.keeps_the_noise_level(factory(name))


@pytest.mark.parametrize("case", STOCHASTIC)
def test_noise_level_with_noise(case):
    name, options = STOCHASTIC[case]
    contract.keeps_the_noise_level(factory(name, **options))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order(name):
    """Within 0.25: at 64 to 256 steps the next term of the error is still some per cent."""
    orders = contract.observed_order(factory(name))
    assert min(orders) > SAMPLERS[name].facts["order"] - 0.25, orders
    assert orders[-1] < SAMPLERS[name].facts["order"] + 0.6, orders


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_draws_nothing(name):
    contract.draws_no_noise(factory(name))


def test_churn_without_churn_is_heun():
    contract.draws_no_noise(factory("churn", s_churn=0.0))


@pytest.mark.parametrize("name", SAMPLERS)
def test_example_is_valid(name):
    entry = SAMPLERS[name]
    head, first, given = parse_term(entry.example.removeprefix("--sampler "))
    assert head == name
    assert set(from_term(entry, first, given)) >= set(given)
