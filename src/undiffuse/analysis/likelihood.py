"""Log densities by the instantaneous change of variables along the probability-flow ODE."""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.core.devices import wide
from undiffuse.core.state import Denoise, Noise


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Of each picture, nats; what is sampled from is the density at the lowest level of the grid."""

    log_p: Tensor  # (B,) float64
    probe_deviation: (
        Tensor | None
    )  # (B,): of the mean over probes; None for the exact trace and for one probe
    quadrature: Tensor  # (B,): how far the integral of the trace is from that with every second level


def log_density(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None, /, *, probes: int = 1
) -> Generator[int, None, Likelihood]:
    """log p(x) at sigmas[-1], the lowest level, of what the flow from N(0, sigmas[0]^2 I) makes. Yields levels done.

    Song et al. (2021), eq. 39, in the coordinate x = x0 + sigma n with lambda = log sigma:

        dx / dlambda = x - D(x, sigma)
        log p(x) = log N(x_top; 0, sigma_top^2) + integral of (d - tr dD/dx) dlambda from the lowest level to the top

    x climbs by Heun's method in sigma. The trace is taken at the levels, where it costs one backward pass for each
    probe, and integrated by the trapezoidal rule in lambda; d dlambda is exact. Hutchinson's estimate (1990) has
    Rademacher probes e, E[e' J e] = tr J, which stay the same along the path, as in FFJORD (Grathwohl et al. 2019).
    `noise` is asked for them, once for each; None takes the exact trace, C H W backward passes a level.

    x: (B, C, H, W), on the device of the denoiser, which can be differentiated. sigmas: (n + 1,), falling, all above 0.
    """
    levels = sigmas.flip(0)
    if len(levels) < 2 or not (levels[0] > 0 and (levels.diff() > 0).all()):
        raise ValueError(
            f"{len(levels)} levels from {sigmas[0]:.4g} to {sigmas[-1]:.4g}; expected them to fall, above 0"
        )
    directions = None if noise is None else [_signs(noise(x)) for _ in range(probes)]
    traces: list[Tensor] = []
    for i, level in enumerate(levels):
        sigma = level.to(x)
        x0, trace = _with_trace(denoise, x, sigma, directions)
        traces.append(trace)
        yield i + 1
        if i + 1 < len(levels):
            x = _climb(denoise, x, x0, sigma, levels[i + 1].to(x))
    top = levels[-1].item()
    d = x[0].numel()
    log_top = -0.5 * (wide(x) / top).square().flatten(1).sum(1) - d * (
        0.5 * math.log(2 * math.pi) + math.log(top)
    )
    t, logs = torch.stack(traces), levels.double().log()  # (levels, B, probes)
    whole = _trapezoid(t, logs)
    half = _trapezoid(*_thinned(t, logs))
    volume = d * (logs[-1] - logs[0]).item()
    log_p = log_top.cpu() + volume - whole.mean(1)
    spread = whole.std(1) / whole.shape[1] ** 0.5 if whole.shape[1] > 1 else None
    return Likelihood(log_p, spread, (whole - half).mean(1).abs() / 3)


def _signs(draw: Tensor) -> Tensor:
    return torch.where(draw < 0, -1.0, 1.0).to(draw)


def _with_trace(
    denoise: Denoise, x: Tensor, sigma: Tensor, directions: list[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """x0, and (B, probes) float64 on the CPU: e' J e for each direction, or the trace of J alone."""
    with torch.enable_grad():
        seen = x.detach().requires_grad_()
        x0 = denoise(seen, sigma)
        if directions is None:
            return x0.detach(), _exact_trace(x0, seen)[:, None].cpu()
        found = [
            (torch.autograd.grad((x0 * e).sum(), seen, retain_graph=k + 1 < len(directions))[0] * e)
            for k, e in enumerate(directions)
        ]
    return x0.detach(), torch.stack([wide(f).flatten(1).sum(1) for f in found], 1).cpu()


def _exact_trace(x0: Tensor, seen: Tensor) -> Tensor:
    """(B,): the sum of dD_i / dx_i; pictures of a batch do not depend on each other."""
    flat, found = x0.flatten(1).sum(0), list[Tensor]()
    for i in range(flat.numel()):
        row = torch.autograd.grad(flat[i], seen, retain_graph=i + 1 < flat.numel())[0]
        found.append(row.flatten(1)[:, i])
    return wide(torch.stack(found)).sum(0)


@torch.no_grad()
def _climb(denoise: Denoise, x: Tensor, x0: Tensor, sigma: Tensor, above: Tensor) -> Tensor:
    """Heun's step of dx / dsigma = (x - x0) / sigma, upwards."""
    slope = (x - x0) / sigma
    euler = x + (above - sigma) * slope
    return x + (above - sigma) * (slope + (euler - denoise(euler, above)) / above) / 2


def _trapezoid(values: Tensor, at: Tensor) -> Tensor:
    """(B, probes): the integral of values (levels, B, probes)."""
    return ((values[1:] + values[:-1]) / 2 * at.diff().reshape(-1, 1, 1)).sum(0)


def _thinned(values: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Every second level, and both ends."""
    kept = sorted({*range(0, len(at), 2), len(at) - 1})
    return values[kept], at[kept]
