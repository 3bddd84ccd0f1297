"""How good is a picture, against a reference."""

from undiffuse.metrics.lpips import LPIPS
from undiffuse.metrics.multiscale import ms_ssim
from undiffuse.metrics.pixel import psnr, ssim
from undiffuse.metrics.quality import quality
from undiffuse.metrics.spectrum import invented, power, spectrum_error
from undiffuse.metrics.weights import open_lpips

__all__ = [
    "LPIPS",
    "invented",
    "ms_ssim",
    "open_lpips",
    "power",
    "psnr",
    "quality",
    "spectrum_error",
    "ssim",
]
