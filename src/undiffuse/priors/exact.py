"""Denoisers in closed form: what samplers and restorers are tested on, and toys to think with.

Each is called as denoise(x, sigma), can be differentiated, and takes sigma as () or (B, 1, 1, 1), 0 included.
"""

import math

import torch
from torch import Tensor, nn

from undiffuse.core.state import Noise, like_image


class Gaussian(nn.Module):
    """N(mean, variance): isotropic, a variance for each pixel, or a full covariance.

    mean: (C, H, W) or what broadcasts to it. variance: () or (C, H, W). With `basis` (n, n), n = C H W,
    whose columns are orthonormal, variance is (n,) and the covariance basis diag(variance) basis^T:
    `torch.linalg.eigh` gives both.
    """

    mean: Tensor
    variance: Tensor
    basis: Tensor | None

    def __init__(self, mean: Tensor | float, variance: Tensor | float, basis: Tensor | None = None):
        super().__init__()
        mean, variance = _tensor(mean), _tensor(variance)
        if not (variance > 0).all():
            raise ValueError(f"variance as low as {variance.min().item():g}; expected positive ones")
        if basis is not None and (variance.shape != basis.shape[:1] or basis.shape[0] != basis.shape[1]):
            raise ValueError(
                f"variance {tuple(variance.shape)}, basis {tuple(basis.shape)}; expected (n,), (n, n)"
            )
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)
        self.register_buffer("basis", basis)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """mean + C (C + sigma^2)^-1 (x - mean)."""
        d, variance, noise_variance = self._modes(x, sigma)
        return self.mean.to(x) + self._to_image(d * (variance / (variance + noise_variance)), x)

    def log_prob(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """(B,): log density of x = x0 + sigma n; its gradient is (denoise(x, sigma) - x) / sigma^2."""
        d, variance, noise_variance = self._modes(x, sigma)
        total = (variance + noise_variance).expand_as(d)
        return -0.5 * (d.square() / total + (2 * math.pi * total).log()).flatten(1).sum(1)

    def sample(self, noise: Noise, like: Tensor) -> Tensor:
        """Draws from the prior, of the shape, dtype and device of `like` (B, C, H, W)."""
        n = noise(like) if self.basis is None else noise(like).flatten(1)
        return self.mean.to(like) + self._to_image(n * self.variance.to(like).sqrt(), like)

    def _modes(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """(x - mean, variance, sigma^2) in the basis, (B, n), or as images if there is none."""
        d, variance, noise_variance = x - self.mean.to(x), self.variance.to(x), like_image(sigma, x).square()
        if self.basis is None:
            return d, variance, noise_variance
        return d.flatten(1) @ self.basis.to(x), variance, noise_variance.reshape(-1, 1)

    def _to_image(self, c: Tensor, like: Tensor) -> Tensor:
        return c if self.basis is None else (c @ self.basis.to(like).T).reshape(like.shape)


class GaussianMixture(nn.Module):
    """sum_k weights_k N(means_k, variances_k I).

    means: (K, C, H, W); variances: () or (K,); weights: (K,), positive, taken relative to their sum; even
    if not given.
    """

    means: Tensor
    variances: Tensor
    log_weights: Tensor

    def __init__(self, means: Tensor, variances: Tensor | float, weights: Tensor | None = None):
        super().__init__()
        K = len(means)
        weights = torch.ones(K).to(means) if weights is None else weights.to(means)
        variances = torch.as_tensor(variances, dtype=means.dtype, device=means.device)
        if variances.ndim > 1 or weights.shape != (K,) or variances.numel() not in (1, K):
            shapes = f"variances {tuple(variances.shape)}, weights {tuple(weights.shape)}"
            raise ValueError(f"{shapes} for {K} means; expected () or ({K},), and ({K},)")
        if not ((variances > 0).all() and (weights > 0).all()):
            raise ValueError("variances and weights must be positive; leave out components without weight")
        self.register_buffer("means", means)
        self.register_buffer("variances", variances.expand(K).clone())
        self.register_buffer("log_weights", (weights / weights.sum()).log())

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The components' denoisers, weighted by their responsibilities for x."""
        shrink = self._shrink(x, sigma)[:, :, None, None, None]
        means = self.means.to(x)
        each = means + shrink * (x[:, None] - means)  # (B, K, C, H, W)
        return (self.responsibilities(x, sigma)[:, :, None, None, None] * each).sum(1)

    def responsibilities(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """(B, K): the probability of each component given x at level sigma."""
        return self._log_joint(x, sigma).softmax(1)

    def log_prob(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """(B,): log density of x = x0 + sigma n; its gradient is (denoise(x, sigma) - x) / sigma^2."""
        return self._log_joint(x, sigma).logsumexp(1)

    def sample(self, noise: Noise, like: Tensor) -> Tensor:
        """Draws from the prior, of the shape, dtype and device of `like` (B, C, H, W)."""
        k = _pick(self.log_weights.exp(), noise, like)
        return self.means.to(like)[k] + self.variances.to(like)[k].sqrt()[:, None, None, None] * noise(like)

    def _log_joint(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        total = self.variances.to(x) + like_image(sigma, x).square().reshape(-1, 1)  # (B or 1, K)
        squares = (x[:, None] - self.means.to(x)).square().flatten(2).sum(2)
        n = x[0].numel()
        return self.log_weights.to(x) - 0.5 * (squares / total + n * (2 * math.pi * total).log())

    def _shrink(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        variances = self.variances.to(x)
        return variances / (variances + like_image(sigma, x).square().reshape(-1, 1))


class Empirical(nn.Module):
    """A finite set of images, all as likely: what a network that memorised its training set would answer.

    data: (N, C, H, W). As sigma goes to 0 the answer is the nearest image. Distances are taken by
    `torch.cdist` without its matrix form, whose cancellation would be magnified by 1/sigma^2; it can be
    differentiated once.
    """

    data: Tensor

    def __init__(self, data: Tensor):
        super().__init__()
        if data.ndim != 4 or len(data) == 0:
            raise ValueError(f"data of shape {tuple(data.shape)}; expected (N, C, H, W) with N >= 1")
        self.register_buffer("data", data)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """sum_i w_i data_i with w = softmax(-|x - data_i|^2 / (2 sigma^2))."""
        data = self.data.to(x).flatten(1)
        squares = torch.cdist(x.flatten(1), data, compute_mode="donot_use_mm_for_euclid_dist").square()
        squares = squares - squares.detach().amin(1, keepdim=True)
        variance = like_image(sigma, x).square().reshape(-1, 1).clamp(min=torch.finfo(x.dtype).tiny)
        return ((-0.5 * squares / variance).softmax(1) @ data).reshape(x.shape)

    def sample(self, noise: Noise, like: Tensor) -> Tensor:
        """Images of the set, of the dtype and device of `like` (B, C, H, W)."""
        even = torch.full((len(self.data),), 1 / len(self.data), dtype=torch.float64, device=like.device)
        return self.data.to(like)[_pick(even, noise, like)]


def _tensor(value: Tensor | float) -> Tensor:
    """A number in float64: it is cast to x's type when used."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _pick(weights: Tensor, noise: Noise, like: Tensor) -> Tensor:
    """(B,): an index for each image, with probabilities `weights`, by the quantile of one normal draw."""
    normal = noise(like[:, :1, :1, :1]).reshape(-1).double()
    edges = weights.double().cumsum(0)[:-1]
    uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))
    return torch.bucketize(uniform, edges.to(normal))
