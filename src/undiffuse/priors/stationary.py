"""A Gaussian prior of photographs: a power spectrum, and nothing else."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (safetensors is untyped)

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from undiffuse.core.dct import dct2, idct2
from undiffuse.core.state import Noise, like_image

LUMA = (0.299, 0.587, 0.114)  # Rec. 601: what a grey photograph is of a colour one
_TENSORS = ("frequencies", "power", "colours", "mean", "mean_variance")


class StationaryGaussian(nn.Module):
    """A Gaussian that is diagonal in the orthonormal 2-D DCT-II, with a radial power spectrum.

    That is: stationary on the half-sample symmetric extension of the image. Nothing wraps around, and one
    table serves every height and width. Mode (k, l) of an H x W image has f = sqrt((k / 2H)^2 + (l / 2W)^2)
    cycles a pixel and variance S(f), which is interpolated linearly in log f and log S; below the first
    frequency it goes on with the mean slope of the lowest quarter of the table. The mode (0, 0), sqrt(H W)
    times the image mean, has mean and variance of its own.

    Colours are decorrelated by an orthonormal 3 x 3 basis, with one spectrum each. For C other than 3 the
    channels are independent, each with the spectrum of grey (Rec. 601).

    frequencies: (K,), increasing; power: (3, K), S of each eigen-channel; colours: (3, 3), one
    eigen-channel a row, in RGB; mean: (3,), RGB in [-1, 1]; mean_variance: (3,), of each eigen-channel's
    image mean.
    """

    frequencies: Tensor
    power: Tensor
    colours: Tensor
    mean: Tensor
    mean_variance: Tensor

    def __init__(
        self,
        frequencies: Tensor,
        power: Tensor,
        colours: Tensor,
        mean: Tensor,
        mean_variance: Tensor,
        *,
        meta: Mapping[str, str] | None = None,
    ):
        super().__init__()
        _check(frequencies, power, colours, mean, mean_variance)
        for name, tensor in zip(_TENSORS, (frequencies, power, colours, mean, mean_variance), strict=True):
            self.register_buffer(name, tensor.detach().double().clone())
        self.meta = dict(meta or {})

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x]: in the eigenbasis each mode is drawn to its mean by S / (S + sigma^2)."""
        variance = like_image(sigma, x).square().reshape(-1, 1, 1)
        mean = self.mean_image(x.shape[1]).to(x)
        d = self._turn(x - mean)
        shrunk = [
            idct2(dct2(d[:, c]) * (S / (S + variance)))
            for c, S in enumerate(self._spectra(*x.shape[1:], like=x))
        ]
        return mean + self._turn_back(torch.stack(shrunk, 1))

    def log_prob(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """(B,): log density of x = x0 + sigma n. For C = 3 in eigen-channels, which is the same number."""
        variance = like_image(sigma, x).square().reshape(-1, 1, 1)
        d = self._turn(x - self.mean_image(x.shape[1]).to(x))
        total = x.new_zeros(x.shape[0])
        for c, S in enumerate(self._spectra(*x.shape[1:], like=x)):
            v = S + variance
            total = total - 0.5 * (dct2(d[:, c]).square() / v + (2 * math.pi * v).log()).sum((-2, -1))
        return total

    def sample(self, noise: Noise, like: Tensor) -> Tensor:
        """Draws from the prior, of the shape, dtype and device of `like` (B, C, H, W)."""
        n = noise(like)
        modes = [idct2(n[:, c] * S.sqrt()) for c, S in enumerate(self._spectra(*like.shape[1:], like=like))]
        return self.mean_image(like.shape[1]).to(like) + self._turn_back(torch.stack(modes, 1))

    def spectrum(self, channels: int, height: int, width: int) -> Tensor:
        """(C, H, W) float64: the variance of every mode; for C = 3 the channels are the eigen-channels."""
        return torch.stack(list(self._spectra(channels, height, width, like=self.power)))

    def vt(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> coefficients in the eigenbasis, orthonormal; their variances are `spectrum`."""
        turned = self._turn(x)
        return torch.stack([dct2(turned[:, c]) for c in range(x.shape[1])], 1)

    def v(self, c: Tensor) -> Tensor:
        """The inverse of `vt`."""
        return self._turn_back(torch.stack([idct2(c[:, k]) for k in range(c.shape[1])], 1))

    def mean_image(self, channels: int) -> Tensor:
        """(1, C, 1, 1): the mean of every pixel."""
        mean = self.mean if channels == 3 else (self.mean @ self._luma()).expand(channels)
        return mean.reshape(1, channels, 1, 1)

    def sigma_max(self, shape: Sequence[int], ratio: float = 30.0) -> float:
        """A sigma to start at for (C, H, W) images: `ratio` deviations of the widest mode.

        There x is noise to one part in `ratio`. It grows with the image, because the mode (0, 0) does: 80
        is too low for a photograph of a megapixel.
        """
        widest = max(S.max().item() for S in self._spectra(*shape, like=self.power))
        return ratio * math.sqrt(widest)

    @property
    def exponent(self) -> float:
        """alpha of the power law S = c / f^alpha that fits the spectrum of grey from 1/128 to 1/4."""
        middle = (self.frequencies >= 1 / 128) & (self.frequencies <= 1 / 4)
        f, S = self.frequencies[middle].log(), self._grey(self.power)[middle].log()
        f = f - f.mean()
        return -((f * S).sum() / f.square().sum()).item()

    def save(self, path: str | Path) -> None:
        """A .safetensors file of a few kB; `meta` goes to its header."""
        save_file({name: getattr(self, name).contiguous() for name in _TENSORS}, path, self.meta)

    @classmethod
    def load(cls, path: str | Path) -> "StationaryGaussian":
        """What `save` wrote. ValueError if it cannot be read, or is another kind of file."""
        try:
            with safe_open(path, framework="pt") as file:
                if missing := set(_TENSORS) - set(file.keys()):
                    raise ValueError(
                        f"'{path}' has no {', '.join(sorted(missing))}: not a stationary Gaussian"
                    )
                return cls(*(file.get_tensor(name) for name in _TENSORS), meta=file.metadata())
        except SafetensorError as error:
            raise ValueError(f"'{path}' is not a safetensors file: {error}") from error
        except OSError as error:
            raise ValueError(f"'{path}' cannot be read ({error}); give a file that `save` wrote") from error

    def _spectra(self, channels: int, height: int, width: int, *, like: Tensor) -> Iterator[Tensor]:
        """(H, W) of one channel at a time, of like's dtype and device: three at once cost memory."""
        log_f = log_frequencies(height, width, like)
        grey = (
            self._spectrum(log_f, self._grey(self.power), self._grey(self.mean_variance))
            if channels != 3
            else None
        )
        for c in range(channels):
            yield grey if grey is not None else self._spectrum(log_f, self.power[c], self.mean_variance[c])

    def _spectrum(self, log_f: Tensor, power: Tensor, mean_variance: Tensor) -> Tensor:
        knots, values = self.frequencies.log(), power.log()
        quarter = max(len(knots) // 4, 1)
        below = (values[quarter] - values[0]) / (knots[quarter] - knots[0])
        slopes = torch.cat([below[None], values.diff() / knots.diff()])
        left = torch.cat([knots[:1], knots[:-1]])
        offsets = torch.cat([values[:1], values[:-1]]) - slopes * left
        segment = torch.bucketize(log_f, knots[:-1].to(log_f))
        S = (offsets.to(log_f)[segment] + slopes.to(log_f)[segment] * log_f).exp()
        S[0, 0] = S.numel() * mean_variance
        return S

    def _grey(self, of_channels: Tensor) -> Tensor:
        return (self.colours @ self._luma()).square() @ of_channels

    def _luma(self) -> Tensor:
        return self.colours.new_tensor(LUMA)

    def _turn(self, x: Tensor) -> Tensor:
        return torch.einsum("kc,bchw->bkhw", self.colours.to(x), x) if x.shape[1] == 3 else x

    def _turn_back(self, x: Tensor) -> Tensor:
        return torch.einsum("kc,bkhw->bchw", self.colours.to(x), x) if x.shape[1] == 3 else x


def log_frequencies(height: int, width: int, like: Tensor) -> Tensor:
    """(H, W): log f of every DCT mode, f in cycles a pixel; 0 for the mode (0, 0), never -inf."""
    fy = torch.arange(height, dtype=like.dtype, device=like.device) / (2 * height)
    fx = torch.arange(width, dtype=like.dtype, device=like.device) / (2 * width)
    f = torch.hypot(fy[:, None], fx[None, :])
    f[0, 0] = 1
    return f.log_()


def _check(frequencies: Tensor, power: Tensor, colours: Tensor, mean: Tensor, mean_variance: Tensor) -> None:
    K = frequencies.numel()
    shapes = [tuple(t.shape) for t in (frequencies, power, colours, mean, mean_variance)]
    if K < 2 or shapes != [(K,), (3, K), (3, 3), (3,), (3,)]:
        raise ValueError(f"shapes {shapes}; expected (K,), (3, K), (3, 3), (3,), (3,) with K >= 2")
    if not (frequencies[0] > 0 and (frequencies.diff() > 0).all()):
        raise ValueError("frequencies must be positive and increase; sort them, and leave out 0")
    if not ((power > 0).all() and (mean_variance > 0).all()):
        raise ValueError("power and mean_variance must be positive; a mode without variance has no spectrum")
    turned = colours.double() @ colours.double().T
    if not torch.allclose(turned, torch.eye(3, dtype=torch.float64), atol=1e-5):
        raise ValueError("the rows of colours must be orthonormal; take the eigenvectors of a covariance")
