"""PSNR and SSIM. Images (B, C, H, W) in [-1, 1]; both clamp to that range first, as what is saved is clamped."""

import torch
from torch import Tensor
from torch.nn import functional

from undiffuse.core.devices import wide

WINDOW = 11  # pixels: of the Gaussian, and so the least side


def psnr(x: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, (B,): 10 log10(1 / mse) on the range [0, 1]."""
    error = (to_unit(x) - to_unit(reference)).flatten(1)
    return -10 * (error**2).mean(1).log10()


def ssim(x: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of each image, (B,) (Wang et al. 2004, eq. 13): mean over pixels and channels.

    Gaussian window of 11 pixels and deviation 1.5, K = (0.01, 0.03), weighted (biased) moments, no padding:
    what scikit-image gives with gaussian_weights=True, use_sample_covariance=False, averaged over its valid
    interior. ValueError if a side is under 11 pixels.
    """
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs at least 11x11 pixels; this image has {x.shape[-2]}x{x.shape[-1]}")
    channels = zip(x.split(1, 1), reference.split(1, 1), strict=True)  # one at a time: memory
    return torch.stack([_ssim(to_unit(a), to_unit(b)) for a, b in channels]).mean(0)


def similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(luminance, contrast and structure) at each position of the window, of (B, 1, H, W) in [0, 1] float64."""
    mean_a, mean_b = _window(a), _window(b)
    var_a = _window(a * a) - mean_a**2
    var_b = _window(b * b) - mean_b**2
    covariance = _window(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (var_a + var_b + c2)


def to_unit(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1] in float64, clamped; on the CPU if x is where there is no such type."""
    return wide(x).clamp(-1, 1) / 2 + 0.5


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    luminance, structure = similarity(a, b)
    return (luminance * structure).flatten(1).mean(1)


def _window(x: Tensor) -> Tensor:
    taps = torch.arange(-5, 6, dtype=x.dtype, device=x.device)
    g = torch.exp(-(taps**2) / (2 * 1.5**2))
    g = (g / g.sum())[None, None]
    return functional.conv2d(functional.conv2d(x, g[:, :, None, :]), g[..., None])
