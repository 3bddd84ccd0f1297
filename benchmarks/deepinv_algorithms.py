"""deepinv's DDRM, DiffPIR and DPS with a prior and an operator of ours: a plugin of `undiffuse bench`.

    undiffuse bench --data photos --algorithms "ddrm;deepinv_ddrm;diffpir;deepinv_diffpir" \\
        --plugin benchmarks/deepinv_algorithms.py

Equal terms: the same stored y, the same denoiser, the same operator with its singular value decomposition, the same
number of network calls. Everything else is deepinv's own: schedule, start, defaults, noise. Its pictures are in [0, 1],
so y' = (y + A 1) / 2, sigma' = sigma / 2 and D'(x', s) = (D(2 x' - 1, 2 s) + 1) / 2.

Needs deepinv (0.5 was used here).
"""

import contextlib
from collections.abc import Generator
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from undiffuse.app.bench.contenders import BASELINES, Given
from undiffuse.operators.base import LinearOperator, SVDOperator
from undiffuse.restore import Problem

LEAST_NOISE = 1e-3  # on [0, 1]: what the authors of DiffPIR use for data without noise; deepinv divides by it


def package() -> Any:
    """deepinv; ValueError where it is missing or does not fit the torch that is here."""
    try:
        import deepinv
    except (ImportError, RuntimeError) as error:
        raise ValueError(f"deepinv cannot be imported ({error}); pip install deepinv") from None
    return deepinv


class Unit(nn.Module):
    """A prior of ours as a denoiser of pictures in [0, 1]."""

    def __init__(self, denoise: nn.Module):
        super().__init__()
        self.denoise = denoise

    def forward(self, x: Tensor, sigma: Any, *args: Any, **kwargs: Any) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).flatten()[0]
        if level == 0:
            return x
        return (self.denoise(2 * x - 1, 2 * level) + 1) / 2


def physics_of(problem: Problem, name: str, least: float = 0.0) -> tuple[Tensor, Any]:
    """y in [0, 1] units, and the operator as deepinv knows it, with its decomposition where there is one."""
    deepinv = package()

    A = problem.A
    if not isinstance(A, LinearOperator):
        raise ValueError(f"{name} needs a linear degradation and {type(A).__name__} is not")
    ones = torch.ones(1, *A.in_shape).to(problem.y)
    y = (problem.y + A(ones)) / 2
    noise = deepinv.physics.GaussianNoise(max(problem.sigma_y / 2, least))
    if isinstance(A, SVDOperator) and not A.vt(ones).is_complex():
        s = A.s.expand(A.vt(ones).shape).clone()
        return y, deepinv.physics.DecomposablePhysics(
            U=A.u, U_adjoint=A.ut, V=A.v, V_adjoint=A.vt, mask=s, noise_model=noise
        )
    return y, deepinv.physics.LinearPhysics(A=A.forward, A_adjoint=A.adjoint, noise_model=noise)


def each(given: Given) -> Generator[int]:
    """A seed for each draw; deepinv draws from the global generators, which are as before afterwards."""
    for seed in given.seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield seed


def back(x: Tensor, problem: Problem) -> Tensor:
    return (2 * x - 1).to(problem.y)


@BASELINES.register(
    "deepinv_ddrm", summary="DDRM as in deepinv", example="--algorithms deepinv_ddrm@20", prior=True
)
def deepinv_ddrm(
    problem: Problem,
    given: Given,
    /,
    *,
    eta: Annotated[float, Field(ge=0, le=1)] = 0.85,
    etab: Annotated[float, Field(ge=0, le=1)] = 1.0,
    top: Annotated[float, Field(gt=0, description="highest level, on [0, 1]; deepinv's default is 1")] = 1.0,
) -> Tensor:
    """Levels evenly from `top` to 0, as its default; the last call is at level 0 and returns what it is given."""
    deepinv = package()

    y, physics = physics_of(problem, "deepinv_ddrm")
    if not isinstance(physics, deepinv.physics.DecomposablePhysics):
        raise ValueError(
            "deepinv's DDRM needs a real singular value decomposition and this degradation has none"
        )
    levels = torch.linspace(top, 0, given.calls + 1).tolist()
    model = deepinv.sampling.DDRM(Unit(given.opened.denoise), sigmas=levels, eta=eta, etab=etab)
    with contextlib.closing(each(given)) as seeds:
        return torch.cat([back(model(y.clone(), physics), problem) for _ in seeds])


@BASELINES.register(
    "deepinv_diffpir", summary="DiffPIR as in deepinv", example="--algorithms deepinv_diffpir@20", prior=True
)
def deepinv_diffpir(
    problem: Problem,
    given: Given,
    /,
    *,
    zeta: Annotated[float, Field(ge=0, le=1)] = 0.1,
    lam: Annotated[float, Field(gt=0)] = 7.0,
) -> Tensor:
    """On its own 1000-step linear schedule. Without noise it is told LEAST_NOISE."""
    deepinv = package()

    y, physics = physics_of(problem, "deepinv_diffpir", LEAST_NOISE)
    if given.calls < 2:
        raise ValueError("deepinv's DiffPIR needs 2 calls or more")
    fidelity = deepinv.optim.data_fidelity.L2()
    model = deepinv.sampling.DiffPIR(
        Unit(given.opened.denoise),
        fidelity,
        max_iter=given.calls,
        zeta=zeta,
        lambda_=lam,
        device=str(y.device),
    )
    with contextlib.closing(each(given)) as seeds:
        return torch.cat([back(model(y.clone(), physics), problem) for _ in seeds])


@BASELINES.register(
    "deepinv_dps", summary="DPS as in deepinv", example="--algorithms deepinv_dps@100", prior=True
)
def deepinv_dps(problem: Problem, given: Given, /, *, weight: Annotated[float, Field(gt=0)] = 1.0) -> Tensor:
    """Its default DDPM solver on the variance-preserving equation, whose default is 1000 steps."""
    deepinv = package()

    y, physics = physics_of(problem, "deepinv_dps")
    denoiser, device = Unit(given.opened.denoise), y.device
    found: list[Tensor] = []
    for seed in given.seeds:
        model = deepinv.sampling.DPS(
            denoiser, num_steps=given.calls + 1, weight=weight, device=device,
            rng=torch.Generator(device=device),
        )  # fmt: skip
        found.append(back(model(y, physics, seed=seed % 2**31), problem).detach())
    return torch.cat(found)
