"""Does the answer explain the data? The residual against the range that noise of the stated level would leave."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from torch import Tensor

from undiffuse.core.devices import wide
from undiffuse.restore.problem import Problem

Verdict = Literal["consistent", "close", "inconsistent"]
NOISE_FREE = 1e-3  # of the range [-1, 1]: an eighth of one 8-bit level


@dataclass(frozen=True, slots=True)
class Certificate:
    """|A x - y|^2 / (m sigma_y^2) and the range [low, high] in which noise alone would leave it."""

    ratio: float  # noise-free data: the root mean square residual instead
    low: float
    high: float
    measurements: int  # m
    sigma_y: float
    verdict: Verdict

    def __str__(self) -> str:
        if self.sigma_y == 0:
            said = {
                "consistent": "the data is kept",
                "inconsistent": "the data is not kept: the algorithm does not project on it, or more steps are needed",
            }[self.verdict]
            return f"{self.verdict}: residual {self.ratio:.2e} rms on noise-free data (limit {self.high:g}); {said}"
        said = {
            "consistent": "what is left over is what noise of this level leaves",
            "close": "less is left over than the noise, so the picture follows some of it; usual for a posterior "
            "mean, which trusts the data where it knows more than the prior; no fault unless the picture looks noisy",
            "inconsistent": "more is left over than noise explains: the degradation or the noise level is wrong, or "
            "the algorithm needs more steps",
        }[self.verdict]
        return (
            f"{self.verdict}: residual {self.ratio:.3g} of the noise, expected {self.low:.3g} to {self.high:.3g} "
            f"({self.measurements} measurements, noise {self.sigma_y / 2:.4g}); {said}"
        )


def certify(
    problem: Problem, x: Tensor, /, *, sigma_error: float = 0.05, level: float = 0.99
) -> list[Certificate]:
    """A certificate for each image x (B, C, H, W).

    For the true image, and for a draw from the exact posterior (which has the truth's distribution given y),
    m times the ratio is chi-squared with m degrees of freedom. The range is its central `level`, widened by a
    relative error `sigma_error` of sigma_y, for no noise level is known to a part in a thousand and m is
    often a million. Noise-free data (sigma_y = 0) is held against NOISE_FREE.
    """
    residual, m, judged = problem.A(x) - problem.y, problem.A.measurements, problem.A.judged
    if judged is not None:
        residual, m = judged * residual, int(judged.sum().item())
    total = wide(residual).flatten(1).square().sum(1)
    if problem.sigma_y == 0:
        rms = [float(r) for r in (total / m).sqrt().cpu()]
        return [
            Certificate(r, 0.0, NOISE_FREE, m, 0.0, "consistent" if r <= NOISE_FREE else "inconsistent")
            for r in rms
        ]
    tail = (1 - level) / 2
    low = chi_squared_quantile(tail, m) / m * (1 - sigma_error) ** 2
    high = chi_squared_quantile(1 - tail, m) / m * (1 + sigma_error) ** 2
    ratios = [float(r) for r in (total / (m * problem.sigma_y**2)).cpu()]
    return [Certificate(r, low, high, m, problem.sigma_y, _verdict(r, low, high)) for r in ratios]


def _verdict(ratio: float, low: float, high: float) -> Verdict:
    if not ratio <= high:  # NaN is inconsistent
        return "inconsistent"
    return "close" if ratio < low else "consistent"


def chi_squared_quantile(p: float, m: int) -> float:
    """Wilson and Hilferty (1931): m (1 - 2/9m + z sqrt(2/9m))^3; within 3 % from m = 10, 0.1 % from m = 100."""
    spread = 2 / (9 * m)
    return m * max(0.0, 1 - spread + NormalDist().inv_cdf(p) * spread**0.5) ** 3
