"""Schedules of variance-preserving networks: betas, timesteps, and what is wrong with them.

A schedule belongs to a checkpoint: it says which timestep the network was told for a noise level. Which
levels a sampler visits is another matter (`core.grids`).
"""

import math

import torch
from torch import Tensor

from undiffuse.core.devices import wide

SIGNAL_LEFT = 1e-3  # abar_T above this: the last level still shows sqrt(1e-3) = 3 % of the image's contrast
FIRST_SIGMA = 0.1  # sigma_1 above this: the last step removes 13/255 of noise in one go
PUBLISHED = ((1e-4, 0.02), (0.00085, 0.012))  # first and last beta at T = 1000: DDPM, Stable Diffusion


class DiscreteSchedule:
    """T noise levels sigma_t = sqrt(1 / abar_t - 1), lowest first, and the way between them and timesteps.

    alphas_cumprod: (T,), strictly decreasing within (0, 1): ValueError otherwise. abar_T = 0 (zero terminal
    SNR) has no finite sigma: leave its last level out.
    """

    def __init__(self, alphas_cumprod: Tensor):
        abar = alphas_cumprod.detach().cpu().double()
        if abar.ndim != 1 or len(abar) < 2:
            raise ValueError(f"alphas_cumprod of shape {tuple(abar.shape)}; expected (T,) with T >= 2")
        if not ((abar > 0) & (abar < 1)).all():
            span = f"{abar.min().item():g} to {abar.max().item():g}"
            raise ValueError(
                f"alphas_cumprod from {span}; expected all within (0, 1); leave out a level that is 0"
            )
        if not (abar.diff() < 0).all():
            raise ValueError("alphas_cumprod do not decrease; they go from little noise to much (flip them?)")
        self.alphas_cumprod = abar
        self.sigmas = ((1 - abar) / abar).sqrt()  # (T,) float64
        self._logs = self.sigmas.log()
        self._gaps, self._inner = self._logs.diff(), self._logs[1:-1]
        self._ends = self.sigmas[0].item(), self.sigmas[-1].item()

    @classmethod
    def from_betas(cls, betas: Tensor) -> "DiscreteSchedule":
        """abar_t = prod_{s <= t} (1 - beta_s), in float64."""
        return cls((1 - betas.double()).cumprod(0))

    def __len__(self) -> int:
        return len(self.sigmas)

    def t(self, sigma: Tensor) -> Tensor:
        """Fractional timestep in [0, T - 1]: linear in log sigma between levels, exact on them, clamped."""
        s = wide(sigma).clamp(*self._ends).log()
        knots, gaps, inner = (known.to(s.device) for known in (self._logs, self._gaps, self._inner))
        j = torch.bucketize(s, inner)
        t = j + (s - knots[j]) / gaps[j]
        return t.clamp(0, len(self) - 1).to(sigma)

    def sigma(self, t: Tensor) -> Tensor:
        """The inverse of `t`; t is clamped to [0, T - 1]."""
        at = wide(t).clamp(0, len(self) - 1)
        knots, j = self._logs.to(at.device), at.floor().long().clamp(max=len(self) - 2)
        found = torch.lerp(knots[j], knots[j + 1], at - j).exp()
        return found.to(t.device, torch.promote_types(t.dtype, torch.float32))


def linear(T: int = 1000, start: float = 1e-4, end: float = 0.02, *, rescale: bool = True) -> Tensor:
    """(T,) betas from `start` to `end` (Ho et al. 2020), both times 1000/T as in guided-diffusion.

    So abar_T stays as it is at T = 1000. rescale=False takes start and end as they are: right for T = 1000
    only, or for checkpoints trained that way.
    """
    scale = 1000 / T if rescale else 1.0
    return _within(torch.linspace(scale * start, scale * end, T, dtype=torch.float64))


def cosine(T: int = 1000) -> Tensor:
    """(T,) betas of abar = f(t) / f(0), f(t) = cos^2((t/T + 0.008) / 1.008 * pi/2), capped at 0.999.

    Nichol and Dhariwal (2021), eq. 17.
    """
    return _from_cosine(T, power=2)


def cos6(T: int = 1000) -> Tensor:
    """(T,) betas of abar = f(t) / f(0), f(t) = cos^6((t/T + 0.008) / 1.008 * pi/2), capped at 0.999.

    Defined by this package: the cosine schedule to the third power, which spends more of its levels on high
    noise.
    """
    return _from_cosine(T, power=6)


def quad(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """(T,) betas whose square roots are evenly spaced ('quad' of DDIM, and 'scaled linear' elsewhere)."""
    return _within(torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64).square())


def sigmoid(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """(T,) betas start + (end - start) / (1 + exp(-u)), u from -6 to 6 (DDIM's 'sigmoid')."""
    return _within(start + (end - start) * torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid())


def without_signal(schedule: DiscreteSchedule) -> DiscreteSchedule:
    """Zero terminal SNR (Lin et al. 2024, algorithm 1): sqrt(abar) shifted to 0 at T, and scaled to its first value.

    Without the last level, whose sigma is infinite: T - 1 levels are left.
    """
    root = schedule.alphas_cumprod.sqrt()
    return DiscreteSchedule((((root - root[-1]) * root[0] / (root[0] - root[-1]))[:-1]).square())


def lint(schedule: DiscreteSchedule | Tensor) -> list[str]:
    """What is wrong with a schedule, or with raw alphas_cumprod (T,): a sentence for each finding.

    Not every finding is an error of the file: Stable Diffusion was trained with too much signal at its last
    level.
    """
    raw = schedule if isinstance(schedule, Tensor) else schedule.alphas_cumprod
    abar = raw.detach().cpu().double()
    betas = 1 - abar / torch.cat([abar.new_ones(1), abar[:-1]])
    findings: list[str] = []
    if not (abar.diff() < 0).all():
        findings.append(
            "alphas_cumprod do not decrease everywhere, so that a noise level has no timestep of its own."
        )
    if not ((betas > 0) & (betas < 1)).all():
        findings.append(
            f"betas from {betas.min().item():g} to {betas.max().item():g} are not all within (0, 1)."
        )
    if abar[-1] > SIGNAL_LEFT:
        left = 100 * abar[-1].sqrt().item()
        findings.append(
            f"The last level keeps {left:.1f} % of the image, but sampling starts from noise alone."
        )
    if abar[0] < 1 / (1 + FIRST_SIGMA**2):
        first = (1 / abar[0].item() - 1) ** 0.5 if abar[0] > 0 else math.inf
        findings.append(f"The first level has sigma {first:.3f}, which the last step removes at once.")
    if len(betas) != 1000 and (ends := _meant_for_1000(betas)):
        findings.append(
            f"The betas {ends[0]:g} to {ends[1]:g} are for T = 1000; multiply them by 1000/T for T = {len(betas)}."
        )
    return findings


def _from_cosine(T: int, power: int) -> Tensor:
    t = torch.arange(T + 1, dtype=torch.float64) / T
    f = ((t + 0.008) / 1.008 * (math.pi / 2)).cos() ** power
    return _within((1 - f[1:] / f[:-1]).clamp(max=0.999))


def _meant_for_1000(betas: Tensor) -> tuple[float, float] | None:
    """The ends of a published schedule of 1000 steps that these betas are, whatever their number."""
    T = len(betas)
    for start, end in PUBLISHED:
        for plain in (linear(T, start, end, rescale=False), quad(T, start, end), sigmoid(T, start, end)):
            if torch.allclose(betas, plain, rtol=1e-2, atol=1e-6):
                return start, end
    return None


def _within(betas: Tensor) -> Tensor:
    if not ((betas > 0) & (betas < 1)).all():
        span = f"{betas.min().item():g} to {betas.max().item():g}"
        raise ValueError(
            f"betas from {span} for T = {len(betas)}; expected all within (0, 1); more steps, or lower ends"
        )
    return betas
