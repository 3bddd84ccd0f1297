"""The power spectrum of one picture, and a Gaussian model of the log spectra of photographs."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (safetensors, torch.fft and hann_window are untyped)

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import as_file, files

import torch
from safetensors.torch import load_file
from torch import Tensor

WINDOWS = 3000  # of one picture at most
LOWEST = 2.5  # cycles a window: below, the taper mixes in the mean
OVERLAP = (19 / 18) ** 2  # variance of a mean over half overlapping Hann windows, by that of independent ones


@dataclass(frozen=True, slots=True)
class Power:
    """Welch's estimate (1967): mean power of tapered windows, for the half plane of frequencies."""

    log_power: Tensor  # (n,) float64; white noise of variance s^2 has log s^2
    cells: Tensor  # (n,) flat indices into (side, side // 2 + 1)
    side: int
    windows: int
    told: Tensor  # (n,): the cells that tell something

    def every(self, n: int) -> "Power":
        """One cell in n: for a first look."""
        return self._where(slice(None, None, n))

    def telling(self) -> "Power":
        """The cells that are told."""
        return self._where(self.told)

    def _where(self, chosen: slice | Tensor) -> "Power":
        return replace(
            self, log_power=self.log_power[chosen], cells=self.cells[chosen], told=self.told[chosen]
        )

    @property
    def chance(self) -> float:
        """Variance of log_power from chance alone."""
        return OVERLAP / self.windows


def measure_power(grey: Tensor, known: Tensor, side: int) -> Power | None:
    """Power of grey (H, W) over windows without a gap, half overlapping; None if there is no such window."""
    step = side // 2
    whole = known.unfold(0, side, step).unfold(1, side, step).all(-1).all(-1)
    windows = grey.double().unfold(0, side, step).unfold(1, side, step)[whole]
    if len(windows) == 0:
        return None
    windows = windows[:: -(-len(windows) // WINDOWS)]
    taper = torch.hann_window(side, dtype=torch.float64)
    taper = torch.outer(taper, taper)
    windows = windows - windows.mean((1, 2), keepdim=True)
    mean = torch.fft.rfft2(windows * taper).abs().square().mean(0) / taper.square().sum()
    used = cells(side)
    told = torch.ones_like(used, dtype=torch.bool)
    power = Power(mean.flatten()[used].clamp(min=1e-14).log(), used, side, len(windows), told)
    return replace(power, log_power=power.log_power + power.chance / 2)  # E log of a mean is lower by that


def left_by(power: Power, left: Tensor, least: float) -> Power:
    """Without the frequencies of which a JPEG has kept less than that share of its coefficients.

    left (8, 8): of each coefficient; the k-th has k / 16 cycles a pixel. The others are no signal with white noise.
    """
    row, column = (
        (16 * f.flatten()[power.cells].abs()).round().long().clamp(max=7) for f in frequencies(power.side)
    )
    return replace(power, told=power.told & (left[row, column] > least))


def cells(side: int) -> Tensor:
    """(n,): where the mean of the window plays no part."""
    fy, fx = frequencies(side)
    return (torch.hypot(fy, fx) * side >= LOWEST).flatten().nonzero().squeeze(1)


def frequencies(side: int) -> tuple[Tensor, Tensor]:
    """(fy, fx), both (side, side // 2 + 1), in cycles a pixel."""
    fy = torch.fft.fftfreq(side, dtype=torch.float64)[:, None]
    fx = torch.fft.rfftfreq(side, dtype=torch.float64)[None]
    return fy.expand(side, side // 2 + 1), fx.expand(side, side // 2 + 1)


def shapes(power: Power) -> Tensor:
    """(n, p): the shapes of which a photograph's log spectrum is made.

    Powers of u = log(f / 0.1) and f^2 along the radius; waves of 2 and 4 turns and ridges of 7 degrees on the axes
    (level horizons, upright walls) around it, the waves also growing with u.
    """
    fy, fx = (f.flatten()[power.cells] for f in frequencies(power.side))
    f, turn = torch.hypot(fy, fx), torch.atan2(fy, fx)
    u = (f / 0.1).log()
    waves = [(2 * turn).cos(), (2 * turn).sin(), (4 * turn).cos(), (4 * turn).sin()]
    ridges = [(-0.5 * (side.abs().asin() / 0.12) ** 2).exp() for side in (fy / f, fx / f)]
    radial = [torch.ones_like(u), u, u**2, u**3, (2 * f) ** 2]
    return torch.stack([*radial, *waves, *(u * wave for wave in waves), *ridges], 1)


def transfer(kernel: Tensor, side: int) -> Tensor:
    """(side, side // 2 + 1): the power that a kernel lets through, as the taper sees it.

    The Hann taper adds a quarter of the power of each neighbour along rows and columns; a zero of the kernel's
    transform is filled from there, and more so on the steep side of a photograph's spectrum (1 / f^2).
    """
    K = torch.fft.rfft2(kernel, (side, side)).abs().square()
    fy, fx = frequencies(side)
    fall = (fy**2 + fx**2).clamp(min=side**-2)
    seen = _smeared(_whole(K / fall)) / _smeared(_whole(1 / fall))
    return seen[:, : side // 2 + 1]


def _whole(half: Tensor) -> Tensor:
    """(side, side) of a real picture's half spectrum of powers: P(-f) = P(f)."""
    rest = half[:, 1:-1].flip(1)
    return torch.cat([half, torch.cat([rest[:1], rest[1:].flip(0)])], 1)


def _smeared(p: Tensor) -> Tensor:
    for dim in (0, 1):
        p = (p.roll(1, dim) + 4 * p + p.roll(-1, dim)) / 6
    return p


@dataclass(frozen=True, slots=True)
class LogSpectra:
    """Log spectra of photographs, shapes @ z with z ~ N(mean, covariance), up to a misfit a cell."""

    mean: Tensor  # (p,)
    covariance: Tensor  # (p, p)


@cache
def photographs() -> LogSpectra:
    """Fitted to the training photographs (benchmarks/fit_photo_spectra.py)."""
    with as_file(files("undiffuse.assets") / "photo_spectra.safetensors") as path:
        table = load_file(path)
    return LogSpectra(table["mean"], table["covariance"])


@dataclass(frozen=True, slots=True)
class Fit:
    """The best spectrum and noise for each of J blurs."""

    log_likelihood: Tensor  # (J,), data and prior of z and sigma
    log_noise: Tensor  # (J,) log of the noise variance
    noise_error: Tensor  # (J,) standard deviation of that
    signal: Tensor  # (J,): share of the cells where the picture is stronger than the noise


STEPS = 12  # Gauss-Newton steps; changes are below 1e-3 of the log likelihood after 8
LEAST_MISFIT = 0.01  # variance of a log power that no picture's spectrum falls below
ROBUST = 2.5  # deviations from which a cell counts linearly (Huber)


def fit(
    power: Power, transfers: Tensor, log_noise: tuple[float, float], prior: LogSpectra, steps: int = STEPS
) -> Fit:
    """log P = log(exp(shapes z) T + sigma^2), T (J, n): maximum over z, sigma and the misfit, by Gauss-Newton.

    The misfit of a cell has variance w^2 v + chance, where w is the picture's share of the cell's power and v is
    estimated with the rest. `log_noise`: mean and deviation of a Gaussian prior of log sigma^2.
    """
    B, p = shapes(power).float(), prior.mean.numel()  # float32 for what is as long as the cells
    products = (B[:, :, None] * B[:, None]).flatten(1)  # (n, p p)
    precision = torch.zeros(p + 1, p + 1, dtype=torch.float64)
    precision[:p, :p] = torch.linalg.inv(prior.covariance)
    precision[p, p] = log_noise[1] ** -2
    centre = torch.cat([prior.mean, torch.tensor([log_noise[0]], dtype=torch.float64)])
    z = centre.repeat(len(transfers), 1)
    v = torch.full((len(transfers), 1), 0.3)
    log_T = transfers.clamp(min=1e-12).log().float()
    normal = precision
    for _ in range(steps):
        r, w, variance, weight = _residual(power, B, log_T, z, v)
        J = 1 - w
        normal = precision.repeat(len(z), 1, 1)
        normal[:, :p, :p] += ((w**2 * weight) @ products).view(-1, p, p)
        cross = (w * J * weight) @ B
        normal[:, :p, p] += cross
        normal[:, p, :p] += cross
        normal[:, p, p] += (J**2 * weight).sum(1)
        pull = torch.cat([(w * weight * r) @ B, (J * weight * r).sum(1, keepdim=True)], 1)
        step = torch.linalg.solve(normal, pull.double() + (centre - z) @ precision)
        z = z + step.clamp(-2, 2)
        excess = (weight * variance * (r**2 - power.chance) * w**2).sum(1) / (w**4).sum(1).clamp(min=1e-9)
        v = (0.5 * v + 0.5 * excess.clamp(LEAST_MISFIT, 4)[:, None]).clamp(min=LEAST_MISFIT)
    r, w, variance, weight = _residual(power, B, log_T, z, v)
    t = r.abs() / variance.sqrt()
    loss = torch.where(t <= ROBUST, 0.5 * t**2, ROBUST * t - 0.5 * ROBUST**2) + 0.5 * variance.log()
    d = z - centre
    penalty = 0.5 * ((d @ precision) * d).sum(1)
    error = torch.linalg.inv(normal)[:, p, p].clamp(min=0).sqrt()
    return Fit(-loss.double().sum(1) - penalty, z[:, p], error, (w > 0.5).double().mean(1))


def _residual(
    power: Power, B: Tensor, log_T: Tensor, z: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(residual, share of the picture, variance, Huber weight / variance), each (J, n)."""
    z = z.float()
    above = z[:, :-1] @ B.T + log_T - z[:, -1:]  # log of the picture's power over the noise's
    w = torch.sigmoid(above)
    r = power.log_power.float() - z[:, -1:] - torch.nn.functional.softplus(above)
    variance = w**2 * v + power.chance
    t = r.abs() / variance.sqrt()
    return r, w, variance, (ROBUST / t.clamp(min=ROBUST)) / variance
